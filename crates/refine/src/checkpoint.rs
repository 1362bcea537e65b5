//! Finished rounds on disk: one folder each, renamed into place when whole.
//!
//! A refinement that was interrupted goes on from the last of them and comes to the same bytes, so numbers are kept to
//! the last bit: maps as float32, the rest as JSON with digits enough to read back what was written.

use crate::{
    error::RefineError, figures::RoundFigures, input::Prepared, maps::RoundMaps, model,
    pose::PoseRecord,
};
use dewar_compute::volume::Volume;
use dewar_formats::{
    atomic,
    mrc::{self, MrcFile},
    particles::{HalfSet, ParticleSet, Pose, Refined},
    star::{Block, Document, Table},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What the next round needs of the finished ones, beside the maps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// From 1; 0 before the first, which is on no disk.
    pub iteration: usize,
    /// Every round so far in numbers.
    pub rounds: Vec<RoundFigures>,
    /// Poses, one for each particle of the file.
    pub poses: Vec<PoseRecord>,
    /// Noise variance by half, optics group and shell.
    pub noise: [Vec<Vec<f64>>; 2],
    /// How strong the particles of each group are, by half and group.
    pub scales: [Vec<f64>; 2],
}

/// A finished round, read back.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Numbers.
    pub state: State,
    /// The filtered half-maps the next round compares with.
    pub references: [Volume; 2],
}

/// The folder of a round.
pub fn folder(out: &Path, iteration: usize) -> PathBuf {
    out.join(format!("it{iteration:03}"))
}

/// Writes a finished round. It appears under its name only when it is whole and on disk.
///
/// # Errors
/// If the disk refuses.
pub fn write(
    out: &Path,
    prepared: &Prepared,
    state: &State,
    maps: &RoundMaps,
) -> Result<PathBuf, RefineError> {
    let set = &prepared.set;
    let done = folder(out, state.iteration);
    // Image names in the STAR file count from the folder it will lie in, which is as deep as this one.
    let writing = done.with_extension("tmp");
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| RefineError::Write { path, source }
    };
    if writing.exists() {
        fs::remove_dir_all(&writing).map_err(written(&writing))?;
    }
    fs::create_dir_all(&writing).map_err(written(&writing))?;
    let pixel = set.pixel_size_angstrom;
    for (name, map) in maps.named() {
        write_map(&writing.join(name), map, pixel)?;
    }
    fsc_document(&maps.fsc, set.box_size_px, pixel).write(&writing.join("fsc.star"))?;
    write_particles(
        &writing.join("particles.star"),
        set,
        &prepared.half_of,
        &state.poses,
    )?;
    model::document(prepared, state, &maps.fsc).write(&writing.join(model::FILE))?;
    write_json(&writing.join("state.json"), state)?;
    fs::rename(&writing, &done).map_err(written(&done))?;
    fs::File::open(out)
        .and_then(|folder| folder.sync_all())
        .map_err(written(out))?;
    Ok(done)
}

/// The last finished round in `out`, if there is one.
///
/// # Errors
/// If its files cannot be read.
pub fn last(out: &Path, set: &ParticleSet) -> Result<Option<Finished>, RefineError> {
    let Some(iteration) = (1..)
        .take_while(|iteration| folder(out, *iteration).is_dir())
        .last()
    else {
        return Ok(None);
    };
    let folder = folder(out, iteration);
    let state: State = read_json(&folder.join("state.json"))?;
    if state.poses.len() != set.particles.len() || state.rounds.len() != iteration {
        return Err(RefineError::Checkpoint {
            path: folder.join("state.json"),
            problem: format!(
                "it has {} poses for {} particles",
                state.poses.len(),
                set.particles.len()
            ),
        });
    }
    let references = [
        read_map(&folder.join("reference1.mrc"))?,
        read_map(&folder.join("reference2.mrc"))?,
    ];
    Ok(Some(Finished { state, references }))
}

/// The maps of a finished round that a report shows: that of all particles, and the half-maps.
///
/// # Errors
/// If its files cannot be read.
pub fn maps_of(out: &Path, iteration: usize) -> Result<(Volume, [Volume; 2]), RefineError> {
    let read = |name: &str| read_map(&folder(out, iteration).join(name));
    Ok((read("map.mrc")?, [read("half1.mrc")?, read("half2.mrc")?]))
}

/// Writes the particle file with the poses found.
///
/// # Errors
/// If the disk refuses.
pub fn write_particles(
    path: &Path,
    set: &ParticleSet,
    half_of: &[usize],
    poses: &[PoseRecord],
) -> Result<(), RefineError> {
    let refined: Vec<Refined> = poses
        .iter()
        .zip(half_of)
        .map(|(pose, half)| (pose, pose.best(), half))
        .map(|(pose, best, half)| Refined {
            pose: Pose {
                rot_deg: best.rot_deg,
                tilt_deg: best.tilt_deg,
                psi_deg: best.psi_deg,
                shift_angstrom: best.shift_angstrom,
            },
            half_set: if *half == 0 {
                HalfSet::One
            } else {
                HalfSet::Two
            },
            weight: best.weight,
            angle_sd_deg: pose.angle_sd_deg,
            shift_sd_angstrom: pose.shift_sd_angstrom,
            covariance: pose.covariance.unwrap_or_default(),
        })
        .collect();
    set.write_refined(path, &refined)?;
    Ok(())
}

/// Writes any record as JSON.
///
/// # Errors
/// If the disk refuses.
pub fn write_json(path: &Path, record: &impl Serialize) -> Result<(), RefineError> {
    atomic::write(path, |file| {
        serde_json::to_writer_pretty(&mut *file, record).map_err(io::Error::from)?;
        io::Write::write_all(file, b"\n")
    })?;
    Ok(())
}

/// Reads a record back.
///
/// # Errors
/// If the file cannot be read or is something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RefineError> {
    let problem = |problem: String| RefineError::Checkpoint {
        path: path.to_owned(),
        problem,
    };
    let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| problem(error.to_string()))
}

/// Writes a map.
///
/// # Errors
/// If the disk refuses.
pub fn write_map(path: &Path, map: &Volume, pixel_size_angstrom: f64) -> Result<(), RefineError> {
    let label = format!("Dewar {}", env!("CARGO_PKG_VERSION"));
    let n = map.n();
    mrc::write_map(
        path,
        [n, n, n],
        pixel_size_angstrom as f32,
        map.data(),
        &label,
    )?;
    Ok(())
}

fn read_map(path: &Path) -> Result<Volume, RefineError> {
    let file = MrcFile::open(path)?;
    let problem = |problem: String| RefineError::Checkpoint {
        path: path.to_owned(),
        problem,
    };
    Volume::new(file.header().size[0], file.read_all()?).map_err(|error| problem(error.to_string()))
}

/// The curve with RELION's labels.
fn fsc_document(fsc: &[f64], box_size_px: usize, pixel_size_angstrom: f64) -> Document {
    let mut table = Table::new([
        "rlnSpectralIndex",
        "rlnResolution",
        "rlnAngstromResolution",
        "rlnFourierShellCorrelation",
    ]);
    for (shell, value) in fsc.iter().enumerate() {
        let frequency = shell as f64 / (box_size_px as f64 * pixel_size_angstrom);
        let resolution = if shell == 0 { 999.0 } else { 1.0 / frequency };
        table.push_row([
            shell.to_string(),
            format!("{frequency:.6}"),
            format!("{resolution:.6}"),
            format!("{value:.6}"),
        ]);
    }
    Document {
        blocks: vec![Block::with_table("fsc", table)],
    }
}
