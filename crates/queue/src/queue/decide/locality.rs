//! Where a task's bytes are already.
//!
//! Whose turn it is comes first. Only among one owner's tasks of one need and one priority may a worker be given a later
//! one, of which it holds more, and none is passed over for ever. No slot idles for a better match: a worker that holds
//! nothing of what waits takes the task whose turn it is.

use super::super::Queue;
use crate::{
    Task, TaskId, WorkerId, holdings,
    ready::{CANDIDATE_COUNT_MAX, Need},
    turns::Turn,
};
use std::cmp::Reverse;

/// Times a task is passed over at most for another of which a worker holds more: with as many candidates looked at, enough
/// for each of them to go to its holder once.
pub(in crate::queue) const PASSED_OVER_COUNT_MAX: u8 = 64;

/// What a try reads of blobs, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputBytes {
    /// All of it.
    pub wanted: u64,
    /// What its worker holds.
    pub held: u64,
}

impl Queue {
    /// What a task reads of blobs as far as they are there, and what of it a worker holds.
    pub fn input_bytes(&self, task: TaskId, worker: WorkerId) -> InputBytes {
        let task = self.task(task).filter(|task| task.has_inputs());
        task.map_or_else(InputBytes::default, |task| InputBytes {
            wanted: wanted_bytes(task),
            held: self.held_bytes(worker, task),
        })
    }

    /// For a task with inputs: it and the best worker with room for it, or one that suits that worker better.
    pub(super) fn nearest_match(
        &self,
        front: &Task,
        turns: impl Iterator<Item = Turn>,
        need: &Need,
        reserved: Option<WorkerId>,
    ) -> Option<(TaskId, WorkerId)> {
        let mut turns = turns.peekable();
        let id = turns.peek()?.task;
        let open = self.ready.open(need).map(|(_, worker)| worker);
        let open: Vec<WorkerId> = open.filter(|other| Some(*other) != reserved).collect();
        let may_try = open.iter().filter(|worker| self.may_try(front, **worker));
        // The first of equals is the least loaded.
        let worker = may_try.copied().min_by_key(|worker| {
            let would_wait = !self.has_free_slots(*worker, front);
            let held_bytes = self.held_bytes(*worker, front);
            (would_wait, Reverse(held_bytes))
        })?;
        let better = self.better_for(worker, front, turns, &open);
        Some((better.unwrap_or(id), worker))
    }

    /// The next task of which a worker holds more than of the one whose turn it is, and than anyone else with room.
    fn better_for(
        &self,
        worker: WorkerId,
        front: &Task,
        turns: impl Iterator<Item = Turn>,
        open: &[WorkerId],
    ) -> Option<TaskId> {
        let of_front = self.held_bytes(worker, front);
        if !self.holdings.has_any(worker) || of_front >= wanted_bytes(front) {
            return None;
        }
        let candidates = turns
            .take(CANDIDATE_COUNT_MAX)
            .map_while(|turn| Some((turn.task, self.task(turn.task)?)));
        // Whoever may not be passed over any more ends the search: what is behind it would pass it too.
        let mut may_pass = true;
        let candidates = candidates.take_while(|(_, task)| {
            std::mem::replace(
                &mut may_pass,
                task.passed_over_count < PASSED_OVER_COUNT_MAX,
            )
        });
        let found = candidates.skip(1).find(|(_, task)| {
            let held = self.held_bytes(worker, task);
            held > of_front
                && !task.failed_on(worker)
                && (held >= wanted_bytes(task)
                    || open
                        .iter()
                        .all(|other| self.held_bytes(*other, task) <= held))
        });
        found.map(|(id, _)| id)
    }

    /// Of workers for a task, the one that holds most of it; the first of equals.
    pub(super) fn nearest(
        &self,
        task: &Task,
        mut workers: impl Iterator<Item = WorkerId>,
    ) -> Option<WorkerId> {
        if !task.has_inputs() {
            return workers.next();
        }
        workers.min_by_key(|worker| Reverse(self.held_bytes(*worker, task)))
    }

    pub(super) fn has_free_slots(&self, worker: WorkerId, task: &Task) -> bool {
        let worker = self.worker(worker);
        worker.is_some_and(|worker| worker.has_free_slots(task.spec.resources))
    }

    fn held_bytes(&self, worker: WorkerId, task: &Task) -> u64 {
        self.holdings.held_bytes(worker, task.parts())
    }
}

fn wanted_bytes(task: &Task) -> u64 {
    holdings::wanted_bytes(task.parts())
}
