//! Folding events in. Live traffic and restart both come through here.
//!
//! An event about something unknown changes nothing: after a restart, records may speak of jobs forgotten since.

use super::Queue;
use crate::{
    AttemptEnd, AttemptId, BlobRef, Digest, Event, Failure, Job, JobNumber, Outcome, OutcomeResult,
    Task, TaskCounts, TaskId, TaskSpec, Timestamp, Worker, WorkerHello, WorkerId, holds,
    job::{Phase, Turn},
    worker::{Held, Listing},
};
use std::sync::Arc;

impl Queue {
    /// Folds in a decided event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::JobCreated {
                job,
                id,
                owner,
                name,
                priority,
                created_unix_ms,
            } => self.add_job(Job {
                number: *job,
                id: *id,
                owner: owner.clone(),
                name: name.clone(),
                priority: *priority,
                created_unix_ms: *created_unix_ms,
                ended_unix_ms: *created_unix_ms,
                closed: false,
                cancelled: false,
                tasks: Vec::new(),
                outcomes: Vec::new(),
                counts: TaskCounts::default(),
                uploads: Default::default(),
                outputs: Default::default(),
            }),
            Event::TasksSubmitted {
                job,
                first_index,
                specs,
            } => self.add_tasks(*job, *first_index, specs),
            Event::JobClosed { job, at_unix_ms } => self.set_closed(*job, *at_unix_ms),
            Event::JobCancelled { job, at_unix_ms } => self.cancel(*job, *at_unix_ms),
            Event::BlobHeld { job, blob } => self.add_upload(*job, blob),
            Event::BlobsReleased { job, digests } => self.release(*job, digests),
            Event::AttemptFailed {
                task,
                attempt,
                failure,
                retry_at,
            } => self.fail_attempt(*task, *attempt, failure, *retry_at),
            Event::TaskEnded {
                outcome,
                at_unix_ms,
            } => {
                self.end_task(outcome.clone());
                self.note_end(outcome.task.job, *at_unix_ms);
            }
            Event::JobForgotten { job } => self.forget(*job),
            Event::WorkerJoined { hello, at } => self.add_worker(hello, *at),
            Event::WorkerSeen { worker, at } => self.change_worker(*worker, |worker| {
                worker.seen_at = worker.seen_at.max(*at);
            }),
            Event::WorkerDisconnected { worker, at } => {
                self.change_worker(*worker, |worker| worker.disconnected_at = Some(*at));
            }
            Event::WorkerDraining { worker } => {
                self.change_worker(*worker, |worker| worker.draining = true);
            }
            Event::WorkerGone { worker } => self.remove_worker(*worker),
            Event::AttemptStarted {
                task,
                attempt,
                worker,
                at,
            } => {
                self.last_attempt = self.last_attempt.max(attempt.n);
                if let Some(task) = self.task_mut(*task) {
                    task.attempts_begun = task.attempts_begun.saturating_add(1);
                }
                self.begin_attempt(*task, *attempt, *worker, *at);
            }
            Event::RetryDue { task } => {
                if matches!(self.task(*task), Some(task) if matches!(task.phase, Phase::Paused { .. }))
                {
                    self.set_waiting(*task);
                }
            }
            Event::AttemptEnded {
                task,
                attempt,
                worker,
                end,
                at,
            } => {
                self.drop_attempt(*worker, *attempt, *end, *at);
                self.remove_live(*task, *attempt);
            }
        }
    }

    fn add_job(&mut self, job: Job) {
        self.last_job = self.last_job.max(job.number.0);
        if !self.by_id.contains_key(&job.id) && !self.jobs.contains_key(&job.number) {
            self.by_id.insert(job.id, job.number);
            self.jobs.insert(job.number, job);
        }
    }

    fn add_tasks(&mut self, number: JobNumber, first_index: u64, specs: &[Arc<TaskSpec>]) {
        for (index, spec) in (first_index..).zip(specs) {
            let Some(job) = self.jobs.get_mut(&number) else {
                return;
            };
            if job.closed || index != job.task_count() {
                continue;
            }
            job.tasks.push(Task {
                spec: spec.clone(),
                phase: Phase::Waiting { alone: false },
                attempts_begun: 0,
                history: None,
            });
            job.counts.waiting += 1;
            self.counts.waiting += 1;
            let turn = Turn::new(job.priority, TaskId { job: number, index });
            self.ready.insert(&spec.kind, &job.owner, turn);
            holds::read_by(spec).for_each(|digest| self.holds.hold(digest));
        }
    }

    fn set_closed(&mut self, number: JobNumber, at_unix_ms: u64) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.closed = true;
        }
        self.note_end(number, at_unix_ms);
    }

    fn cancel(&mut self, number: JobNumber, at_unix_ms: u64) {
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        (job.closed, job.cancelled) = (true, true);
        for index in 0..job.task_count() {
            let task = TaskId { job: number, index };
            let Some(job) = self.jobs.get(&number) else {
                return;
            };
            if job.task(index).is_some_and(|task| task.outcome().is_none()) {
                let outcome = Outcome {
                    task,
                    sequence: job.next_sequence(),
                    result: OutcomeResult::Cancelled,
                    worker_name: None,
                    run_ms: 0,
                };
                self.end_task(outcome);
            }
        }
        self.drop_job_holds(number);
        self.note_end(number, at_unix_ms);
    }

    fn add_upload(&mut self, number: JobNumber, blob: &BlobRef) {
        if let Some(job) = self.jobs.get_mut(&number)
            && !job.cancelled
            && job.uploads.insert(blob.digest)
        {
            self.holds.hold(blob.digest);
        }
    }

    fn release(&mut self, number: JobNumber, digests: &[Digest]) {
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        for digest in digests {
            let uploads = u32::from(job.uploads.remove(digest));
            let outputs = job.outputs.remove(digest).unwrap_or(0);
            for _ in 0..uploads + outputs {
                self.holds.drop(*digest);
            }
        }
    }

    fn fail_attempt(
        &mut self,
        id: TaskId,
        attempt: AttemptId,
        failure: &Failure,
        retry_at: Timestamp,
    ) {
        let Some(task) = self.task_mut(id) else {
            return;
        };
        if task.outcome().is_some() {
            return;
        }
        task.remember(attempt, failure);
        if let Phase::Running { live } = &mut task.phase {
            live.retain(|(other, _)| *other != attempt);
            if !live.is_empty() {
                return;
            }
        }
        // An attempt of an earlier start was timed by another clock: its pause counts as over.
        if attempt.broker_start == self.config.broker_start && retry_at > Timestamp::default() {
            self.set_phase(id, Phase::Paused { until: retry_at });
        } else {
            self.set_waiting(id);
        }
    }

    fn end_task(&mut self, outcome: Outcome) {
        let id = outcome.task;
        let Some(task) = self.task(id) else {
            return;
        };
        if task.outcome().is_some() {
            return;
        }
        let spec = task.spec.clone();
        if let (OutcomeResult::Succeeded(output), Some(job)) =
            (&outcome.result, self.jobs.get_mut(&id.job))
        {
            for digest in holds::given_by(output) {
                *job.outputs.entry(digest).or_default() += 1;
                self.holds.hold(digest);
            }
        }
        self.set_phase(
            id,
            Phase::Ended {
                outcome: Arc::new(outcome),
            },
        );
        if let Some(job) = self.jobs.get_mut(&id.job) {
            job.outcomes.push(id.index);
        }
        // After the outputs are held, so that a kernel may hand an input on.
        holds::read_by(&spec).for_each(|digest| self.holds.drop(digest));
    }

    /// Files the job among the finished ones if this was its last end.
    fn note_end(&mut self, number: JobNumber, at_unix_ms: u64) {
        if let Some(job) = self.jobs.get_mut(&number) {
            self.finished.remove(&(job.ended_unix_ms, number));
            job.ended_unix_ms = job.ended_unix_ms.max(at_unix_ms);
            if job.is_finished() {
                self.finished.insert((job.ended_unix_ms, number));
            }
        }
    }

    fn forget(&mut self, number: JobNumber) {
        self.last_job = self.last_job.max(number.0);
        // Only finished jobs are forgotten; cancelling first keeps the indices whole whatever the records say.
        self.cancel(number, 0);
        if let Some(job) = self.jobs.remove(&number) {
            self.by_id.remove(&job.id);
            self.finished.remove(&(job.ended_unix_ms, number));
            let ended = job.counts;
            self.counts.succeeded -= ended.succeeded;
            self.counts.failed -= ended.failed;
            self.counts.cancelled -= ended.cancelled;
        }
    }

    fn drop_job_holds(&mut self, number: JobNumber) {
        if let Some(job) = self.jobs.get_mut(&number) {
            let uploads = job.uploads.drain().map(|digest| (digest, 1));
            for (digest, count) in uploads.chain(job.outputs.drain()) {
                for _ in 0..count {
                    self.holds.drop(digest);
                }
            }
        }
    }

    fn add_worker(&mut self, hello: &WorkerHello, at: Timestamp) {
        let id = hello.id;
        self.unlist(id);
        let worker = self
            .workers
            .entry(id)
            .or_insert_with(|| Worker::new(hello.clone(), at));
        worker.hello = hello.clone();
        worker.seen_at = at;
        worker.disconnected_at = None;
        self.list(id);
        for held in &hello.held {
            if self.may_take_up(id, held.task, held.attempt) {
                if let Some(task) = self.task_mut(held.task) {
                    task.acquit(held.attempt);
                }
                self.begin_attempt(held.task, held.attempt, id, at);
            }
        }
        self.set_clocks(id, at);
    }

    fn remove_worker(&mut self, id: WorkerId) {
        self.unlist(id);
        let held = self.workers.remove(&id).map(|worker| worker.held);
        for (attempt, held) in held.into_iter().flatten() {
            if let Some(deadline) = held.deadline {
                self.time_limits.remove(&(deadline, id, attempt));
            }
            self.remove_live(held.task, attempt);
        }
    }

    fn begin_attempt(
        &mut self,
        id: TaskId,
        attempt: AttemptId,
        worker_id: WorkerId,
        at: Timestamp,
    ) {
        let alone =
            matches!(self.task(id), Some(task) if task.is_suspect(self.config.company_losses_max));
        let Some(task) = self.task_mut(id) else {
            return;
        };
        let entry = (attempt, worker_id);
        match &mut task.phase {
            Phase::Ended { .. } => return,
            Phase::Running { live } => live.push(entry),
            Phase::Waiting { .. } | Phase::Paused { .. } => {
                self.set_phase(id, Phase::Running { live: vec![entry] });
            }
        }
        self.change_worker(worker_id, |worker| {
            let held = Held {
                task: id,
                alone,
                deadline: None,
            };
            worker.held.insert(attempt, held);
        });
        self.set_clock(worker_id, attempt, at);
    }

    fn drop_attempt(
        &mut self,
        worker_id: WorkerId,
        attempt: AttemptId,
        end: AttemptEnd,
        at: Timestamp,
    ) {
        let Some(worker) = self.workers.get_mut(&worker_id) else {
            return;
        };
        match end {
            AttemptEnd::Succeeded => worker.succeeded_count += 1,
            AttemptEnd::Failed => worker.failed_count += 1,
            AttemptEnd::GivenBack | AttemptEnd::Stopped => {}
        }
        let mut held = None;
        self.change_worker(worker_id, |worker| held = worker.held.remove(&attempt));
        if let Some(deadline) = held.and_then(|held| held.deadline) {
            self.time_limits.remove(&(deadline, worker_id, attempt));
        }
        // The next one that waited on the worker has a slot now.
        let worker = self.workers.get(&worker_id);
        let last_running =
            worker.and_then(|worker| worker.held.keys().nth(worker.slot_count().checked_sub(1)?));
        if let Some(next) = last_running.copied() {
            self.set_clock(worker_id, next, at);
        }
    }

    fn set_clocks(&mut self, worker_id: WorkerId, at: Timestamp) {
        let worker = self.workers.get(&worker_id);
        let held: Vec<AttemptId> = worker.map_or_else(Vec::new, |worker| {
            worker
                .held
                .keys()
                .take(worker.slot_count())
                .copied()
                .collect()
        });
        for attempt in held {
            self.set_clock(worker_id, attempt, at);
        }
    }

    /// Starts the clock of a try that runs, if its task has a limit and it has no clock yet.
    fn set_clock(&mut self, worker_id: WorkerId, attempt: AttemptId, at: Timestamp) {
        let Some(worker) = self.workers.get(&worker_id) else {
            return;
        };
        let Some(held) = worker.held.get(&attempt).copied() else {
            return;
        };
        let limit_ms = self
            .task(held.task)
            .map_or(0, |task| task.spec.time_limit_ms);
        if limit_ms == 0 || held.deadline.is_some() || !worker.is_running(attempt) {
            return;
        }
        let deadline = at.after_ms(limit_ms);
        self.time_limits.insert((deadline, worker_id, attempt));
        let worker = self.workers.get_mut(&worker_id);
        if let Some(held) = worker.and_then(|worker| worker.held.get_mut(&attempt)) {
            held.deadline = Some(deadline);
        }
    }

    fn remove_live(&mut self, id: TaskId, attempt: AttemptId) {
        let Some(task) = self.task_mut(id) else {
            return;
        };
        if let Phase::Running { live } = &mut task.phase {
            live.retain(|(other, _)| *other != attempt);
            if live.is_empty() {
                self.set_waiting(id);
            }
        }
    }

    fn set_waiting(&mut self, id: TaskId) {
        if let Some(task) = self.task(id) {
            let alone = task.is_suspect(self.config.company_losses_max);
            self.set_phase(id, Phase::Waiting { alone });
        }
    }

    /// The one place where a task changes phase, so that counts and indices follow.
    fn set_phase(&mut self, id: TaskId, to: Phase) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let (owner, turn) = (job.owner.clone(), Turn::new(job.priority, id));
        let index = usize::try_from(id.index).unwrap_or(usize::MAX);
        let Some(task) = job.tasks.get_mut(index) else {
            return;
        };
        let kind = task.spec.kind.clone();
        let from = task.phase.state();
        match &task.phase {
            Phase::Waiting { alone: false } => self.ready.remove(&kind, &owner, turn),
            Phase::Waiting { alone: true } => {
                self.suspects.remove(&turn);
            }
            Phase::Paused { until } => {
                self.paused.remove(&(*until, id));
            }
            Phase::Running { .. } => self.ready.end(&owner),
            Phase::Ended { .. } => {}
        }
        match &to {
            Phase::Waiting { alone: false } => self.ready.insert(&kind, &owner, turn),
            Phase::Waiting { alone: true } => {
                self.suspects.insert(turn);
            }
            Phase::Paused { until } => {
                self.paused.insert((*until, id));
            }
            Phase::Running { .. } => self.ready.begin(&owner),
            Phase::Ended { .. } => {}
        }
        for counts in [&mut job.counts, &mut self.counts] {
            *counts.of_state(from) -= 1;
            *counts.of_state(to.state()) += 1;
        }
        task.phase = to;
    }

    fn change_worker(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
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
        if old.load_permille != new.load_permille {
            let kinds = &worker.hello.kinds;
            if let Some(load) = old.load_permille {
                self.ready.close(kinds, load, id);
            }
            if let Some(load) = new.load_permille {
                self.ready.open(kinds, load, id);
            }
        }
        if let Some(count) = old.queued_count {
            self.queueing.remove(&(count, id));
        }
        if let Some(count) = new.queued_count {
            self.queueing.insert((count, id));
        }
        if let Some(deadline) = old.deadline {
            self.leases.remove(&(deadline, id));
        }
        if let Some(deadline) = new.deadline {
            self.leases.insert((deadline, id));
        }
    }

    fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let job = self.jobs.get_mut(&id.job)?;
        job.tasks.get_mut(usize::try_from(id.index).ok()?)
    }
}
