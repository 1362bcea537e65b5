//! What time alone brings: pauses that end, workers that are lost, tries out of time, jobs to forget.

use super::super::Queue;
use crate::{AttemptEnd, AttemptId, Event, Failure, FailureClass, Now, WorkerId, worker::Held};

impl Queue {
    /// The events of one thing that is overdue; none if nothing is.
    pub(in crate::queue) fn most_overdue(&self, now: Now) -> Vec<Event> {
        // Before the pauses: those for who may come back end at the same moment, and would begin anew.
        if !self.missing.is_empty() && self.comeback_ends_at() <= now.at {
            return vec![Event::ComebackOver];
        }
        if let Some((until, task)) = self.paused.first()
            && *until <= now.at
        {
            return vec![Event::RetryDue { task: *task }];
        }
        if let Some((until, worker)) = self.leases.first()
            && *until <= now.at
        {
            return self.give_up(*worker, now);
        }
        if let Some((until, worker, attempt)) = self.time_limits.first()
            && *until <= now.at
        {
            return self.out_of_time(*worker, *attempt, now);
        }
        if let Some((until, worker)) = self.trials.first()
            && *until <= now.at
        {
            return vec![Event::WorkerOnTrial { worker: *worker }];
        }
        if let Some((until, job)) = self.absences.first()
            && *until <= now.at
        {
            let job = self.job(*job).into_iter();
            return job.flat_map(|job| self.cancel_whole(job, now)).collect();
        }
        let oldest = self.idle.first();
        let old = oldest.filter(|(until_unix_ms, _)| *until_unix_ms <= now.unix_ms);
        let old = old.and_then(|(_, job)| self.job(*job));
        old.map(|job| match job.is_finished() {
            true => Event::JobForgotten { job: job.number },
            // Nobody cares to close it.
            false => Event::JobClosed {
                job: job.number,
                at_unix_ms: now.unix_ms,
            },
        })
        .into_iter()
        .collect()
    }

    /// A worker is lost. What ran is charged, to the one task if there was but one; what only waited there is not.
    fn give_up(&self, id: WorkerId, now: Now) -> Vec<Event> {
        let gone = Event::WorkerGone { worker: id };
        let Some(worker) = self.worker(id) else {
            return vec![gone];
        };
        let runs = |held: &Held| held.running_since.is_some();
        let running_count = worker.book.iter().filter(|(_, held)| runs(held)).count();
        let company_count = running_count.saturating_sub(1);
        let mut events = Vec::new();
        for (attempt, held) in worker.book.iter() {
            if runs(held)
                && let Some(task) = self.task(held.task)
            {
                let name = &worker.hello.name;
                events.extend(self.lose(held.task, task, attempt, name, company_count, now));
            }
            events.push(self.ended(held.task, attempt, id, AttemptEnd::GivenBack, now));
        }
        events.push(gone);
        events
    }

    fn out_of_time(&self, id: WorkerId, attempt: AttemptId, now: Now) -> Vec<Event> {
        let worker = self.worker(id);
        let Some((worker, held)) =
            worker.and_then(|worker| Some((worker, worker.book.get(attempt)?)))
        else {
            return Vec::new();
        };
        let Some(task) = self.task(held.task) else {
            return Vec::new();
        };
        let limit_ms = task.spec.time_limit_ms;
        let failure = Failure {
            class: FailureClass::TimedOut,
            message: format!(
                "still running on {} after its limit of {limit_ms} ms",
                worker.hello.name
            ),
        };
        let mut events = self.fail(held.task, task, attempt, failure, None, limit_ms, now);
        events.push(self.ended(held.task, attempt, id, AttemptEnd::OutOfTime, now));
        events.extend(self.distrust(worker, task, now));
        events
    }
}
