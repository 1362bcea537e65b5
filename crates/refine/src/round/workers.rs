//! Who computed a round: each worker's tasks, and how long they ran.

use super::{Piece, StageSeconds};
use dewar_sdk::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one worker computed in a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSeconds {
    /// Its name.
    pub name: String,
    /// How many of the round's tasks.
    pub task_count: usize,
    /// How long they ran.
    pub stages: StageSeconds,
}

/// What each worker computed so far.
#[derive(Debug, Default)]
pub struct ByWorker(BTreeMap<String, WorkerSeconds>);

impl ByWorker {
    /// Counts a task. One that was answered from an earlier run took nobody's time.
    pub fn add(&mut self, piece: Piece, outcome: &Outcome) {
        if outcome.reused || outcome.worker_name.is_empty() {
            return;
        }
        let name = &outcome.worker_name;
        let worker = self.0.entry(name.clone()).or_insert_with(|| WorkerSeconds {
            name: name.clone(),
            task_count: 0,
            stages: StageSeconds::default(),
        });
        worker.task_count += 1;
        worker.stages.add(piece, outcome.run_ms);
    }

    /// All of them, by name.
    pub fn finish(self) -> Vec<WorkerSeconds> {
        self.0.into_values().collect()
    }
}
