//! Who gets the next task.
//!
//! In this order: a task under suspicion, to a worker that holds nothing; the task whose turn it is, to the least loaded
//! worker that could take it, or the one that holds most of what it reads; when nothing waits, a try that waits behind others on one worker, to a worker with a
//! free slot; and near the end of a job, a second copy of a slow task. A task that was computed before is answered
//! instead of being given out.

use super::super::Queue;
use crate::{
    AttemptEnd, AttemptId, Event, Made, Now, Outcome, OutcomeResult, Task, TaskId, WorkerId,
    ready::CANDIDATE_COUNT_MAX,
};

impl Queue {
    /// The events by which one task is given out or answered; none if none can be.
    pub(in crate::queue) fn dispatch(&self, now: Now) -> Vec<Event> {
        let mut reserved = None;
        for (turn, need) in self.ready.next_alone() {
            let Some(task) = self.task(turn.task) else {
                continue;
            };
            let mut open = self.ready.open(need);
            match open.find(|(_, worker)| self.may_try(task, *worker)) {
                Some((0, worker)) => return vec![self.started(turn.task, worker, now)],
                // It gets nothing new until it is empty; else suspects would wait for as long as others do.
                Some((_, worker)) => reserved = reserved.or(Some(worker)),
                None => {}
            }
        }
        if let Some((id, worker)) = self.next_match(reserved) {
            let answer = self.answer_from_before(id, worker, now);
            return vec![answer.unwrap_or_else(|| self.started(id, worker, now))];
        }
        let levelled = self.level(reserved, now);
        if levelled.is_empty() {
            self.second_copy(reserved, now)
        } else {
            levelled
        }
    }

    /// The task whose turn it is, and its worker.
    fn next_match(&self, reserved: Option<WorkerId>) -> Option<(TaskId, WorkerId)> {
        let may_try = |id, worker| self.task(id).is_some_and(|task| self.may_try(task, worker));
        let (id, need) = self.ready.pick(reserved, may_try)?;
        let task = self.task(id)?;
        if task.has_inputs() {
            let lane = task.lane();
            let turns = self.ready.next_turns(&lane, &self.job(id.job)?.owner);
            let turns = turns.skip_while(|turn| turn.task != id);
            return self.nearest_match(task, turns, need, reserved);
        }
        let mut open = self.ready.open(need).map(|(_, worker)| worker);
        let worker =
            open.find(|worker| Some(*worker) != reserved && self.may_try(task, *worker))?;
        Some((id, worker))
    }

    /// Whether a task may go to a worker: not to one on which it failed, while another could take it some time.
    pub(super) fn may_try(&self, task: &Task, worker: WorkerId) -> bool {
        !task.failed_on(worker) || {
            let need = task.need();
            let mut able = self.ready.able(&need);
            able.all(|other| task.failed_on(other))
        }
    }

    /// The end of a task whose equal has given an output that is still kept.
    fn answer_from_before(&self, id: TaskId, worker: WorkerId, now: Now) -> Option<Event> {
        let (job, task) = (self.job(id.job)?, self.task(id)?);
        // Who asks for a rerun wants it computed.
        if !job.terms.reuse || task.generation > 0 {
            return None;
        }
        // Rather what this worker would give.
        let own = self.made_by(worker, task);
        let others = self.makers.of(task.kind());
        let mades = own.iter().chain(others).take(CANDIDATE_COUNT_MAX);
        let (output, source) = self.recall(id, mades)?;
        let made = source.made_by.clone()?;
        Some(Event::TaskEnded {
            outcome: Outcome {
                task: id,
                sequence: job.next_sequence(),
                result: OutcomeResult::Succeeded(output.clone()),
                worker_name: source.worker_name.clone(),
                run_ms: 0,
                generation: task.generation,
                reused: true,
                made_by: Some(made),
            },
            at_unix_ms: now.unix_ms,
        })
    }

    /// What a worker's result of a task could be given again for, if it could.
    pub(super) fn made_by(&self, worker: WorkerId, task: &Task) -> Option<Made> {
        task.spec.parameters_digest?;
        let worker = self.worker(worker)?;
        let kernel = worker.kernel(task.kind())?;
        kernel.deterministic.then(|| Made {
            revision: kernel.revision,
            instruction_class: worker.hello.instruction_class.clone(),
        })
    }

    /// Moves one try from a worker on which it waits to one where it can run.
    fn level(&self, reserved: Option<WorkerId>, now: Now) -> Vec<Event> {
        for (_, from) in self.queueing.iter().rev().take(CANDIDATE_COUNT_MAX) {
            let last = self.worker(*from).and_then(|worker| worker.last_queued());
            let Some((attempt, held)) = last else {
                continue;
            };
            let Some(task) = self.task(held.task) else {
                continue;
            };
            if let Some(to) = self.with_free_slots(task, reserved) {
                let stopped = self.ended(held.task, attempt, *from, AttemptEnd::Stopped, now);
                return vec![stopped, self.started(held.task, to, now)];
            }
        }
        Vec::new()
    }

    /// Gives a slot that idles the slowest task of a job near its end: the worker that has it may be slow, or stuck.
    fn second_copy(&self, reserved: Option<WorkerId>, now: Now) -> Vec<Event> {
        let jobs = self.near_end.iter().take(CANDIDATE_COUNT_MAX);
        let slow = jobs.filter_map(|number| self.job(*number)).flat_map(|job| {
            let enough_ms = self.slow_after_ms(job);
            let running = job.running.iter().take(CANDIDATE_COUNT_MAX);
            running.filter_map(move |index| {
                let id = TaskId {
                    job: job.number,
                    index: *index,
                };
                let since = self.only_run_since(id)?;
                (now.at.0.saturating_sub(since) >= enough_ms).then_some((since, id))
            })
        });
        let mut slow: Vec<(u64, TaskId)> = slow.collect();
        slow.sort_unstable();
        for (_, id) in slow {
            if let Some(task) = self.task(id)
                && let Some(worker) = self.with_free_slots(task, reserved)
            {
                return vec![self.started(id, worker, now)];
            }
        }
        Vec::new()
    }

    /// How long a task of a job runs before it counts as slow. Without a task that is done nobody knows.
    fn slow_after_ms(&self, job: &crate::Job) -> u64 {
        match job.run_ms_sum.checked_div(job.counts.succeeded) {
            None => u64::MAX,
            Some(average_ms) => average_ms
                .saturating_mul(self.config.second_copy_percent)
                .checked_div(100)
                .unwrap_or(u64::MAX)
                .max(self.config.second_copy_ms_min),
        }
    }

    /// Since when a task runs, if it does so once, and nothing speaks against doing it twice.
    fn only_run_since(&self, id: TaskId) -> Option<u64> {
        let task = self.task(id)?;
        let [(attempt, worker)] = task.live() else {
            return None;
        };
        // Both may fail, and the one that does well must not find its task failed.
        if task.failed_count() + 2 > task.spec.attempts_max.max(1) as usize {
            return None;
        }
        let held = self.worker(*worker)?.book.get(*attempt)?;
        let since = held.running_since.filter(|_| !held.alone)?;
        Some(since.0)
    }

    /// A worker that could run a task at once, other than those that have it or failed it: the one that holds most of it.
    fn with_free_slots(&self, task: &Task, reserved: Option<WorkerId>) -> Option<WorkerId> {
        let has_it = |id: WorkerId| task.live().iter().any(|(_, other)| *other == id);
        let need = task.need();
        let open = self.ready.open(&need).map(|(_, id)| id);
        let free = open.filter(|id| {
            Some(*id) != reserved
                && !has_it(*id)
                && !task.failed_on(*id)
                && self.has_free_slots(*id, task)
        });
        self.nearest(task, free)
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
