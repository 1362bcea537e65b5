//! Cancel, by task, job, owner or all: the selections are those of `rerun.rs` too.

use super::super::Queue;
use crate::{AttemptEnd, Event, Job, JobId, Now, Refusal, Task, TaskId, TaskSelection};

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

    pub(super) fn selected(&self, selection: &TaskSelection) -> Result<Vec<&Job>, Refusal> {
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

pub(super) fn task_of(job: &Job, index: u64) -> Result<&Task, Refusal> {
    job.task(index).ok_or_else(|| Refusal::UnknownTask {
        job_name: job.number.to_string(),
        index,
    })
}
