//! Rerun, by task, job, owner or all.
//!
//! Tasks that are named are rerun together or not at all. Of a job, an owner or all, those are rerun that can be, and what
//! was skipped is said.

use super::{super::Queue, load::Load, selection::task_of};
use crate::{
    AttemptId, Digest, Event, InputSource, Job, JobNumber, Now, OutcomeResult, Refusal, Task,
    TaskId, TaskSelection, TaskState, holds,
};

impl Queue {
    pub(in crate::queue) fn rerun(
        &self,
        selection: &TaskSelection,
        succeeded: bool,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        match selection {
            TaskSelection::Tasks { job, indices } => self.rerun_named(*job, indices, now),
            TaskSelection::Job(_) | TaskSelection::Owner(_) | TaskSelection::All => {
                self.rerun_what_can_be(selection, succeeded, now)
            }
        }
    }

    fn rerun_named(
        &self,
        job: JobNumber,
        indices: &[u64],
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let job = self.job(job).ok_or(Refusal::UnknownJob)?;
        let mut ended = Vec::new();
        for index in indices {
            if task_of(job, *index)?.outcome().is_some() {
                ended.push(*index);
            }
        }
        ended.sort_unstable();
        ended.dedup();
        let mut load = Load::of(self);
        for index in &ended {
            self.refuse_rerun(job, *index, &ended, &mut load)?;
        }
        Ok(self.rerun_of(job, ended, now))
    }

    fn rerun_what_can_be(
        &self,
        selection: &TaskSelection,
        succeeded: bool,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let wanted = |task: &Task| match task.state() {
            TaskState::Failed | TaskState::Cancelled => true,
            TaskState::Succeeded => succeeded,
            TaskState::Waiting | TaskState::Running => false,
        };
        let (mut rerun, mut skipped) = (Vec::new(), Vec::new());
        let mut first_refusal = None;
        let mut load = Load::of(self);
        for job in self.selected(selection)? {
            let (mut again, mut skipped_count, mut reason) = (Vec::new(), 0, None);
            let tasks = (0..).zip(&job.tasks).filter(|(_, task)| wanted(task));
            for (index, task) in tasks {
                let refused = refuse_dangling(job, index, task, &again)
                    .and_then(|()| self.refuse_rerun(job, index, &again, &mut load));
                match refused {
                    Ok(()) => again.push(index),
                    Err(refusal) => {
                        skipped_count += 1;
                        reason.get_or_insert(refusal);
                    }
                }
            }
            rerun.extend(self.rerun_of(job, again, now));
            skipped.extend(reason.as_ref().map(|reason| Event::RerunSkipped {
                job: job.number,
                task_count: skipped_count,
                reason: reason.to_string(),
            }));
            first_refusal = first_refusal.or(reason);
        }
        match first_refusal {
            Some(refusal) if rerun.is_empty() => Err(refusal),
            _ => Ok(rerun.into_iter().chain(skipped).collect()),
        }
    }

    /// Why a task cannot be rerun together with these, if it cannot.
    fn refuse_rerun(
        &self,
        job: &Job,
        index: u64,
        rerun: &[u64],
        load: &mut Load<'_>,
    ) -> Result<(), Refusal> {
        let task = task_of(job, index)?;
        let read = holds::read_by(&task.spec, &task.parameters);
        let given = outputs_read_by(job, task, rerun);
        let gone = read.chain(given).find(|digest| !self.holds.is_held(digest));
        if let Some(digest) = gone {
            return Err(Refusal::InputsGone {
                task_name: name_of(job, index),
                digest,
            });
        }
        if job.is_finished() {
            load.reopen(job)?;
        }
        load.add(&job.owner, 1, task.kept_bytes(), [task.need()])
    }

    /// None if there is nothing to rerun.
    fn rerun_of(&self, job: &Job, indices: Vec<u64>, now: Now) -> Vec<Event> {
        if indices.is_empty() {
            return Vec::new();
        }
        let rerun = Event::TasksRerun {
            job: job.number,
            indices,
            fence: AttemptId {
                broker_start: self.config.broker_start,
                n: self.last_attempt,
            },
        };
        // Whoever asks for it stands in for a customer who is away.
        let seen = job.seen(now);
        std::iter::once(rerun).chain(seen).collect()
    }
}

/// A task that waits for one which has failed and is not rerun would fail at once.
fn refuse_dangling(job: &Job, index: u64, task: &Task, rerun: &[u64]) -> Result<(), Refusal> {
    let Some(_) = task.needed else {
        return Ok(());
    };
    let ended_badly = |other: &u64| {
        let state = job.task(*other).map(Task::state);
        matches!(state, Some(TaskState::Failed | TaskState::Cancelled))
            && rerun.binary_search(other).is_err()
    };
    match task.spec.dependencies().into_iter().find(ended_badly) {
        None => Ok(()),
        Some(dependency) => Err(Refusal::DependencyEnded {
            task_name: name_of(job, index),
            dependency_name: name_of(job, dependency),
        }),
    }
}

/// Blobs that a task reads of tasks that have given them, and are not to give them anew.
fn outputs_read_by<'a>(
    job: &'a Job,
    task: &'a Task,
    rerun: &'a [u64],
) -> impl Iterator<Item = Digest> + 'a {
    task.spec.inputs.iter().filter_map(move |input| {
        let InputSource::Output { task_index, part } = input.source else {
            return None;
        };
        if rerun.binary_search(&task_index).is_ok() {
            return None;
        }
        let outcome = job.task(task_index)?.outcome()?;
        let OutcomeResult::Succeeded(output) = &outcome.result else {
            return None;
        };
        holds::digest_of(&holds::part_of(output, part)?)
    })
}

fn name_of(job: &Job, index: u64) -> String {
    let id = TaskId {
        job: job.number,
        index,
    };
    id.to_string()
}
