//! How tries end: reported by their worker, out of time, or lost with it.

use super::super::Queue;
use crate::{
    AttemptEnd, AttemptId, Event, Failure, FailureClass, HeldAttempt, Made, Now, Outcome,
    OutcomeResult, Refusal, Task, TaskId, TaskResult, Timestamp, Worker, WorkerId,
    worker::{Held, Trust},
};
use std::sync::Arc;

/// What an outcome says beyond which task it is of.
struct End {
    result: OutcomeResult,
    worker_name: Option<Arc<str>>,
    run_ms: u64,
    made_by: Option<Made>,
}

impl Queue {
    pub(in crate::queue) fn report(
        &self,
        worker_id: WorkerId,
        held: HeldAttempt,
        result: TaskResult,
        run_ms: u64,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let worker = self.worker(worker_id).ok_or(Refusal::UnknownWorker)?;
        let HeldAttempt { task: id, attempt } = held;
        // Not its own, or no longer: told before and the answer lost, or overtaken. Nothing to say either way.
        let book = worker.book.get(attempt).filter(|held| held.task == id);
        let (Some(book), Some(task)) = (book, self.task(id)) else {
            return Ok(Vec::new());
        };
        let run_ms = run_ms.min(self.lifetime_ms(id, book, now));
        let name = Some(worker.hello.name.clone());
        let ended = |end| self.ended(id, attempt, worker_id, end, now);
        match result {
            TaskResult::Stopped => Ok(vec![ended(AttemptEnd::GivenBack)]),
            TaskResult::Succeeded(output) => {
                let result = OutcomeResult::Succeeded(output);
                let made_by = self.made_by(worker_id, task);
                let end = End {
                    result,
                    worker_name: name,
                    run_ms,
                    made_by: made_by.filter(|_| book.is_of_this_kernel),
                };
                let mut events = self.end(id, task, end, attempt, now);
                events.push(ended(AttemptEnd::Succeeded));
                Ok(events)
            }
            TaskResult::Failed(mut failure) => {
                // Only the broker knows whether a worker was lost; a worker that says so itself was not.
                if matches!(
                    failure.class,
                    FailureClass::WorkerLost | FailureClass::KilledWorkers
                ) {
                    failure.class = FailureClass::KernelError;
                }
                // The task's fault, whoever finds out.
                let is_of_the_task = matches!(
                    failure.class,
                    FailureClass::BadInput | FailureClass::TimedOut
                );
                let mut events = self.fail(id, task, attempt, failure, name, run_ms, now);
                if is_of_the_task {
                    events.push(ended(AttemptEnd::GivenBack));
                } else {
                    events.push(ended(AttemptEnd::Failed));
                    events.extend(self.distrust(worker, task, now));
                }
                Ok(events)
            }
        }
    }

    /// A try cannot have run for longer: sums and averages are to be spared what no clock could have measured.
    fn lifetime_ms(&self, id: TaskId, held: &Held, now: Now) -> u64 {
        match held.given_at {
            Some(given_at) => now.at.0.saturating_sub(given_at.0),
            // It may be older than this broker's start, but not than its job.
            None => self
                .job(id.job)
                .map_or(0, |job| now.unix_ms.saturating_sub(job.created_unix_ms)),
        }
    }

    /// The event by which a worker is rid of a try.
    pub(super) fn ended(
        &self,
        task: TaskId,
        attempt: AttemptId,
        worker: WorkerId,
        end: AttemptEnd,
        now: Now,
    ) -> Event {
        Event::AttemptEnded {
            task,
            attempt,
            worker,
            end,
            at: now.at,
        }
    }

    /// A try failed by itself: another follows, or the task has failed.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn fail(
        &self,
        id: TaskId,
        task: &Task,
        attempt: AttemptId,
        failure: Failure,
        worker_name: Option<Arc<str>>,
        run_ms: u64,
        now: Now,
    ) -> Vec<Event> {
        let failed_count = task.failed_count() + 1;
        let failed_count_max = task.spec.attempts_max.max(1) as usize;
        if failure.class == FailureClass::BadInput || failed_count >= failed_count_max {
            let end = End {
                result: OutcomeResult::Failed(failure),
                worker_name,
                run_ms,
                made_by: None,
            };
            return self.end(id, task, end, attempt, now);
        }
        vec![Event::AttemptFailed {
            task: id,
            attempt,
            worker: worker_of(task, attempt),
            failure,
            retry_at: now.at.after_ms(self.pause_ms(failed_count)),
        }]
    }

    /// A try was lost with its worker. `company_count` others ran beside it.
    pub(super) fn lose(
        &self,
        id: TaskId,
        task: &Task,
        attempt: AttemptId,
        worker_name: &Arc<str>,
        company_count: usize,
        now: Now,
    ) -> Vec<Event> {
        let alone = company_count == 0;
        let killed_count = task.lost_alone_count() + 1;
        let class = if alone {
            FailureClass::KilledWorkers
        } else {
            FailureClass::WorkerLost
        };
        let message = if alone {
            format!("worker {worker_name} was lost while it ran this task alone")
        } else {
            format!("worker {worker_name} was lost while it ran this task and {company_count} more")
        };
        let failure = Failure { class, message };
        if alone && killed_count >= self.config.killed_workers_max {
            let failure = Failure {
                class,
                message: format!(
                    "took down {killed_count} workers by itself, the last of them {worker_name}"
                ),
            };
            let end = End {
                result: OutcomeResult::Failed(failure),
                worker_name: None,
                run_ms: 0,
                made_by: None,
            };
            return self.end(id, task, end, attempt, now);
        }
        vec![Event::AttemptFailed {
            task: id,
            attempt,
            worker: worker_of(task, attempt),
            failure,
            // It was not its fault as far as anyone knows: no pause.
            retry_at: Timestamp::default(),
        }]
    }

    /// The task's outcome, and the stop of every other try at it.
    fn end(&self, id: TaskId, task: &Task, end: End, attempt: AttemptId, now: Now) -> Vec<Event> {
        let outcome = Event::TaskEnded {
            outcome: Outcome {
                task: id,
                sequence: self.job(id.job).map_or(1, |job| job.next_sequence()),
                result: end.result,
                worker_name: end.worker_name,
                run_ms: end.run_ms,
                generation: task.generation,
                reused: false,
                made_by: end.made_by,
            },
            at_unix_ms: now.unix_ms,
        };
        let others = task.live().iter().filter(|(other, _)| *other != attempt);
        let stopped =
            others.map(|(other, worker)| self.ended(id, *other, *worker, AttemptEnd::Stopped, now));
        std::iter::once(outcome).chain(stopped).collect()
    }

    /// What one more failure in a row says of a worker, if others do well meanwhile: else it may be the tasks.
    pub(super) fn distrust(&self, worker: &Worker, task: &Task, now: Now) -> Option<Event> {
        let config = &self.config;
        let pause_ms = match worker.trust {
            Trust::Full => {
                let streak = worker.streaks.with_failure(task.kind(), now.at);
                let is_enough = streak.failures_in_row >= config.failures_in_row_max;
                let stats = self.kind_stats.get(task.kind()).filter(|_| is_enough)?;
                let others_succeed = match stats.succeeded_at {
                    // Its own success would have ended the row.
                    Some(at) if at > streak.since => true,
                    // The good ones may be busy for long.
                    _ => {
                        !streak.ever_succeeded
                            && stats.is_done_by_others(worker.hello.id, &worker.hello.name)
                    }
                };
                others_succeed.then_some(config.probation_ms)?
            }
            Trust::Trial { pause_ms } => pause_ms
                .saturating_mul(2)
                .min(config.probation_ms_max)
                .max(config.probation_ms),
            // A try that was begun before.
            Trust::Probation { .. } => return None,
        };
        Some(Event::WorkerOnProbation {
            worker: worker.hello.id,
            until: now.at.after_ms(pause_ms),
            pause_ms,
        })
    }

    fn pause_ms(&self, failed_count: usize) -> u64 {
        let doublings = u32::try_from(failed_count.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
        self.config
            .retry_ms
            .saturating_mul(factor)
            .min(self.config.retry_ms_max)
    }
}

/// Who has a live try.
fn worker_of(task: &Task, attempt: AttemptId) -> Option<WorkerId> {
    let mut live = task.live().iter();
    live.find(|(other, _)| *other == attempt)
        .map(|(_, worker)| *worker)
}
