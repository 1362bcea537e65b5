//! What stands in the output folder when a refinement has ended.

use crate::{
    checkpoint::{self, State},
    error::RefineError,
    figures::ViewCoverage,
    input::Prepared,
    maps::FinalMaps,
    model,
    options::Options,
    postprocess::{self, Found, Places, Told},
    record::{self, Record},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How a refinement ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// FSC 0.143 of the half-maps, unmasked.
    pub resolution_angstrom: f64,
    /// What post-processing made of the half-maps: the resolution inside the mask, the sharpening, its warnings.
    pub postprocessed: Told,
    /// How evenly the particles' views cover the structure.
    pub coverage: Option<ViewCoverage>,
    /// Whether the half-maps agree beyond what the starting map and its mask could have given them.
    pub has_own_detail: bool,
    /// Rounds done.
    pub iterations: usize,
    /// Whether it stopped because nothing improved.
    pub converged: bool,
    /// How long this run took.
    pub seconds: f64,
    /// The final map.
    pub map: PathBuf,
    /// The same sharpened; none if the half-maps share nothing.
    pub map_sharpened: Option<PathBuf>,
    /// The particles with their poses.
    pub particles: PathBuf,
    /// The record of all this.
    pub record: PathBuf,
}

impl Summary {
    /// The summary of what `record` tells of the folder `out`.
    pub fn of(out: &Path, record: &Record) -> Self {
        let sharpened = Places::in_folder(out).map_sharpened;
        Self {
            resolution_angstrom: record.resolution_angstrom,
            postprocessed: record.postprocessed.clone(),
            coverage: record.coverage,
            has_own_detail: record.has_own_detail,
            iterations: record.iterations,
            converged: record.converged,
            seconds: record.seconds,
            map: out.join("map.mrc"),
            map_sharpened: Some(sharpened).filter(|map| map.exists()),
            particles: out.join("particles.star"),
            record: out.join(record::FILE),
        }
    }
}

/// What a refinement came to.
pub struct Ending<'a> {
    /// After the last round.
    pub state: &'a State,
    /// Made of its poses.
    pub maps: &'a FinalMaps,
    /// Of these.
    pub found: &'a Found,
    /// Of all.
    pub record: &'a Record,
}

/// Writes everything to the top of the folder. The record comes last: it makes the refinement count as done.
///
/// # Errors
/// If the disk refuses.
pub fn write(
    options: &Options,
    prepared: &Prepared,
    ending: &Ending<'_>,
) -> Result<(), RefineError> {
    let (out, set) = (&options.out, &prepared.set);
    let maps = [
        ("half1.mrc", &ending.maps.halves[0]),
        ("half2.mrc", &ending.maps.halves[1]),
        ("map.mrc", &ending.maps.map),
    ];
    for (name, map) in maps {
        checkpoint::write_map(&out.join(name), map, set.pixel_size_angstrom)?;
    }
    write_postprocessed(options, ending, set.pixel_size_angstrom)?;
    checkpoint::write_particles(
        &out.join("particles.star"),
        set,
        &prepared.half_of,
        &ending.state.poses,
    )?;
    model::document(prepared, ending.state, &ending.maps.fsc).write(&out.join(model::FILE))?;
    checkpoint::write_json(&out.join(record::FILE), ending.record)
}

fn write_postprocessed(
    options: &Options,
    ending: &Ending<'_>,
    pixel_size_angstrom: f64,
) -> Result<(), RefineError> {
    let places = Places::in_folder(&options.out);
    // Of an earlier end with fewer rounds, which this one may not have.
    for stale in [&places.map_sharpened, &places.local_resolution] {
        if stale.exists() {
            fs::remove_file(stale).map_err(|source| RefineError::Write {
                path: stale.clone(),
                source,
            })?;
        }
    }
    let record = postprocess::record(
        &options.postprocess,
        &places,
        ending.found,
        pixel_size_angstrom,
    );
    Ok(places.write(ending.found, pixel_size_angstrom, &record)?)
}
