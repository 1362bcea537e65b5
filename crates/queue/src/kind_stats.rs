//! What is known of a kind from the tasks of it that were done.

use crate::{Timestamp, WorkerId};
use std::sync::Arc;

/// One kind's figures. They grow old slowly and are gone with the process, except for what outcomes tell on replay.
#[derive(Debug, Default)]
pub(crate) struct KindStats {
    /// What its tasks take, the latest eight or so counting most.
    pub(crate) average_us: Option<u64>,
    /// When a worker last succeeded at one.
    pub(crate) succeeded_at: Option<Timestamp>,
    /// Names of the last two workers that did, so that one of them is another than whoever asks. Of those before a restart no
    /// more is known.
    succeeded_by: [Option<Arc<str>>; 2],
    /// The last two since the restart: two workers may have one name.
    succeeded_by_ids: [Option<WorkerId>; 2],
}

impl KindStats {
    /// Takes a task into account that ran for so long.
    pub(crate) fn learn(&mut self, run_ms: u64, by: Option<&Arc<str>>) {
        remember(&mut self.succeeded_by, by.cloned());
        // Tasks of under a millisecond report none; sending and booking them takes some tenths.
        let run_us = run_ms.saturating_mul(1000).max(300);
        self.average_us = Some(match self.average_us {
            None => run_us,
            Some(average_us) => average_us - average_us / 8 + run_us / 8,
        });
    }

    /// Takes note of who succeeded just now.
    pub(crate) fn note_success(&mut self, worker: WorkerId, at: Timestamp) {
        self.succeeded_at = Some(at);
        remember(&mut self.succeeded_by_ids, Some(worker));
    }

    /// Whether another worker than this has ever succeeded.
    pub(crate) fn is_done_by_others(&self, worker: WorkerId, name: &str) -> bool {
        let mut names = self.succeeded_by.iter().flatten();
        let mut ids = self.succeeded_by_ids.iter().flatten();
        names.any(|other| **other != *name) || ids.any(|other| *other != worker)
    }
}

fn remember<T: PartialEq>(last_two: &mut [Option<T>; 2], one: Option<T>) {
    if one.is_some() && !last_two.contains(&one) {
        last_two.rotate_right(1);
        last_two[0] = one;
    }
}
