//! What customers ask of jobs and blobs. Cancelling and rerunning have a file of their own.

use super::{super::Queue, load::Load};
use crate::{
    BlobRef, Digest, Event, InputSource, Job, JobId, JobNumber, JobTerms, Now, Refusal, TaskSpec,
    ready::Need,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
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
                Ok(job.seen(now).into_iter().collect())
            } else {
                Err(Refusal::OtherOwner(job.owner.clone()))
            };
        }
        Load::of(self).refuse_job_of(&owner, 0)?;
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
        let seen = job.seen(now);
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
        let bytes = specs.iter().map(|spec| spec.kept_bytes(&spec.parameters));
        let bytes = bytes.fold(0, u64::saturating_add);
        // Tasks of a submit are mostly alike.
        let alike =
            |a: &Arc<TaskSpec>, b: &Arc<TaskSpec>| a.kind == b.kind && a.resources == b.resources;
        let distinct = specs.chunk_by(alike).filter_map(|alike| alike.first());
        let needs: HashSet<Need> = distinct.map(|spec| Need::of(spec)).collect();
        Load::of(self).add(&job.owner, specs.len() as u64, bytes, needs)
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
        Ok(std::iter::once(closed).chain(job.seen(now)).collect())
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
            at_unix_ms: now.unix_ms,
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
        Ok(held.into_iter().chain(job.seen(now)).collect())
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

/// Leaves the tasks whose keys the job does not have, the first of each key.
///
/// Their customer counts all that he submits. What the others wait for is found by its key.
fn drop_known_keys(
    job: &Job,
    first_index: u64,
    specs: &mut Vec<Arc<TaskSpec>>,
) -> Result<(), Refusal> {
    let mut indices = Vec::with_capacity(specs.len());
    let mut new: HashMap<Arc<str>, u64> = HashMap::new();
    for (position, spec) in (first_index..).zip(&*specs) {
        let key = spec.key.as_ref().ok_or(Refusal::KeyMissing(position))?;
        let next = job.task_count() + new.len() as u64;
        let known = job.index_of_key(key).or_else(|| new.get(key).copied());
        indices.push(known.unwrap_or(next));
        if known.is_none() {
            new.insert(key.clone(), next);
        }
    }
    let index_of = |named: u64| {
        let position = named.checked_sub(first_index);
        let position = position.and_then(|position| usize::try_from(position).ok());
        let index = position.and_then(|position| indices.get(position));
        index.copied().unwrap_or(named)
    };
    let mut next = job.task_count();
    let mut position = 0;
    specs.retain_mut(|spec| {
        let is_new = indices[position] == next;
        position += 1;
        if is_new {
            next += 1;
            rename_dependencies(spec, index_of);
        }
        is_new
    });
    Ok(())
}

fn rename_dependencies(spec: &mut Arc<TaskSpec>, index_of: impl Fn(u64) -> u64) {
    if spec
        .dependencies()
        .iter()
        .all(|index| index_of(*index) == *index)
    {
        return;
    }
    let spec = Arc::make_mut(spec);
    for index in &mut spec.after {
        *index = index_of(*index);
    }
    for input in &mut spec.inputs {
        if let InputSource::Output { task_index, .. } = &mut input.source {
            *task_index = index_of(*task_index);
        }
    }
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
