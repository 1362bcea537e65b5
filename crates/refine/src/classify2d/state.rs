//! Finished rounds on disk: one folder, renamed into place when whole; the one before it goes then.

use super::schedule::RoundResult;
use crate::{checkpoint, error::RefineError};
use dewar_formats::atomic;
use num_complex::Complex32;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

/// What the next round needs of the finished ones, beside the averages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// From 1; 0 where classes begin, which is on no disk.
    pub iteration: usize,
    /// Last shell of the averages.
    pub shell_max: usize,
    /// Where each particle belongs; empty where classes begin.
    pub particles: Vec<Placed>,
    /// Noise variance by optics group and shell.
    pub noise: Vec<Vec<f64>>,
    /// Each class.
    pub classes: Vec<ClassFigures>,
    /// Each round so far.
    pub rounds: Vec<RoundFigures>,
}

/// Where a particle most likely belongs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// From 0.
    pub class: usize,
    /// rlnAnglePsi.
    pub psi_deg: f64,
    /// rlnOriginXAngst and rlnOriginYAngst.
    pub shift_angstrom: [f64; 2],
    /// What part of its posterior this place has.
    pub weight: f64,
}

/// What is known of a class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// The sum of the weights of all particles in it.
    pub weight: f64,
    /// The last ring whose signal is above the noise.
    pub resolved_rings: usize,
}

/// What is told of a round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoundFigures {
    /// The finest detail compared.
    pub limit_angstrom: f64,
    /// The best class's resolution.
    pub resolution_angstrom: f64,
    /// The last ring that the best class resolves.
    pub resolved_rings: usize,
    /// Part of the particles that are in another class than before; none in the first round.
    pub moved: Option<f64>,
    /// The same with those that lie otherwise, by more than a step of the grid.
    pub changed: Option<f64>,
    /// Mean of the best places' weights.
    pub mean_weight: f64,
    /// Classes that nothing is in.
    pub empty_classes: usize,
    /// Classes that became parts of others after it.
    pub split_count: usize,
    /// How long it took.
    pub seconds: f64,
    /// How long its tasks ran, added up over workers.
    pub task_seconds: f64,
}

impl State {
    /// What the rules of the schedule ask of the rounds so far.
    pub fn results(&self) -> Vec<RoundResult> {
        self.rounds.iter().map(RoundFigures::result).collect()
    }

    /// Changes what is told of the last round.
    pub fn last_round(&mut self, change: impl FnOnce(&mut RoundFigures)) {
        self.rounds.last_mut().map(change);
    }
}

impl RoundFigures {
    /// What the rules of the schedule ask of it.
    pub fn result(&self) -> RoundResult {
        RoundResult {
            resolved_rings: self.resolved_rings,
            changed: self.changed,
            split_count: self.split_count,
        }
    }
}

const STATE: &str = "state.json";
const AVERAGES: &str = "averages.bin";

/// The folder of a round.
pub fn folder(out: &Path, iteration: usize) -> PathBuf {
    out.join(format!("it{iteration:03}"))
}

/// Writes a finished round. It appears under its name only when it is whole and on disk.
///
/// # Errors
/// If the disk refuses.
pub fn write(out: &Path, state: &State, averages: &[Complex32]) -> Result<(), RefineError> {
    let done = folder(out, state.iteration);
    let writing = done.with_extension("tmp");
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| RefineError::Write { path, source }
    };
    if writing.exists() {
        fs::remove_dir_all(&writing).map_err(written(&writing))?;
    }
    fs::create_dir_all(&writing).map_err(written(&writing))?;
    atomic::write(&writing.join(AVERAGES), |file| {
        file.write_all(&to_bytes(averages))
    })?;
    checkpoint::write_json(&writing.join(STATE), state)?;
    fs::rename(&writing, &done).map_err(written(&done))?;
    fs::File::open(out)
        .and_then(|folder| folder.sync_all())
        .map_err(written(out))?;
    if let Some(before) = state.iteration.checked_sub(1) {
        // Left behind, it only takes room.
        let _ = fs::remove_dir_all(folder(out, before));
    }
    Ok(())
}

/// The last finished round in `out`, if there is one.
///
/// # Errors
/// If its files cannot be read.
pub fn last(
    out: &Path,
    particle_count: usize,
) -> Result<Option<(State, Vec<Complex32>)>, RefineError> {
    let Some(iteration) = last_iteration(out) else {
        return Ok(None);
    };
    let folder = folder(out, iteration);
    let problem = |name: &str, problem: String| RefineError::Checkpoint {
        path: folder.join(name),
        problem,
    };
    let state: State = checkpoint::read_json(&folder.join(STATE))?;
    if state.particles.len() != particle_count || state.iteration != iteration {
        let found = state.particles.len();
        return Err(problem(
            STATE,
            format!("it places {found} of {particle_count} particles"),
        ));
    }
    let bytes =
        fs::read(folder.join(AVERAGES)).map_err(|error| problem(AVERAGES, error.to_string()))?;
    let number = |bytes: &[u8]| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
    let averages = bytes.as_chunks::<8>().0.iter();
    let averages = averages.map(|pair| Complex32::new(number(&pair[..4]), number(&pair[4..])));
    Ok(Some((state, averages.collect())))
}

/// Whether a round is finished in `out`.
pub fn last_iteration(out: &Path) -> Option<usize> {
    let names = fs::read_dir(out).ok()?;
    let iteration = |name: &str| name.strip_prefix("it")?.parse().ok();
    names
        .filter_map(|entry| iteration(entry.ok()?.file_name().to_str()?))
        .max()
}

/// Averages as tasks read them.
pub fn to_bytes(averages: &[Complex32]) -> Vec<u8> {
    let parts = averages.iter().flat_map(|value| [value.re, value.im]);
    parts.flat_map(f32::to_le_bytes).collect()
}
