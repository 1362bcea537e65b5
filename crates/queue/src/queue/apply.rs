//! Folding events in. Live traffic and restart both come through here.
//!
//! An event about something unknown changes nothing: after a restart, records may speak of jobs forgotten since. Here is
//! only which event goes where, and the one place where a task changes phase; jobs, the ends of tasks, attempts and
//! workers have a file each.

mod attempts;
mod ends;
mod fleet;
mod jobs;

use super::Queue;
use crate::{Event, Job, JobNumber, Task, TaskCounts, TaskId, Timestamp, job::Phase, turns::Turn};

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
                terms,
                created_unix_ms,
            } => self.add_job(Job {
                number: *job,
                id: *id,
                owner: owner.clone(),
                name: name.clone(),
                priority: *priority,
                terms: *terms,
                created_unix_ms: *created_unix_ms,
                idle_since_unix_ms: *created_unix_ms,
                closed: false,
                cancelled: false,
                tasks: Vec::new(),
                outcomes: Vec::new(),
                counts: TaskCounts::default(),
                keys: Default::default(),
                dependents: Default::default(),
                fences: Default::default(),
                running: Default::default(),
                needs: Default::default(),
                run_ms_sum: 0,
                watcher_count: 0,
                customer_seen_at: Timestamp::default(),
                listed_absence: None,
                listed_due_at_unix_ms: None,
                listed_open: false,
                uploads: Default::default(),
                outputs: Default::default(),
            }),
            Event::TasksSubmitted {
                job,
                first_index,
                specs,
            } => self.add_tasks(*job, *first_index, specs),
            Event::JobClosed { job, at_unix_ms } => self.set_closed(*job, *at_unix_ms),
            Event::JobCancelled { job, at_unix_ms } => self.cancel_job_whole(*job, *at_unix_ms),
            Event::TasksCancelled {
                job,
                indices,
                at_unix_ms,
            } => self.cancel_some(*job, indices, *at_unix_ms),
            Event::TasksRerun {
                job,
                indices,
                fence,
            } => self.rerun_tasks(*job, indices, *fence),
            Event::RerunSkipped { .. } => {}
            Event::BlobHeld { job, blob } => self.add_upload(*job, blob),
            Event::BlobsReleased { job, digests } => self.release(*job, digests),
            Event::AttemptFailed {
                task,
                attempt,
                worker,
                failure,
                retry_at,
            } => self.fail_attempt(*task, *attempt, *worker, failure, *retry_at),
            Event::AttemptAcquitted { task, attempt } => self.acquit(*task, *attempt),
            Event::TaskEnded {
                outcome,
                at_unix_ms,
            } => {
                self.end_task(outcome.clone());
                self.note_end(outcome.task.job, *at_unix_ms);
            }
            Event::JobForgotten { job } => self.forget(*job),
            Event::CustomerSeen { job, at } => self.see_customer(*job, 0, *at),
            Event::CustomerWatches {
                job,
                begins,
                at,
                at_unix_ms,
            } => {
                self.see_customer(*job, if *begins { 1 } else { -1 }, *at);
                self.note_end(*job, *at_unix_ms);
            }
            Event::WorkerJoined { hello, at } => self.add_worker(hello, *at),
            Event::WorkerSeen { worker, at } => {
                self.change_worker(*worker, |worker| {
                    worker.seen_at = worker.seen_at.max(*at);
                });
                self.charge_overruns(*worker, *at);
            }
            Event::WorkerDisconnected { worker, at } => {
                self.change_worker(*worker, |worker| worker.disconnected_at = Some(*at));
            }
            Event::WorkerDraining { worker } => {
                self.change_worker(*worker, |worker| worker.draining = true);
            }
            Event::WorkerAvailability {
                worker,
                busy_reason,
            } => self.change_worker(*worker, |worker| worker.busy_reason = busy_reason.clone()),
            Event::HoldingsNoted { worker, changes } => {
                if self.workers.contains_key(worker) {
                    self.holdings.note(*worker, changes);
                }
            }
            Event::WorkerOnProbation {
                worker,
                until,
                pause_ms,
            } => self.put_on_probation(*worker, *until, *pause_ms),
            Event::WorkerOnTrial { worker } => self.put_on_trial(*worker),
            Event::WorkerGone { worker } => self.remove_worker(*worker),
            // What was awaited is due at the same moment, like any other pause.
            Event::ComebackOver => {
                self.missing.clear();
                self.awaited.clear();
            }
            Event::AttemptStarted {
                task,
                attempt,
                worker,
                at,
            } => {
                self.last_attempt = self.last_attempt.max(attempt.n);
                if let Some(begun) = self.task_mut(*task) {
                    begun.attempts_begun = begun.attempts_begun.saturating_add(1);
                    if begun.has_inputs() {
                        self.note_passed_over(*task);
                    }
                }
                self.begin_attempt(*task, *attempt, *worker, true, *at);
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
                self.remove_live(*task, *attempt, *worker);
            }
        }
    }

    /// Lets a task wait for a worker, unless one of before the restart may have it.
    fn set_waiting(&mut self, id: TaskId) {
        if self.awaited_of(id).next().is_none() {
            self.set_ready(id);
        } else {
            let until = self.comeback_ends_at();
            self.set_phase(id, Phase::Paused { until });
        }
    }

    fn set_ready(&mut self, id: TaskId) {
        if let Some(task) = self.task(id) {
            let alone = task.is_suspect(self.config.company_losses_max);
            self.set_phase(id, Phase::Waiting { alone });
        }
    }

    /// The one place where a task changes phase, so that counts and indices follow.
    fn set_phase(&mut self, id: TaskId, to: Phase) {
        if matches!(to, Phase::Waiting { .. }) {
            self.learn_need_of(id);
        }
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let (owner, turn) = (job.owner.clone(), Turn::new(job.priority, id));
        let index = usize::try_from(id.index).unwrap_or(usize::MAX);
        let Some(task) = job.tasks.get_mut(index) else {
            return;
        };
        let (from, lane) = (task.phase.state(), task.lane());
        let need = &lane.need;
        let (waited, waits) = (task.phase.is_listed(), to.is_listed());
        match &task.phase {
            Phase::Waiting { alone: false } => self.ready.remove(&lane, &owner, turn),
            Phase::Waiting { alone: true } => {
                self.ready.remove_alone(need, turn);
            }
            Phase::Paused { until } => {
                self.paused.remove(&(*until, id));
            }
            Phase::Running { .. } => {
                job.running.remove(&id.index);
            }
            Phase::Blocked | Phase::Ended { .. } => {}
        }
        match &to {
            Phase::Waiting { alone: false } => self.ready.insert(&lane, &owner, turn),
            Phase::Waiting { alone: true } => {
                self.ready.insert_alone(need, turn);
            }
            Phase::Paused { until } => {
                self.paused.insert((*until, id));
            }
            Phase::Running { .. } => {
                job.running.insert(id.index);
            }
            Phase::Blocked | Phase::Ended { .. } => {}
        }
        for counts in [&mut job.counts, &mut self.counts] {
            *counts.of_state(from) -= 1;
            *counts.of_state(to.state()) += 1;
        }
        task.phase = to;
        if waited {
            job.drop_need(need);
        }
        if waits {
            job.add_need(need);
        }
        self.file_near_end(id.job);
    }

    fn file_near_end(&mut self, number: JobNumber) {
        if self.jobs.get(&number).is_some_and(Job::is_near_end) {
            self.near_end.insert(number);
        } else {
            self.near_end.remove(&number);
        }
    }

    /// Sees to it that workers are listed under what a task demands, before it is.
    fn learn_need_of(&mut self, id: TaskId) {
        let Some(need) = self.task(id).map(Task::need) else {
            return;
        };
        if self.ready.knows(&need) {
            return;
        }
        self.ready.learn(&need);
        for (worker_id, worker) in &self.workers {
            self.ready
                .place(&need, *worker_id, worker.standing_under(&need));
        }
    }

    fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let job = self.jobs.get_mut(&id.job)?;
        job.tasks.get_mut(usize::try_from(id.index).ok()?)
    }

    fn job_mut(&mut self, number: JobNumber) -> Option<&mut Job> {
        self.jobs.get_mut(&number)
    }
}
