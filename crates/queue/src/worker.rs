//! Workers, and what each holds.

use crate::{AttemptId, Kind, TaskId, Timestamp, WorkerHello, config::Config};
use std::collections::BTreeMap;

/// One worker that said hello and was not given up since.
#[derive(Debug)]
pub struct Worker {
    pub(crate) hello: WorkerHello,
    pub(crate) seen_at: Timestamp,
    /// When its connection closed, unless it has one.
    pub(crate) disconnected_at: Option<Timestamp>,
    pub(crate) draining: bool,
    /// In the order in which the worker takes them up: the first `slot_count` run, the others wait there.
    pub(crate) held: BTreeMap<AttemptId, Held>,
    pub(crate) succeeded_count: u64,
    pub(crate) failed_count: u64,
    /// As which it stands in the indices; what must be taken out before it changes.
    pub(crate) listed: Listing,
}

/// A try on a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) task: TaskId,
    /// The task is under suspicion: nothing may run beside it.
    pub(crate) alone: bool,
    /// When it runs out of time. None without a limit, and while it waits behind others.
    pub(crate) deadline: Option<Timestamp>,
}

/// A worker's places in the indices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Thousandths of its slots that are taken, if it has room.
    pub(crate) load_permille: Option<u32>,
    /// Tries that wait behind others, if there are.
    pub(crate) queued_count: Option<usize>,
    /// When it is given up if nothing is heard.
    pub(crate) deadline: Option<Timestamp>,
}

impl Worker {
    pub(crate) fn new(hello: WorkerHello, at: Timestamp) -> Self {
        Self {
            hello,
            seen_at: at,
            disconnected_at: None,
            draining: false,
            held: BTreeMap::new(),
            succeeded_count: 0,
            failed_count: 0,
            listed: Listing::default(),
        }
    }

    /// How it introduced itself. `held` is what it held then.
    pub fn hello(&self) -> &WorkerHello {
        &self.hello
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.disconnected_at.is_none()
    }

    /// Whether it takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Tries that run on it.
    pub fn running_count(&self) -> usize {
        self.held.len().min(self.slot_count())
    }

    /// Tries that succeeded since it joined.
    pub fn succeeded_count(&self) -> u64 {
        self.succeeded_count
    }

    /// Tries that failed since it joined.
    pub fn failed_count(&self) -> u64 {
        self.failed_count
    }

    /// Whether it can compute a kind.
    pub fn has_kind(&self, kind: &Kind) -> bool {
        self.hello.kinds.contains(kind)
    }

    pub(crate) fn slot_count(&self) -> usize {
        self.hello.slot_count as usize
    }

    /// Whether a try runs, rather than waiting on the worker behind others.
    pub(crate) fn is_running(&self, attempt: AttemptId) -> bool {
        self.held.range(..attempt).take(self.slot_count()).count() < self.slot_count()
    }

    pub(crate) fn listing(&self, config: &Config) -> Listing {
        let held_count = self.held.len();
        let held_count_max = self
            .slot_count()
            .saturating_mul(1 + config.prefetch_per_slot as usize);
        let takes_more = self.is_connected()
            && !self.draining
            && held_count < held_count_max
            // Alone means alone; and a suspect is given only to a worker that holds nothing else.
            && !self.held.values().any(|held| held.alone);
        let lease_end = self.seen_at.after_ms(config.lease_ms);
        Listing {
            load_permille: takes_more.then(|| {
                u32::try_from(held_count * 1000 / self.slot_count().max(1)).unwrap_or(u32::MAX)
            }),
            queued_count: (held_count > self.slot_count()).then(|| held_count - self.slot_count()),
            deadline: Some(match self.disconnected_at {
                None => lease_end,
                Some(at) => lease_end.min(at.after_ms(config.reconnect_ms)),
            }),
        }
    }
}
