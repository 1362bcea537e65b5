//! How tasks end and begin anew, and what that means for the tasks that wait for them.

use super::super::Queue;
use crate::{
    AttemptId, Failure, FailureClass, InputSource, JobNumber, Outcome, OutcomeResult, Output,
    TaskId, TaskState, WorkerId, holds,
    job::{AFTER, Needed, Phase},
};
use std::sync::Arc;

impl Queue {
    /// Folds in an outcome that came from outside. A task has but one in each generation.
    pub(super) fn end_task(&mut self, outcome: Outcome) {
        let id = outcome.task;
        let failed = matches!(outcome.result, OutcomeResult::Failed(_));
        if self.record_end(outcome) {
            if failed {
                self.fail_dependents(id, "failed");
            } else {
                self.feed_dependents(id);
            }
        }
    }

    /// Ends a task that has not ended, by a result that follows from another event. Whether it had not.
    pub(super) fn end_unfinished(&mut self, id: TaskId, result: OutcomeResult) -> bool {
        let Some(task) = self.task(id) else {
            return false;
        };
        let (generation, sequence) = (
            task.generation,
            self.job(id.job).map_or(1, |job| job.next_sequence()),
        );
        self.record_end(Outcome {
            task: id,
            sequence,
            result,
            worker_name: None,
            run_ms: 0,
            generation,
            reused: false,
            made_by: None,
        })
    }

    fn record_end(&mut self, outcome: Outcome) -> bool {
        let id = outcome.task;
        let Some(task) = self.task(id) else {
            return false;
        };
        if task.outcome().is_some() || task.generation != outcome.generation {
            return false;
        }
        let (spec, parameters) = (task.spec.clone(), task.parameters.clone());
        let need = task.need();
        if let OutcomeResult::Succeeded(output) = &outcome.result {
            self.keep_output(id.job, output);
            self.note_duration(&spec.kind, id.job, &outcome);
            if outcome.made_by.is_some() {
                self.memorize(id, &outcome);
            }
        }
        let outcome = Arc::new(outcome);
        let ended = Phase::Ended {
            outcome: outcome.clone(),
        };
        self.set_phase(id, ended);
        self.ready.demand_no_more(&need);
        if let Some(job) = self.jobs.get_mut(&id.job) {
            job.outcomes.push(outcome);
            let bytes = spec.kept_bytes(&parameters);
            self.ready.shares.drop_unfinished(&job.owner, bytes);
        }
        // After the outputs are held, so that a kernel may hand an input on.
        holds::read_by(&spec, &parameters).for_each(|digest| self.holds.drop(digest));
        self.drop_what_was_fed(id);
        true
    }

    fn keep_output(&mut self, number: JobNumber, output: &Output) {
        if let Some(job) = self.jobs.get_mut(&number) {
            for digest in holds::given_by(output) {
                *job.outputs.entry(digest).or_default() += 1;
                self.holds.hold(digest);
            }
        }
    }

    /// Fails every task that waits for one that will not succeed, and those that wait for them.
    pub(super) fn fail_dependents(&mut self, id: TaskId, what_happened: &str) {
        let mut ended = vec![(id, what_happened)];
        while let Some((id, what_happened)) = ended.pop() {
            for index in self.dependents_of(id) {
                let dependent = TaskId { job: id.job, index };
                if self.is_blocked(dependent) {
                    let failure = failure_of_dependency(id, what_happened);
                    self.end_unfinished(dependent, OutcomeResult::Failed(failure));
                    ended.push((dependent, "failed"));
                }
            }
        }
    }

    /// Gives those that wait for a task what it gave.
    fn feed_dependents(&mut self, id: TaskId) {
        if !matches!(self.task(id), Some(task) if task.state() == TaskState::Succeeded) {
            return;
        }
        for index in self.dependents_of(id) {
            let dependent = TaskId { job: id.job, index };
            if self.is_blocked(dependent) && self.feed(dependent, id.index) {
                self.unblock(dependent);
            }
        }
    }

    /// What a task that was just submitted or rerun finds of what it needs.
    pub(super) fn take_what_is_there(&mut self, id: TaskId) {
        let open: Vec<u64> = self
            .task(id)
            .map_or_else(Vec::new, |task| task.waits_for().collect());
        for dependency in open {
            let other = TaskId {
                job: id.job,
                index: dependency,
            };
            let state = self.task(other).map(|task| task.state());
            let what_happened = match state {
                Some(TaskState::Succeeded) => {
                    if self.feed(id, dependency) {
                        continue;
                    }
                    return;
                }
                Some(TaskState::Waiting | TaskState::Running) => continue,
                Some(TaskState::Cancelled) => "was cancelled",
                Some(TaskState::Failed) | None => "failed",
            };
            let failure = failure_of_dependency(other, what_happened);
            self.end_unfinished(id, OutcomeResult::Failed(failure));
            return;
        }
        self.unblock(id);
    }

    fn unblock(&mut self, id: TaskId) {
        let task = self.task(id);
        let is_open = task.is_some_and(|task| task.waits_for().next().is_some());
        if !is_open && self.is_blocked(id) {
            self.set_waiting(id);
        }
    }

    /// Takes over what one task gave as the inputs of another that needs it. If it gave less than that, the other fails.
    fn feed(&mut self, id: TaskId, from: u64) -> bool {
        let giver = TaskId {
            job: id.job,
            index: from,
        };
        let (Some(given), Some(task)) = (self.task(giver), self.task(id)) else {
            return false;
        };
        let Some(OutcomeResult::Succeeded(output)) = given.outcome().map(|outcome| &outcome.result)
        else {
            return false;
        };
        let positions = task.needed.iter().flat_map(|needed| needed.given_by(from));
        let wanted = positions.filter_map(|position| {
            let InputSource::Output { part, .. } = task.spec.inputs.get(position)?.source else {
                return None;
            };
            Some((position, holds::part_of(output, part)))
        });
        let wanted: Vec<_> = wanted.collect();
        let mut fed = Vec::new();
        for (position, source) in wanted {
            let Some(source) = source else {
                let failure = failure_of_dependency(giver, "gave fewer blobs than it reads");
                self.end_unfinished(id, OutcomeResult::Failed(failure));
                self.fail_dependents(id, "failed");
                return false;
            };
            if holds::digest_of(&source).is_some_and(|digest| !self.holds.is_held(&digest)) {
                let failure = failure_of_dependency(giver, "gave what was released since");
                self.end_unfinished(id, OutcomeResult::Failed(failure));
                self.fail_dependents(id, "failed");
                return false;
            }
            fed.push((position, source));
        }
        self.holds.hold_all(
            fed.iter()
                .filter_map(|(_, source)| holds::digest_of(source)),
        );
        if let Some(needed) = self.task_mut(id).and_then(|task| task.needed.as_mut()) {
            for (position, _) in &fed {
                // Millions of inputs do not fit into a message.
                let position = u32::try_from(*position).unwrap_or(AFTER);
                needed.open.remove(&(from, position));
            }
            needed.open.remove(&(from, AFTER));
            needed.inputs.extend(fed);
        }
        true
    }

    fn drop_what_was_fed(&mut self, id: TaskId) {
        let needed = self.task_mut(id).and_then(|task| task.needed.as_mut());
        let fed = needed.map_or_else(Vec::new, |needed| std::mem::take(&mut needed.inputs));
        for (_, source) in fed {
            holds::digest_of(&source)
                .into_iter()
                .for_each(|digest| self.holds.drop(digest));
        }
    }

    /// Tasks that have ended wait again, in a new generation.
    pub(super) fn rerun_tasks(&mut self, number: JobNumber, indices: &[u64], fence: AttemptId) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.cancelled = false;
            job.fences
                .extend(indices.iter().map(|index| (*index, fence)));
        }
        let is_since_restart = fence.broker_start == self.config.broker_start;
        for index in indices {
            let id = TaskId {
                job: number,
                index: *index,
            };
            if is_since_restart {
                // Nobody has this generation.
                let awaited: Vec<WorkerId> = self.awaited_of(id).collect();
                for worker in awaited {
                    self.awaited.remove(&(id, worker));
                }
            }
            self.begin_generation(id);
        }
        // Whatever of it is ended already.
        self.note_end(number, 0);
    }

    fn begin_generation(&mut self, id: TaskId) {
        let Some(task) = self.task_mut(id) else {
            return;
        };
        if task.outcome().is_none() {
            return;
        }
        self.memo.forget_task(id);
        let Some(task) = self.task_mut(id) else {
            return;
        };
        task.generation += 1;
        task.attempts_begun = 0;
        task.history = None;
        let need = task.need();
        let (spec, parameters) = (task.spec.clone(), task.parameters.clone());
        task.needed = Needed::of(&spec).map(Box::new);
        self.ready.demand(&need);
        self.holds.hold_all(holds::read_by(&spec, &parameters));
        if let Some(job) = self.jobs.get(&id.job) {
            let bytes = spec.kept_bytes(&parameters);
            self.ready.shares.add_unfinished(&job.owner, bytes);
        }
        self.set_phase(id, Phase::Blocked);
        self.take_what_is_there(id);
    }

    fn dependents_of(&self, id: TaskId) -> Vec<u64> {
        let dependents = self
            .job(id.job)
            .and_then(|job| job.dependents.get(&id.index));
        dependents.cloned().unwrap_or_default()
    }

    fn is_blocked(&self, id: TaskId) -> bool {
        matches!(self.task(id), Some(task) if matches!(task.phase, Phase::Blocked))
    }
}

fn failure_of_dependency(id: TaskId, what_happened: &str) -> Failure {
    Failure {
        class: FailureClass::Dependency,
        message: format!("{id}, which it waits for, {what_happened}"),
    }
}
