//! Who gets the next task.
//!
//! In this order: a task under suspicion, to a worker that holds nothing; the task whose turn it is, to the least loaded
//! worker that has its kind; and when nothing waits, a try that waits behind others on one worker, to a worker with a
//! free slot.

use super::super::Queue;
use crate::{AttemptEnd, AttemptId, Event, Now, TaskId, WorkerId};

/// Suspects and queueing workers looked at in one go.
const CANDIDATE_COUNT_MAX: usize = 64;

impl Queue {
    /// The events by which one task is given out; none if none can be.
    pub(in crate::queue) fn dispatch(&self, now: Now) -> Vec<Event> {
        let mut reserved = None;
        for turn in self.suspects.iter().take(CANDIDATE_COUNT_MAX) {
            let Some(task) = self.task(turn.task) else {
                continue;
            };
            match self.ready.least_loaded(task.kind()) {
                Some((0, worker)) => return vec![self.started(turn.task, worker, now)],
                // It gets nothing new until it is empty; else suspects would wait for as long as others do.
                Some((_, worker)) => reserved = reserved.or(Some(worker)),
                None => {}
            }
        }
        if let Some((task, worker)) = self.ready.pick(reserved) {
            return vec![self.started(task, worker, now)];
        }
        self.level(reserved, now)
    }

    /// Moves one try from a worker on which it waits to one where it can run.
    fn level(&self, reserved: Option<WorkerId>, now: Now) -> Vec<Event> {
        for (_, from) in self.queueing.iter().rev().take(CANDIDATE_COUNT_MAX) {
            let last = self
                .worker(*from)
                .and_then(|worker| worker.held.last_key_value());
            let Some((attempt, held)) = last else {
                continue;
            };
            let Some(task) = self.task(held.task) else {
                continue;
            };
            if let Some((load_permille, to)) = self.ready.least_loaded(task.kind())
                && load_permille < 1000
                && Some(to) != reserved
            {
                let stopped = self.ended(held.task, *attempt, *from, AttemptEnd::Stopped, now);
                return vec![stopped, self.started(held.task, to, now)];
            }
        }
        Vec::new()
    }

    fn started(&self, task: TaskId, worker: WorkerId, now: Now) -> Event {
        Event::AttemptStarted {
            task,
            attempt: AttemptId {
                broker_start: self.config.broker_start,
                n: self.last_attempt + 1,
            },
            worker,
            at: now.at,
        }
    }
}
