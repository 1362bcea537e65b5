//! Workers: joined, trusted more or less, lost, and where they stand in the indices.

use super::super::Queue;
use crate::{
    Timestamp, Worker, WorkerHello, WorkerId,
    job::Phase,
    ready::Need,
    worker::{Listing, Trust},
};
use std::collections::BTreeSet;

impl Queue {
    pub(super) fn add_worker(&mut self, hello: &WorkerHello, at: Timestamp) {
        let id = hello.id;
        // Its kinds may be others than before.
        self.unlist(id);
        let worker = self
            .workers
            .entry(id)
            .or_insert_with(|| Worker::new(hello.clone(), at));
        if worker.hello.kernels != hello.kernels
            || worker.hello.instruction_class != hello.instruction_class
        {
            worker.book.doubt_kernels();
        }
        worker.hello = hello.clone();
        worker.seen_at = at;
        worker.disconnected_at = None;
        worker.busy_reason = None;
        self.list(id);
        for held in &hello.held {
            if self.may_take_up(id, held.task, held.attempt) {
                self.begin_attempt(held.task, held.attempt, id, false, at);
            }
        }
        self.set_clocks(id, at);
        self.await_no_more(id);
    }

    /// A worker that was waited for is back. What it does not go on with may go to others.
    fn await_no_more(&mut self, id: WorkerId) {
        let Some(expected) = self.missing.remove(&id) else {
            return;
        };
        for task in expected.held {
            self.awaited.remove(&(task, id));
            let is_paused = self
                .task(task)
                .is_some_and(|task| matches!(task.phase, Phase::Paused { .. }));
            if is_paused {
                self.set_waiting(task);
            }
        }
    }

    pub(super) fn remove_worker(&mut self, id: WorkerId) {
        self.unlist(id);
        self.holdings.forget(id);
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        for (attempt, held) in worker.book.iter() {
            self.settle(id, attempt, held, worker.seen_at);
            self.remove_live(held.task, attempt, id);
        }
    }

    pub(super) fn put_on_probation(&mut self, id: WorkerId, until: Timestamp, pause_ms: u64) {
        self.change_worker(id, |worker| {
            worker.trust = Trust::Probation { until, pause_ms };
        });
    }

    pub(super) fn put_on_trial(&mut self, id: WorkerId) {
        self.change_worker(id, |worker| {
            if let Trust::Probation { pause_ms, .. } = worker.trust {
                worker.trust = Trust::Trial { pause_ms };
            }
        });
    }

    pub(super) fn change_worker(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(&id) {
            change(worker);
            self.list(id);
        }
    }

    /// Puts a worker where it belongs now.
    fn list(&mut self, id: WorkerId) {
        let listing = self
            .workers
            .get(&id)
            .map(|worker| worker.listing(&self.config));
        self.set_listing(id, listing.unwrap_or_default());
    }

    fn unlist(&mut self, id: WorkerId) {
        self.set_listing(id, Listing::default());
    }

    fn set_listing(&mut self, id: WorkerId, new: Listing) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut worker.listed, new);
        if (old.able, old.load_permille, old.room) != (new.able, new.load_permille, new.room) {
            let standing = |need: &Need| worker.standing_under(need);
            self.ready.place_all(&worker.hello.kinds, id, standing);
        }
        match (old.able, new.able) {
            (false, true) => self.makers.add(&worker.hello),
            (true, false) => self.makers.remove(&worker.hello),
            (true, true) | (false, false) => {}
        }
        replace(&mut self.queueing, old.queued_count, new.queued_count, id);
        replace(&mut self.leases, old.deadline, new.deadline, id);
        replace(&mut self.trials, old.trial_at, new.trial_at, id);
    }
}

fn replace<T: Ord + Copy>(
    index: &mut BTreeSet<(T, WorkerId)>,
    old: Option<T>,
    new: Option<T>,
    id: WorkerId,
) {
    if old != new {
        if let Some(old) = old {
            index.remove(&(old, id));
        }
        index.extend(new.map(|new| (new, id)));
    }
}
