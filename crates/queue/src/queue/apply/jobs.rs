//! Jobs as wholes: opened, filled, closed, cancelled, forgotten, and whether their customers are there.

use super::super::Queue;
use crate::{
    BlobRef, Digest, Job, JobNumber, OutcomeResult, Task, TaskId, TaskSpec, Timestamp, holds,
};
use std::sync::Arc;

impl Queue {
    pub(super) fn add_job(&mut self, job: Job) {
        let number = job.number;
        self.last_job = self.last_job.max(number.0);
        if !self.by_id.contains_key(&job.id) && !self.jobs.contains_key(&number) {
            self.by_id.insert(job.id, number);
            let created_unix_ms = job.created_unix_ms;
            self.jobs.insert(number, job);
            self.note_end(number, created_unix_ms);
        }
    }

    pub(super) fn add_tasks(
        &mut self,
        number: JobNumber,
        first_index: u64,
        specs: &[Arc<TaskSpec>],
    ) {
        for (index, spec) in (first_index..).zip(specs) {
            let Some(job) = self.jobs.get_mut(&number) else {
                return;
            };
            if job.closed || index != job.task_count() {
                continue;
            }
            let task = Task::new(spec, job.tasks.last());
            self.ready.demand(&task.need());
            for dependency in task.waits_for() {
                job.dependents.entry(dependency).or_default().push(index);
            }
            if let Some(key) = &spec.key {
                job.keys.insert(key.clone(), index);
            }
            job.tasks.push(task);
            job.counts.waiting += 1;
            self.counts.waiting += 1;
            let bytes = spec.kept_bytes(&spec.parameters);
            self.ready.shares.add_unfinished(&job.owner, bytes);
            self.holds.hold_all(holds::read_by(spec, &spec.parameters));
            self.take_what_is_there(TaskId { job: number, index });
        }
        self.file_near_end(number);
        self.note_end(number, 0);
    }

    pub(super) fn set_closed(&mut self, number: JobNumber, at_unix_ms: u64) {
        if let Some(job) = self.job_mut(number) {
            job.closed = true;
        }
        self.note_end(number, at_unix_ms);
    }

    pub(super) fn cancel_job_whole(&mut self, number: JobNumber, at_unix_ms: u64) {
        let Some(job) = self.job_mut(number) else {
            return;
        };
        (job.closed, job.cancelled) = (true, true);
        for index in 0..job.task_count() {
            // What waits for them is cancelled too, rather than failed.
            self.end_unfinished(TaskId { job: number, index }, OutcomeResult::Cancelled);
        }
        self.note_end(number, at_unix_ms);
    }

    pub(super) fn cancel_some(&mut self, number: JobNumber, indices: &[u64], at_unix_ms: u64) {
        let ids = indices.iter().map(|index| TaskId {
            job: number,
            index: *index,
        });
        let cancelled: Vec<TaskId> = ids
            .filter(|id| self.end_unfinished(*id, OutcomeResult::Cancelled))
            .collect();
        for id in cancelled {
            self.fail_dependents(id, "was cancelled");
        }
        self.note_end(number, at_unix_ms);
    }

    pub(super) fn add_upload(&mut self, number: JobNumber, blob: &BlobRef) {
        if let Some(job) = self.jobs.get_mut(&number)
            && job.uploads.insert(blob.digest)
        {
            self.holds.hold(blob.digest);
        }
    }

    pub(super) fn release(&mut self, number: JobNumber, digests: &[Digest]) {
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        for digest in digests {
            let uploads = u32::from(job.uploads.remove(digest));
            let outputs = job.outputs.remove(digest).unwrap_or(0);
            for _ in 0..uploads + outputs {
                self.holds.drop(*digest);
            }
        }
    }

    /// Files the job among the idle ones if this was its last end, and puts it where it belongs otherwise.
    pub(super) fn note_end(&mut self, number: JobNumber, at_unix_ms: u64) {
        let config = &self.config;
        if let Some(job) = self.jobs.get_mut(&number) {
            job.idle_since_unix_ms = job.idle_since_unix_ms.max(at_unix_ms);
            let is_open = !job.is_finished();
            if std::mem::replace(&mut job.listed_open, is_open) != is_open {
                self.ready.shares.note_job(&job.owner, is_open);
            }
            let new = job.due_at_unix_ms(config);
            let old = std::mem::replace(&mut job.listed_due_at_unix_ms, new);
            if old != new {
                if let Some(old) = old {
                    self.idle.remove(&(old, number));
                }
                self.idle.extend(new.map(|at| (at, number)));
            }
        }
        self.list_absence(number);
    }

    pub(super) fn forget(&mut self, number: JobNumber) {
        self.last_job = self.last_job.max(number.0);
        // Only finished jobs are forgotten; cancelling first keeps the indices whole whatever the records say.
        self.cancel_job_whole(number, 0);
        self.drop_job_holds(number);
        if let Some(job) = self.jobs.remove(&number) {
            self.by_id.remove(&job.id);
            // Being finished, it is listed there and nowhere else.
            if let Some(at) = job.listed_due_at_unix_ms {
                self.idle.remove(&(at, number));
            }
            self.memo.forget(number);
            let ended = job.counts;
            self.counts.succeeded -= ended.succeeded;
            self.counts.failed -= ended.failed;
            self.counts.cancelled -= ended.cancelled;
        }
    }

    fn drop_job_holds(&mut self, number: JobNumber) {
        if let Some(job) = self.jobs.get_mut(&number) {
            let uploads = job.uploads.drain().map(|digest| (digest, 1));
            for (digest, count) in uploads.chain(job.outputs.drain()) {
                for _ in 0..count {
                    self.holds.drop(digest);
                }
            }
        }
    }

    pub(super) fn see_customer(&mut self, number: JobNumber, watchers: i32, at: Timestamp) {
        if let Some(job) = self.job_mut(number) {
            job.watcher_count = job.watcher_count.saturating_add_signed(watchers);
            job.customer_seen_at = job.customer_seen_at.max(at);
        }
        self.list_absence(number);
    }

    /// Puts the job where it belongs among those whose customers are missed.
    pub(super) fn list_absence(&mut self, number: JobNumber) {
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        let new = job.absence_deadline();
        let old = std::mem::replace(&mut job.listed_absence, new);
        if old != new {
            self.absences.extend(new.map(|at| (at, number)));
            if let Some(at) = old {
                self.absences.remove(&(at, number));
            }
        }
    }
}
