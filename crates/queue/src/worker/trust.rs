//! How far a worker is trusted to compute, and what it showed of late.

use crate::{Kind, Timestamp};
use std::collections::BTreeMap;

/// How far a worker is trusted to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// As any other.
    Full,
    /// It failed everything it touched, and is given nothing for a while.
    Probation { until: Timestamp, pause_ms: u64 },
    /// It is given one task, to see whether it is well again.
    Trial { pause_ms: u64 },
}

/// What a worker's last tries at each kind came to. A worker may be well for one kind and broken for another.
#[derive(Debug, Default)]
pub(crate) struct Streaks(BTreeMap<Kind, Streak>);

/// What a worker's last tries at one kind came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Streak {
    /// Tries failed since its last success.
    pub(crate) failures_in_row: u32,
    /// When the first of them did.
    pub(crate) since: Timestamp,
    /// Whether it succeeded since it joined.
    pub(crate) ever_succeeded: bool,
}

impl Streaks {
    pub(crate) fn note_success(&mut self, kind: Option<&Kind>) {
        let succeeded = Streak {
            ever_succeeded: true,
            ..Streak::default()
        };
        self.set(kind, succeeded);
    }

    pub(crate) fn note_failure(&mut self, kind: Option<&Kind>, at: Timestamp) {
        let failed = kind.map(|kind| self.with_failure(kind, at));
        self.set(kind, failed.unwrap_or_default());
    }

    /// What it shows of a kind after one more failure. What follows from many is decided elsewhere.
    pub(crate) fn with_failure(&self, kind: &Kind, at: Timestamp) -> Streak {
        let before = self.0.get(kind).copied().unwrap_or_default();
        Streak {
            since: if before.failures_in_row == 0 {
                at
            } else {
                before.since
            },
            failures_in_row: before.failures_in_row.saturating_add(1),
            ..before
        }
    }

    fn set(&mut self, kind: Option<&Kind>, streak: Streak) {
        let Some(kind) = kind else { return };
        match self.0.get_mut(kind) {
            Some(known) => *known = streak,
            None => {
                self.0.insert(kind.clone(), streak);
            }
        }
    }
}
