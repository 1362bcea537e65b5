//! What customers ask of jobs and blobs. Cancelling and rerunning have a file of their own.

use super::super::Queue;
use crate::{
    BlobRef, Digest, Event, Job, JobId, JobNumber, JobTerms, Now, Refusal, TaskSpec, ready::Need,
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

impl Queue {
    pub(in crate::queue) fn create_job(
        &self,
        id: JobId,
        owner: Arc<str>,
        name: Arc<str>,
        priority: i32,
        terms: JobTerms,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        if let Some(job) = self.job_by_id(id) {
            return if job.owner == owner {
                Ok(seen(job, now).into_iter().collect())
            } else {
                Err(Refusal::OtherOwner(job.owner.clone()))
            };
        }
        let (found, max) = (
            self.ready.shares.open_job_count(&owner) + 1,
            self.config.owner_job_count_max,
        );
        if found > max {
            return Err(Refusal::OwnerFull {
                owner,
                what: "open jobs",
                found,
                max,
            });
        }
        let job = JobNumber(self.last_job + 1);
        let created = Event::JobCreated {
            job,
            id,
            owner,
            name,
            priority,
            terms,
            created_unix_ms: now.unix_ms,
        };
        // Its customer is here: absence counts from now.
        let seen = terms
            .absence_ms_max
            .map(|_| Event::CustomerSeen { job, at: now.at });
        Ok(std::iter::once(created).chain(seen).collect())
    }

    pub(in crate::queue) fn submit(
        &self,
        id: JobId,
        first_index: u64,
        mut specs: Vec<Arc<TaskSpec>>,
        now: Now,
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
        if specs.iter().any(|spec| spec.key.is_some()) {
            drop_known_keys(job, first_index, &mut specs)?;
        } else {
            let known_count = usize::try_from(known_count).unwrap_or(usize::MAX);
            specs.drain(..known_count.min(specs.len()));
        }
        let seen = seen(job, now);
        if specs.is_empty() {
            return Ok(seen.into_iter().collect());
        }
        if job.closed {
            return Err(Refusal::JobClosed(number.to_string()));
        }
        self.refuse_excess(job, &specs)?;
        refuse_bad_dependencies(task_count, &specs)?;
        let submitted = Event::TasksSubmitted {
            job: number,
            first_index: task_count,
            specs,
        };
        Ok(std::iter::once(submitted).chain(seen).collect())
    }

    /// Every bound on what may wait.
    fn refuse_excess(&self, job: &Job, specs: &[Arc<TaskSpec>]) -> Result<(), Refusal> {
        let config = &self.config;
        let waiting_count = self.counts.waiting;
        if waiting_count.saturating_add(specs.len() as u64) > config.waiting_count_max {
            return Err(Refusal::QueueFull {
                waiting_count,
                waiting_count_max: config.waiting_count_max,
            });
        }
        let (task_count, bytes) = self.ready.shares.unfinished(&job.owner);
        let new_bytes: u64 = specs
            .iter()
            .map(|spec| spec.kept_bytes(&spec.parameters))
            .fold(0, u64::saturating_add);
        let bounds = [
            (
                "unfinished tasks",
                task_count.saturating_add(specs.len() as u64),
                config.owner_task_count_max,
            ),
            (
                "bytes of unfinished tasks",
                bytes.saturating_add(new_bytes),
                config.owner_bytes_max,
            ),
        ];
        for (what, found, max) in bounds {
            if found > max {
                return Err(Refusal::OwnerFull {
                    owner: job.owner.clone(),
                    what,
                    found,
                    max,
                });
            }
        }
        self.refuse_new_needs(specs)
    }

    fn refuse_new_needs(&self, specs: &[Arc<TaskSpec>]) -> Result<(), Refusal> {
        let mut needs = HashSet::new();
        let mut last: Option<&TaskSpec> = None;
        for spec in specs {
            // Tasks of a submit are mostly alike.
            let is_like_last =
                last.is_some_and(|last| last.kind == spec.kind && last.resources == spec.resources);
            last = Some(spec);
            if !is_like_last {
                needs.insert(Need {
                    kind: spec.kind.clone(),
                    resources: spec.resources,
                });
            }
        }
        if !self.ready.has_place_for(&needs) {
            return Err(Refusal::TooManyNeeds);
        }
        Ok(())
    }

    pub(in crate::queue) fn close_job(&self, id: JobId, now: Now) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        if job.closed {
            return Ok(Vec::new());
        }
        let closed = Event::JobClosed {
            job: job.number,
            at_unix_ms: now.unix_ms,
        };
        Ok(std::iter::once(closed).chain(seen(job, now)).collect())
    }

    pub(in crate::queue) fn watch(
        &self,
        number: JobNumber,
        begins: bool,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        self.job(number).ok_or(Refusal::UnknownJob)?;
        Ok(vec![Event::CustomerWatches {
            job: number,
            begins,
            at: now.at,
        }])
    }

    pub(in crate::queue) fn hold_blob(
        &self,
        id: JobId,
        blob: BlobRef,
        now: Now,
    ) -> Result<Vec<Event>, Refusal> {
        let job = self.job_by_id(id).ok_or(Refusal::UnknownJob)?;
        let number = job.number;
        if job.cancelled {
            return Err(Refusal::JobClosed(number.to_string()));
        }
        let held = !job.uploads.contains(&blob.digest);
        let held = held.then_some(Event::BlobHeld { job: number, blob });
        Ok(held.into_iter().chain(seen(job, now)).collect())
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

/// A sign of life of the job's customer, where anybody waits for one.
fn seen(job: &Job, now: Now) -> Option<Event> {
    job.terms.absence_ms_max.map(|_| Event::CustomerSeen {
        job: job.number,
        at: now.at,
    })
}

/// Leaves the tasks whose keys the job does not have, the first of each key.
fn drop_known_keys(
    job: &Job,
    first_index: u64,
    specs: &mut Vec<Arc<TaskSpec>>,
) -> Result<(), Refusal> {
    if let Some(position) = specs.iter().position(|spec| spec.key.is_none()) {
        return Err(Refusal::KeyMissing(first_index + position as u64));
    }
    let mut new = HashSet::new();
    specs.retain(|spec| {
        let key = spec.key.as_ref();
        key.is_some_and(|key| !job.keys.contains_key(key) && new.insert(key.clone()))
    });
    Ok(())
}

/// A task may wait only for tasks before it, so that none waits for itself.
fn refuse_bad_dependencies(first_index: u64, specs: &[Arc<TaskSpec>]) -> Result<(), Refusal> {
    for (index, spec) in (first_index..).zip(specs) {
        let dependencies: BTreeSet<u64> = spec.dependencies();
        if let Some(dependency) = dependencies.range(index..).next() {
            return Err(Refusal::BadDependency {
                index,
                dependency: *dependency,
            });
        }
    }
    Ok(())
}
