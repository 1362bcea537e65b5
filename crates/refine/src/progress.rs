//! What a refinement tells while it runs.

use crate::postprocess::Step;
use std::path::Path;

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// Something worth a line.
    Note(&'a str),
    /// A stack is being made known to the broker.
    Importing {
        /// The stack.
        stack: &'a Path,
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// A round began.
    RoundStarted {
        /// From 1.
        iteration: usize,
        /// The finest detail compared in it.
        limit_angstrom: f64,
    },
    /// Tasks of the round were done.
    Tasks {
        /// From 1.
        iteration: usize,
        /// Done so far.
        done: usize,
        /// In the whole round.
        total: usize,
    },
    /// A round ended.
    RoundFinished {
        /// From 1.
        iteration: usize,
        /// FSC 0.143 of its half-maps.
        resolution_angstrom: f64,
        /// Median change of orientation since the round before; none in the first.
        median_change_deg: Option<f64>,
        /// How long it took.
        seconds: f64,
    },
    /// All particles are inserted once more, for the final maps; `Tasks` of the last round follow.
    FinalMaps,
    /// The final half-maps are being post-processed.
    PostProcessing {
        /// What it is at.
        step: Step,
        /// Parts of that step done.
        done: u64,
        /// Parts in all.
        total: u64,
    },
}

/// Who listens.
pub trait Observer: Send + Sync {
    /// Hears of progress; must not take long.
    fn on(&self, progress: Progress<'_>);
}
