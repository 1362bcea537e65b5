//! What is known of a kind from the tasks of it that were done.

use crate::Timestamp;

/// One kind's figures. They grow old slowly and are gone with the process, except for what outcomes tell on replay.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KindStats {
    /// What its tasks take, the latest eight or so counting most.
    pub(crate) average_us: Option<u64>,
    /// When a worker last succeeded at one.
    pub(crate) succeeded_at: Option<Timestamp>,
}

impl KindStats {
    /// Takes a task into account that ran for so long.
    pub(crate) fn learn(&mut self, run_ms: u64) {
        // Tasks of under a millisecond report none; sending and booking them takes some tenths.
        let run_us = run_ms.saturating_mul(1000).max(300);
        self.average_us = Some(match self.average_us {
            None => run_us,
            Some(average_us) => average_us - average_us / 8 + run_us / 8,
        });
    }
}
