//! The tries on one worker, and their sums, so that nothing has to be counted when a task is given out.

use crate::{AttemptId, Resources, TaskId, Timestamp};
use std::collections::BTreeMap;

/// The tries on a worker, and their sums.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// In the order in which the worker takes them up: the first for which it has slots run, the others wait there.
    held: BTreeMap<AttemptId, Held>,
    pub(super) slot_count: u64,
    pub(super) memory_bytes: u64,
    pub(super) expected_us: u64,
    pub(super) alone_count: usize,
}

/// A try on a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) task: TaskId,
    pub(crate) resources: Resources,
    /// What tasks of its kind took when it was given out.
    pub(crate) expected_us: u64,
    /// The task is under suspicion: nothing may run beside it.
    pub(crate) alone: bool,
    /// When it was given out by this broker; None for one that its worker came with.
    pub(crate) given_at: Option<Timestamp>,
    /// Slot-time, in microseconds, that its owner was charged for it so far.
    pub(crate) charged_us: u64,
    /// Since when it runs. None while it waits behind others.
    pub(crate) running_since: Option<Timestamp>,
    /// The worker's kernel is the one it was given to. After a restart of the worker nobody knows which one computed it.
    pub(crate) is_of_this_kernel: bool,
    /// When it runs out of time, if it has a limit and runs.
    pub(crate) deadline: Option<Timestamp>,
}

impl Book {
    pub(crate) fn insert(&mut self, attempt: AttemptId, held: Held) {
        self.slot_count += held.slot_count();
        self.memory_bytes = self
            .memory_bytes
            .saturating_add(held.resources.memory_bytes);
        self.expected_us = self.expected_us.saturating_add(held.expected_us);
        self.alone_count += usize::from(held.alone);
        self.held.insert(attempt, held);
    }

    pub(crate) fn remove(&mut self, attempt: AttemptId) -> Option<Held> {
        let held = self.held.remove(&attempt)?;
        self.slot_count -= held.slot_count();
        self.memory_bytes = self
            .memory_bytes
            .saturating_sub(held.resources.memory_bytes);
        self.expected_us = self.expected_us.saturating_sub(held.expected_us);
        self.alone_count -= usize::from(held.alone);
        Some(held)
    }

    /// The worker has other kernels than before.
    pub(crate) fn doubt_kernels(&mut self) {
        for held in self.held.values_mut() {
            held.is_of_this_kernel = false;
        }
    }

    pub(crate) fn get(&self, attempt: AttemptId) -> Option<&Held> {
        self.held.get(&attempt)
    }

    /// Notes that a try runs since then, and until when it may.
    pub(crate) fn start(
        &mut self,
        attempt: AttemptId,
        since: Timestamp,
        deadline: Option<Timestamp>,
    ) {
        if let Some(held) = self.held.get_mut(&attempt) {
            held.running_since = Some(since);
            held.deadline = deadline;
        }
    }

    /// Notes what was charged for the tries that took longer than was expected. By how much more that is, and for which tasks.
    pub(crate) fn charge_until(&mut self, at: Timestamp) -> Vec<(TaskId, u64)> {
        let mut charged = Vec::new();
        for held in self.held.values_mut() {
            let more_us = held.used_us(at).saturating_sub(held.charged_us);
            if more_us > 0 {
                held.charged_us += more_us;
                charged.push((held.task, more_us));
            }
        }
        charged
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AttemptId, &Held)> {
        self.held.iter().map(|(attempt, held)| (*attempt, held))
    }

    pub(crate) fn last(&self) -> Option<(AttemptId, &Held)> {
        let last = self.held.last_key_value();
        last.map(|(attempt, held)| (*attempt, held))
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn contains(&self, attempt: AttemptId) -> bool {
        self.held.contains_key(&attempt)
    }

    /// Whether the sums are those of what is held. For checks.
    pub(crate) fn adds_up(&self) -> bool {
        let mut sums = Self::default();
        for (attempt, held) in &self.held {
            sums.insert(*attempt, *held);
        }
        (sums.slot_count, sums.expected_us, sums.alone_count)
            == (self.slot_count, self.expected_us, self.alone_count)
            && sums.memory_bytes == self.memory_bytes
    }
}

impl Held {
    /// Slot-time it has taken.
    pub(crate) fn used_us(&self, at: Timestamp) -> u64 {
        let since = self.running_since.unwrap_or(at);
        let used_us = at.0.saturating_sub(since.0).saturating_mul(1000);
        used_us.saturating_mul(self.slot_count())
    }

    pub(crate) fn slot_count(&self) -> u64 {
        u64::from(self.resources.slot_count)
    }
}
