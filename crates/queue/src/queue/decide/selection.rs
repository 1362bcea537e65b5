//! Cancel and rerun, by task, job, owner or all.

use super::super::Queue;
use crate::{
    AttemptEnd, AttemptId, Digest, Event, InputSource, Job, JobId, Now, OutcomeResult, Refusal,
    Task, TaskId, TaskSelection, TaskState, holds,
};

impl Queue {
    pub(in crate::queue) fn cancel_job(&self, id: JobId, now: Now) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        Ok(self.cancel_whole(job, now))
    }

    pub(in crate::queue) fn cancel_tasks(
        &self,
        selection: &TaskSelection,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        if let TaskSelection::Tasks { job, indices } = selection {
            let job = self.job(*job).ok_or(Refusal::UnknownJob)?;
            return self.cancel_some_of(job, indices, now);
        }
        let jobs = self.selected(selection)?;
        Ok(jobs
            .into_iter()
            .flat_map(|job| self.cancel_whole(job, now))
            .collect())
    }

    pub(in crate::queue) fn cancel_whole(&self, job: &Job, now: Now) -> Vec<Event> {
        if job.cancelled || job.is_finished() {
            return Vec::new();
        }
        let cancelled = Event::JobCancelled {
            job: job.number,
            at_unix_ms: now.unix_ms,
        };
        let running = job.running.iter().copied();
        let stopped = self.stops_of(job, running, now);
        std::iter::once(cancelled).chain(stopped).collect()
    }

    fn cancel_some_of(&self, job: &Job, indices: &[u64], now: Now) -> Result<Vec<Event>, Refusal> {
        let mut unfinished = Vec::new();
        for index in indices {
            if task_of(job, *index)?.outcome().is_none() {
                unfinished.push(*index);
            }
        }
        unfinished.sort_unstable();
        unfinished.dedup();
        if unfinished.is_empty() {
            return Ok(Vec::new());
        }
        let stopped = self.stops_of(job, unfinished.iter().copied(), now);
        let cancelled = Event::TasksCancelled {
            job: job.number,
            indices: unfinished,
            at_unix_ms: now.unix_ms,
        };
        Ok(std::iter::once(cancelled).chain(stopped).collect())
    }

    fn stops_of(&self, job: &Job, indices: impl Iterator<Item = u64>, now: Now) -> Vec<Event> {
        let ids = indices.map(|index| TaskId {
            job: job.number,
            index,
        });
        let live = ids.flat_map(|id| {
            let live = self.task(id).map_or(&[][..], Task::live);
            live.iter()
                .map(move |(attempt, worker)| (id, *attempt, *worker))
        });
        live.map(|(id, attempt, worker)| self.ended(id, attempt, worker, AttemptEnd::Stopped, now))
            .collect()
    }

    pub(in crate::queue) fn rerun(
        &self,
        selection: &TaskSelection,
        succeeded: bool,
    ) -> Result<Vec<Event>, Refusal> {
        if let TaskSelection::Tasks { job, indices } = selection {
            let job = self.job(*job).ok_or(Refusal::UnknownJob)?;
            let mut ended = Vec::new();
            for index in indices {
                if task_of(job, *index)?.outcome().is_some() {
                    ended.push(*index);
                }
            }
            ended.sort_unstable();
            ended.dedup();
            return Ok(self.rerun_of(job, ended)?.into_iter().collect());
        }
        let mut events = Vec::new();
        for job in self.selected(selection)? {
            let wanted = |state| match state {
                TaskState::Failed | TaskState::Cancelled => true,
                TaskState::Succeeded => succeeded,
                TaskState::Waiting | TaskState::Running => false,
            };
            let tasks = (0..).zip(&job.tasks);
            let ended = tasks.filter(|(_, task)| wanted(task.state()));
            events.extend(self.rerun_of(job, ended.map(|(index, _)| index).collect())?);
        }
        Ok(events)
    }

    /// None if there is nothing to rerun.
    fn rerun_of(&self, job: &Job, mut indices: Vec<u64>) -> Result<Option<Event>, Refusal> {
        indices.sort_unstable();
        for index in &indices {
            let task = task_of(job, *index)?;
            let read = holds::read_by(&task.spec, &task.parameters);
            let given = outputs_read_by(job, task, &indices);
            let gone = read.chain(given).find(|digest| !self.holds.is_held(digest));
            if let Some(digest) = gone {
                let id = TaskId {
                    job: job.number,
                    index: *index,
                };
                return Err(Refusal::InputsGone {
                    task_name: id.to_string(),
                    digest,
                });
            }
        }
        let fence = AttemptId {
            broker_start: self.config.broker_start,
            n: self.last_attempt,
        };
        let job = job.number;
        Ok((!indices.is_empty()).then_some(Event::TasksRerun {
            job,
            indices,
            fence,
        }))
    }

    fn selected(&self, selection: &TaskSelection) -> Result<Vec<&Job>, Refusal> {
        match selection {
            TaskSelection::Tasks { job, .. } | TaskSelection::Job(job) => {
                Ok(vec![self.job(*job).ok_or(Refusal::UnknownJob)?])
            }
            TaskSelection::Owner(owner) => {
                Ok(self.jobs().filter(|job| job.owner == *owner).collect())
            }
            TaskSelection::All => Ok(self.jobs().collect()),
        }
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

fn task_of(job: &Job, index: u64) -> Result<&Task, Refusal> {
    job.task(index).ok_or_else(|| Refusal::UnknownTask {
        job_name: job.number.to_string(),
        index,
    })
}
