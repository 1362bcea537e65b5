//! What stands in the output folder when a refinement has ended.

use crate::{
    checkpoint::{self, State},
    error::RefineError,
    input::Prepared,
    record::{self, Record},
};
use dewar_formats::atomic;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Files of the last round that become the refinement's own.
const FROM_LAST_ROUND: [&str; 5] = ["map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star"];

/// How a refinement ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// FSC 0.143 of the half-maps, unmasked; none if it never falls so low, or at once.
    pub resolution_angstrom: Option<f64>,
    /// Rounds done.
    pub iterations: usize,
    /// Whether it stopped because nothing improved.
    pub converged: bool,
    /// How long this run took.
    pub seconds: f64,
    /// The final map.
    pub map: PathBuf,
    /// The particles with their poses.
    pub particles: PathBuf,
    /// The record of all this.
    pub record: PathBuf,
}

impl Summary {
    /// The summary of what `record` tells of the folder `out`.
    pub fn of(out: &Path, record: &Record) -> Self {
        Self {
            resolution_angstrom: record.resolution_angstrom,
            iterations: record.iterations,
            converged: record.converged,
            seconds: record.seconds,
            map: out.join("map.mrc"),
            particles: out.join("particles.star"),
            record: out.join(record::FILE),
        }
    }
}

/// Copies the last round's files to the top and writes the record, which makes the refinement count as done.
///
/// # Errors
/// If the disk refuses.
pub fn write(
    out: &Path,
    prepared: &Prepared,
    state: &State,
    record: &Record,
) -> Result<(), RefineError> {
    let last = checkpoint::folder(out, state.iteration);
    for name in FROM_LAST_ROUND {
        let from = last.join(name);
        let mut source =
            File::open(&from).map_err(|source| RefineError::Write { path: from, source })?;
        atomic::write(&out.join(name), |file| {
            io::copy(&mut source, file).map(drop)
        })?;
    }
    // Written again rather than copied: image names count from the folder the file lies in.
    checkpoint::write_particles(
        &out.join("particles.star"),
        &prepared.set,
        &prepared.half_of,
        &state.poses,
    )?;
    checkpoint::write_json(&out.join(record::FILE), record)
}
