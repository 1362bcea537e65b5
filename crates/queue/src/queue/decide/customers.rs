//! What customers ask: jobs, tasks, blobs.

use super::super::Queue;
use crate::{
    AttemptEnd, BlobRef, Digest, Event, Job, JobId, JobNumber, Now, Refusal, TaskId, TaskSpec,
};
use std::sync::Arc;

impl Queue {
    pub(in crate::queue) fn create_job(
        &self,
        id: JobId,
        owner: Arc<str>,
        name: Arc<str>,
        priority: i32,
        created_unix_ms: u64,
    ) -> Result<Vec<Event>, Refusal> {
        if let Some(job) = self.job_by_id(id) {
            return if job.owner == owner {
                Ok(Vec::new())
            } else {
                Err(Refusal::OtherOwner(job.owner.clone()))
            };
        }
        Ok(vec![Event::JobCreated {
            job: JobNumber(self.last_job + 1),
            id,
            owner,
            name,
            priority,
            created_unix_ms,
        }])
    }

    pub(in crate::queue) fn submit(
        &self,
        id: JobId,
        first_index: u64,
        mut specs: Vec<Arc<TaskSpec>>,
    ) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        let number = job.number;
        let task_count = job.task_count();
        let Some(known_count) = task_count.checked_sub(first_index) else {
            return Err(Refusal::Gap {
                job_name: number.to_string(),
                task_count,
                first_index,
            });
        };
        let known_count = usize::try_from(known_count).unwrap_or(usize::MAX);
        specs.drain(..known_count.min(specs.len()));
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        if job.closed {
            return Err(Refusal::JobClosed(number.to_string()));
        }
        let waiting_count = self.counts.waiting;
        if waiting_count.saturating_add(specs.len() as u64) > self.config.waiting_count_max {
            return Err(Refusal::QueueFull {
                waiting_count,
                waiting_count_max: self.config.waiting_count_max,
            });
        }
        Ok(vec![Event::TasksSubmitted {
            job: number,
            first_index: task_count,
            specs,
        }])
    }

    pub(in crate::queue) fn close_job(&self, id: JobId, now: Now) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        let number = job.number;
        if job.closed {
            return Ok(Vec::new());
        }
        Ok(vec![Event::JobClosed {
            job: number,
            at_unix_ms: now.unix_ms,
        }])
    }

    pub(in crate::queue) fn cancel_job(&self, id: JobId, now: Now) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        let number = job.number;
        if job.cancelled || job.is_finished() {
            return Ok(Vec::new());
        }
        let cancelled = Event::JobCancelled {
            job: number,
            at_unix_ms: now.unix_ms,
        };
        let stopped = live(job).map(|(task, attempt, worker)| Event::AttemptEnded {
            task,
            attempt,
            worker,
            end: AttemptEnd::Stopped,
            at: now.at,
        });
        Ok(std::iter::once(cancelled).chain(stopped).collect())
    }

    pub(in crate::queue) fn hold_blob(
        &self,
        id: JobId,
        blob: BlobRef,
    ) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        let number = job.number;
        if job.cancelled {
            return Err(Refusal::JobClosed(number.to_string()));
        }
        if job.uploads.contains(&blob.digest) {
            return Ok(Vec::new());
        }
        Ok(vec![Event::BlobHeld { job: number, blob }])
    }

    pub(in crate::queue) fn release_blobs(
        &self,
        id: JobId,
        mut digests: Vec<Digest>,
    ) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        let number = job.number;
        digests.retain(|digest| job.uploads.contains(digest) || job.outputs.contains_key(digest));
        digests.sort_unstable();
        digests.dedup();
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Event::BlobsReleased {
            job: number,
            digests,
        }])
    }
}

fn live(job: &Job) -> impl Iterator<Item = (TaskId, crate::AttemptId, crate::WorkerId)> + use<'_> {
    let tasks = (0..).zip(&job.tasks);
    tasks.flat_map(|(index, task)| {
        let id = TaskId {
            job: job.number,
            index,
        };
        let live = task.live().iter();
        live.map(move |(attempt, worker)| (id, *attempt, *worker))
    })
}
