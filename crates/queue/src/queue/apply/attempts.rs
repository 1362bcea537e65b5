//! Tries: begun on a worker, run there or wait behind others, and over.

use super::super::Queue;
use crate::{
    AttemptEnd, AttemptId, Failure, JobNumber, Kind, Outcome, TaskId, Timestamp, WorkerId,
    job::Phase,
    kind_stats::KindStats,
    ready::CANDIDATE_COUNT_MAX,
    worker::{Held, Trust},
};

impl Queue {
    pub(super) fn begin_attempt(
        &mut self,
        id: TaskId,
        attempt: AttemptId,
        worker_id: WorkerId,
        is_given_out: bool,
        at: Timestamp,
    ) {
        let (Some(job), Some(task)) = (self.job(id.job), self.task(id)) else {
            return;
        };
        let owner = job.owner.clone();
        let resources = task.spec.resources;
        let expected_us = self.expected_us(task.kind());
        let charged_us = expected_us.saturating_mul(u64::from(resources.slot_count));
        let held = Held {
            task: id,
            resources,
            expected_us,
            given_at: is_given_out.then_some(at),
            charged_us,
            alone: task.is_suspect(self.config.company_losses_max),
            running_since: None,
            is_of_this_kernel: is_given_out,
            deadline: None,
        };
        let entry = (attempt, worker_id);
        let Some(task) = self.task_mut(id) else {
            return;
        };
        match &mut task.phase {
            Phase::Ended { .. } => return,
            Phase::Running { live } => live.push(entry),
            Phase::Blocked | Phase::Waiting { .. } | Phase::Paused { .. } => {
                self.set_phase(id, Phase::Running { live: vec![entry] });
            }
        }
        self.ready.shares.charge(&owner, signed(charged_us));
        self.change_worker(worker_id, |worker| worker.book.insert(attempt, held));
        self.set_clocks(worker_id, at);
    }

    /// Counts it for the tasks whose turn it was when a later one was given out for the bytes its worker holds.
    pub(super) fn note_passed_over(&mut self, id: TaskId) {
        let (Some(job), Some(task)) = (self.job(id.job), self.task(id)) else {
            return;
        };
        let waits = matches!(task.phase, Phase::Waiting { alone: false });
        if !waits {
            return;
        }
        let lane = task.lane();
        let turns = self.ready.next_turns(&lane, &job.owner);
        let before = turns.map(|turn| turn.task).take_while(|other| *other != id);
        let passed: Vec<TaskId> = before.take(CANDIDATE_COUNT_MAX).collect();
        for other in passed {
            if let Some(task) = self.task_mut(other) {
                task.passed_over_count = task.passed_over_count.saturating_add(1);
            }
        }
    }

    pub(super) fn drop_attempt(
        &mut self,
        worker_id: WorkerId,
        attempt: AttemptId,
        end: AttemptEnd,
        at: Timestamp,
    ) {
        let Some(worker) = self.workers.get(&worker_id) else {
            return;
        };
        let Some(held) = worker.book.get(attempt).copied() else {
            return;
        };
        self.settle(worker_id, attempt, &held, at);
        let kind = self.task(held.task).map(|task| task.kind().clone());
        self.change_worker(worker_id, |worker| {
            worker.book.remove(attempt);
            match end {
                AttemptEnd::Succeeded => {
                    worker.succeeded_count += 1;
                    worker.trust = Trust::Full;
                    worker.streaks.note_success(kind.as_ref());
                }
                AttemptEnd::Failed | AttemptEnd::OutOfTime => {
                    worker.failed_count += 1;
                    worker.streaks.note_failure(kind.as_ref(), at);
                }
                AttemptEnd::GivenBack | AttemptEnd::Stopped => {}
            }
        });
        if let (AttemptEnd::Succeeded, Some(kind)) = (end, kind) {
            let stats = self.kind_stats.entry(kind).or_default();
            stats.note_success(worker_id, at);
        }
        // Those that waited on the worker behind it may have slots now.
        self.set_clocks(worker_id, at);
    }

    /// Charges the owner for what a try really took, and stops its clock.
    pub(super) fn settle(
        &mut self,
        worker_id: WorkerId,
        attempt: AttemptId,
        held: &Held,
        at: Timestamp,
    ) {
        if let Some(deadline) = held.deadline {
            self.time_limits.remove(&(deadline, worker_id, attempt));
        }
        if let Some(owner) = self.job(held.task.job).map(|job| job.owner.clone()) {
            let used = held.used_us(at);
            self.ready
                .shares
                .charge(&owner, signed(used) - signed(held.charged_us));
        }
    }

    /// Charges owners for what tries on a worker took beyond what was expected, rather than when they end.
    pub(super) fn charge_overruns(&mut self, worker_id: WorkerId, at: Timestamp) {
        let Some(worker) = self.workers.get_mut(&worker_id) else {
            return;
        };
        for (task, more_us) in worker.book.charge_until(at) {
            if let Some(job) = self.jobs.get(&task.job) {
                self.ready.shares.charge(&job.owner, signed(more_us));
            }
        }
    }

    /// Starts the clocks of the tries on a worker that run and have none.
    pub(super) fn set_clocks(&mut self, worker_id: WorkerId, at: Timestamp) {
        let Some(worker) = self.workers.get(&worker_id) else {
            return;
        };
        let new = worker
            .running()
            .filter(|(_, held)| held.running_since.is_none());
        let new: Vec<(AttemptId, TaskId)> =
            new.map(|(attempt, held)| (attempt, held.task)).collect();
        for (attempt, task) in new {
            let limit_ms = self.task(task).map_or(0, |task| task.spec.time_limit_ms);
            let deadline = (limit_ms > 0).then(|| at.after_ms(limit_ms));
            if let Some(deadline) = deadline {
                self.time_limits.insert((deadline, worker_id, attempt));
            }
            if let Some(worker) = self.workers.get_mut(&worker_id) {
                worker.book.start(attempt, at, deadline);
            }
        }
    }

    pub(super) fn fail_attempt(
        &mut self,
        id: TaskId,
        attempt: AttemptId,
        worker: Option<WorkerId>,
        failure: &Failure,
        retry_at: Timestamp,
    ) {
        let broker_start = self.config.broker_start;
        if matches!(self.task(id), Some(task) if task.phase.is_listed()) {
            // After a restart. Where it failed says among which tasks it waits.
            let until = Timestamp::default();
            self.set_phase(id, Phase::Paused { until });
        }
        let Some(task) = self.task_mut(id) else {
            return;
        };
        if task.outcome().is_some() {
            return;
        }
        task.remember(attempt, worker, failure);
        match &mut task.phase {
            Phase::Running { live } => {
                live.retain(|(other, _)| *other != attempt);
                if !live.is_empty() {
                    return;
                }
            }
            // After a restart its dependencies are found before its failures.
            Phase::Blocked => return,
            Phase::Waiting { .. } | Phase::Paused { .. } | Phase::Ended { .. } => {}
        }
        // An attempt of an earlier start was timed by another clock: its pause counts as over.
        if attempt.broker_start == broker_start && retry_at > Timestamp::default() {
            self.set_phase(id, Phase::Paused { until: retry_at });
        } else {
            self.set_waiting(id);
        }
    }

    pub(super) fn acquit(&mut self, id: TaskId, attempt: AttemptId) {
        let Some(task) = self.task_mut(id) else {
            return;
        };
        task.acquit(attempt);
        if matches!(task.phase, Phase::Waiting { .. }) {
            // It may be no suspect any more.
            self.set_waiting(id);
        }
    }

    /// Only from the worker that has it: another may claim it, and be told to stop.
    pub(super) fn remove_live(&mut self, id: TaskId, attempt: AttemptId, worker: WorkerId) {
        let Some(task) = self.task_mut(id) else {
            return;
        };
        if let Phase::Running { live } = &mut task.phase {
            live.retain(|other| *other != (attempt, worker));
            if live.is_empty() {
                self.set_waiting(id);
            }
        }
    }

    /// Learns from an outcome how long tasks of its kind take, and of its job.
    pub(super) fn note_duration(&mut self, kind: &Kind, job: JobNumber, outcome: &Outcome) {
        if outcome.reused {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&job) {
            job.run_ms_sum = job.run_ms_sum.saturating_add(outcome.run_ms);
        }
        if !self.kind_stats.contains_key(kind) {
            self.kind_stats.insert(kind.clone(), KindStats::default());
        }
        if let Some(stats) = self.kind_stats.get_mut(kind) {
            stats.learn(outcome.run_ms, outcome.worker_name.as_ref());
        }
    }

    /// What a task of a kind takes, in microseconds, as far as is known.
    pub(in crate::queue) fn expected_us(&self, kind: &Kind) -> u64 {
        /// So that of an unknown kind few are sent ahead.
        const UNKNOWN_US: u64 = 1_000_000;
        let stats = self.kind_stats.get(kind);
        stats
            .and_then(|stats| stats.average_us)
            .unwrap_or(UNKNOWN_US)
    }
}

fn signed(slot_us: u64) -> i64 {
    i64::try_from(slot_us).unwrap_or(i64::MAX)
}
