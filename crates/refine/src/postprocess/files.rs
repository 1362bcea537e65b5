//! The files of post-processing: what it writes, and the detector's curve it reads.

use super::{Found, PostFilesError};
use dewar_compute::{
    postprocess::{Curves, Mtf, PostProcessed},
    volume::Volume,
};
use dewar_formats::{
    atomic, mrc,
    star::{Block, Document, Entry, Table},
};
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Where the outputs go.
#[derive(Debug, Clone)]
pub struct Places {
    /// The map to look at.
    pub map_sharpened: PathBuf,
    /// The resolution at every place.
    pub local_resolution: PathBuf,
    /// The mask that was used.
    pub mask: PathBuf,
    /// The curves.
    pub fsc: PathBuf,
    /// What came of it, for machines.
    pub record: PathBuf,
}

impl Places {
    /// All in one folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            map_sharpened: folder.join("map_sharpened.mrc"),
            local_resolution: folder.join("local_resolution.mrc"),
            mask: folder.join("mask.mrc"),
            fsc: folder.join("fsc.star"),
            record: folder.join("postprocess.json"),
        }
    }

    /// Refuses a folder that has one of the files, such as a refinement's own.
    ///
    /// # Errors
    /// If it has one.
    pub fn check_free(&self) -> Result<(), PostFilesError> {
        let all = [
            &self.map_sharpened,
            &self.local_resolution,
            &self.mask,
            &self.fsc,
            &self.record,
        ];
        for path in all {
            if path.exists() {
                return Err(PostFilesError::Exists(path.clone()));
            }
        }
        Ok(())
    }

    /// Writes them. The record comes last: where it is, all are whole.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(
        &self,
        Found { map: found, local }: &Found,
        pixel_size_angstrom: f64,
        record: &Value,
    ) -> Result<(), PostFilesError> {
        if let Some(folder) = self.record.parent() {
            fs::create_dir_all(folder).map_err(|source| PostFilesError::Folder {
                folder: folder.to_owned(),
                source,
            })?;
        }
        if let Some(map) = &found.sharpened {
            let label = format!(
                "dewar postprocess: B-factor {:.1}",
                found.b_factor_angstrom2
            );
            write_map(&self.map_sharpened, map, pixel_size_angstrom, &label)?;
        }
        if let Some(local) = local {
            let label = "dewar postprocess: local resolution in A";
            write_map(
                &self.local_resolution,
                &local.map,
                pixel_size_angstrom,
                label,
            )?;
        }
        write_map(
            &self.mask,
            &found.mask,
            pixel_size_angstrom,
            "dewar postprocess: mask",
        )?;
        star(found, pixel_size_angstrom).write(&self.fsc)?;
        Ok(atomic::write(&self.record, |file| {
            writeln!(file, "{record:#}")
        })?)
    }
}

/// Reads a detector's curve, in 1/pixel, wherever in the file it is.
///
/// # Errors
/// If the file has none.
pub fn read_mtf(path: &Path, detector_pixel_angstrom: f64) -> Result<Mtf, PostFilesError> {
    let wrong = |problem: String| PostFilesError::Mtf {
        path: path.to_owned(),
        problem,
    };
    let document = Document::read(path)?;
    let labels = ["rlnResolutionInversePixel", "rlnMtfValue"];
    let (table, columns) = document
        .blocks
        .iter()
        .filter_map(Block::table)
        .find_map(|table| {
            let columns = (table.column(labels[0])?, table.column(labels[1])?);
            Some((table, columns))
        })
        .ok_or_else(|| wrong(format!("no table has {} and {}", labels[0], labels[1])))?;
    let number = |row: usize, column: usize| {
        let text = table.value(row, column);
        text.parse::<f64>()
            .map_err(|_| wrong(format!("value {} is {text:?}; expected a number", row + 1)))
    };
    let points = (0..table.row_count())
        .map(|row| Ok((number(row, columns.0)?, number(row, columns.1)?)))
        .collect::<Result<Vec<_>, PostFilesError>>()?;
    Mtf::new(&points, detector_pixel_angstrom).map_err(|error| wrong(error.to_string()))
}

fn write_map(
    path: &Path,
    map: &Volume,
    pixel_size_angstrom: f64,
    label: &str,
) -> Result<(), PostFilesError> {
    let (n, pixel_size) = (map.n(), pixel_size_angstrom as f32);
    Ok(mrc::write_map(path, [n; 3], pixel_size, map.data(), label)?)
}

/// The curves under the labels RELION gives them in its `postprocess.star`.
fn star(found: &PostProcessed, pixel_size_angstrom: f64) -> Document {
    let box_angstrom = found.mask.n() as f64 * pixel_size_angstrom;
    let single = |label: &str, value: f64| Entry::Single {
        label: label.to_owned(),
        value: format!("{value:.6}"),
        line: 0,
    };
    let mut general = vec![single(
        "rlnBfactorUsedForSharpening",
        found.b_factor_angstrom2,
    )];
    general.extend(
        found
            .resolution
            .at_0_143
            .map(|angstrom| single("rlnFinalResolution", angstrom)),
    );
    general.extend(
        found
            .curves
            .randomised_from
            .map(|shell| single("rlnRandomiseFrom", box_angstrom / shell as f64)),
    );
    Document {
        blocks: vec![
            Block {
                name: "general".to_owned(),
                entries: general,
            },
            Block::with_table("fsc", curves(&found.curves, box_angstrom)),
            Block::with_table("guinier", guinier(&found.amplitudes, box_angstrom)),
        ],
    }
}

fn curves(curves: &Curves, box_angstrom: f64) -> Table {
    let mut table = Table::new([
        "rlnSpectralIndex",
        "rlnResolution",
        "rlnAngstromResolution",
        "rlnFourierShellCorrelationCorrected",
        "rlnFourierShellCorrelationUnmaskedMaps",
        "rlnFourierShellCorrelationMaskedMaps",
        "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
    ]);
    for shell in 0..curves.corrected.len() {
        let frequency = shell as f64 / box_angstrom;
        let resolution = if shell == 0 { 999.0 } else { 1.0 / frequency };
        let values = [
            frequency,
            resolution,
            curves.corrected[shell],
            curves.unmasked[shell],
            curves.masked[shell],
            curves.randomised[shell],
        ];
        let numbers = values.iter().map(|value| format!("{value:.6}"));
        table.push_row(std::iter::once(shell.to_string()).chain(numbers));
    }
    table
}

/// ln|F| after weighting, by 1/d²; shells without any amplitude are left out.
fn guinier(amplitudes: &[f64], box_angstrom: f64) -> Table {
    let mut table = Table::new(["rlnResolutionSquared", "rlnLogAmplitudesWeighted"]);
    for (shell, amplitude) in amplitudes.iter().enumerate().skip(1) {
        if *amplitude > 0.0 {
            let frequency = shell as f64 / box_angstrom;
            table.push_row([
                format!("{:.6}", frequency * frequency),
                format!("{:.6}", amplitude.ln()),
            ]);
        }
    }
    table
}
