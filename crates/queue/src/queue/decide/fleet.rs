//! What workers say of themselves.
//!
//! A worker tells at every hello which tries it holds. One that is still wanted becomes live, whoever began it: this
//! broker, or the same one before a restart. After a restart what those had who attended before waits for them, but not for ever:
//! one that says hello later finds its task given to another too, and whichever answers first gives the outcome.

use super::super::Queue;
use crate::{
    AttemptEnd, AttemptId, Event, HeldAttempt, HoldingChange, KIND_COUNT_MAX, Now, Refusal,
    SLOT_COUNT_MAX, TaskId, WorkerHello, WorkerId, job::Phase,
};
use std::{collections::HashSet, sync::Arc};

impl Queue {
    pub(in crate::queue) fn join(
        &self,
        hello: WorkerHello,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        if hello.slot_count == 0
            || hello.slot_count > SLOT_COUNT_MAX
            || hello.kinds.is_empty()
            || hello.kinds.len() > KIND_COUNT_MAX
        {
            return Err(Refusal::AbsurdWorker);
        }
        let id = hello.id;
        let known = self.worker(id);
        // Sent to it, and lost with the connection.
        let still_held: HashSet<AttemptId> = hello.held.iter().map(|held| held.attempt).collect();
        let lost = known.into_iter().flat_map(|worker| worker.book.iter());
        let lost = lost
            .filter(|(attempt, _)| !still_held.contains(attempt))
            .map(|(attempt, held)| self.ended(held.task, attempt, id, AttemptEnd::GivenBack, now));
        let unwanted = hello.held.iter().filter(|held| {
            let holds = known.is_some_and(|worker| worker.book.contains(held.attempt));
            !holds && !self.may_take_up(id, held.task, held.attempt)
        });
        let unwanted =
            unwanted.map(|held| self.ended(held.task, held.attempt, id, AttemptEnd::Stopped, now));
        let ended: Vec<Event> = lost.chain(unwanted).collect();
        let acquitted: Vec<Event> = self.acquittals(&hello).collect();
        // It may have missed the order, or be a new process that never heard it.
        let draining = known.is_some_and(|worker| worker.draining);
        let draining = draining.then_some(Event::WorkerDraining { worker: id });
        let joined = Event::WorkerJoined { hello, at: now.at };
        // Acquitted first: what is no suspect any more need not run alone.
        Ok(acquitted
            .into_iter()
            .chain([joined])
            .chain(ended)
            .chain(draining)
            .collect())
    }

    /// Tries that were thought lost with a worker, and go on.
    fn acquittals(&self, hello: &WorkerHello) -> impl Iterator<Item = Event> {
        let lost = hello.held.iter().filter(|held| {
            let task = self.task(held.task);
            task.is_some_and(|task| task.was_lost(held.attempt))
                && self.may_take_up(hello.id, held.task, held.attempt)
        });
        lost.map(|held| Event::AttemptAcquitted {
            task: held.task,
            attempt: held.attempt,
        })
    }

    /// Whether a worker may work on (again) at a try that is not live.
    pub(in crate::queue) fn may_take_up(
        &self,
        worker: WorkerId,
        id: TaskId,
        attempt: AttemptId,
    ) -> bool {
        let own_start = self.config.broker_start;
        let was_given = attempt.broker_start < own_start
            || (attempt.broker_start == own_start && attempt.n <= self.last_attempt);
        let held = self
            .worker(worker)
            .is_some_and(|worker| worker.book.contains(attempt));
        was_given
            && !held
            && !self.is_of_earlier_generation(id, attempt)
            && self.task(id).is_some_and(|task| {
                task.outcome().is_none()
                    && !matches!(task.phase, Phase::Blocked)
                    && !task.has_failed(attempt)
                    && !task.live().iter().any(|(live, _)| *live == attempt)
            })
    }

    fn is_of_earlier_generation(&self, id: TaskId, attempt: AttemptId) -> bool {
        let fence = self.job(id.job).and_then(|job| job.fences.get(&id.index));
        fence.is_some_and(|fence| attempt <= *fence)
    }

    pub(in crate::queue) fn heartbeat(
        &self,
        worker: WorkerId,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        self.worker(worker).ok_or(Refusal::UnknownWorker)?;
        Ok(vec![Event::WorkerSeen { worker, at: now.at }])
    }

    pub(in crate::queue) fn disconnect(
        &self,
        id: WorkerId,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let worker = self.worker(id).ok_or(Refusal::UnknownWorker)?;
        if worker.draining && worker.book.is_empty() {
            return Ok(vec![Event::WorkerGone { worker: id }]);
        }
        if !worker.is_connected() {
            return Ok(Vec::new());
        }
        Ok(vec![Event::WorkerDisconnected {
            worker: id,
            at: now.at,
        }])
    }

    pub(in crate::queue) fn drain(&self, id: WorkerId) -> Result<Vec<Event>, Refusal> {
        self.worker(id).ok_or(Refusal::UnknownWorker)?;
        // Also if it was said before: the order may have been lost with a connection.
        Ok(vec![Event::WorkerDraining { worker: id }])
    }

    pub(in crate::queue) fn set_availability(
        &self,
        id: WorkerId,
        busy_reason: Option<Arc<str>>,
    ) -> Result<Vec<Event>, Refusal> {
        self.worker(id).ok_or(Refusal::UnknownWorker)?;
        Ok(vec![Event::WorkerAvailability {
            worker: id,
            busy_reason,
        }])
    }

    pub(in crate::queue) fn note_holdings(
        &self,
        id: WorkerId,
        changes: Vec<HoldingChange>,
    ) -> Result<Vec<Event>, Refusal> {
        self.worker(id).ok_or(Refusal::UnknownWorker)?;
        Ok(vec![Event::HoldingsNoted {
            worker: id,
            changes,
        }])
    }

    pub(in crate::queue) fn hand_back(
        &self,
        id: WorkerId,
        attempts: &[HeldAttempt],
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let worker = self.worker(id).ok_or(Refusal::UnknownWorker)?;
        let own = attempts.iter().filter(|given| {
            let held = worker.book.get(given.attempt);
            held.is_some_and(|held| held.task == given.task)
        });
        Ok(own
            .map(|given| self.ended(given.task, given.attempt, id, AttemptEnd::GivenBack, now))
            .collect())
    }
}
