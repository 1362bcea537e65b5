//! The queue itself: what it remembers, and the three calls that drive it.
//!
//! [`Queue::decide`] says what a command means, [`Queue::apply`] folds the answer in, [`Queue::next_deadline`] says when
//! time alone will mean something. Deciding lives in `decide/`, folding in `apply.rs`, and what holds between any two
//! events in `check.rs`.

mod apply;
mod check;
mod decide;

pub use check::Broken;

use crate::{
    AttemptId, Command, Config, Digest, Event, HeldAttempt, Job, JobId, JobNumber, Now, Refusal,
    Task, TaskCounts, TaskId, Timestamp, Worker, WorkerId, holds::Holds, job::Turn, ready::Ready,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// All jobs, tasks and workers of one broker.
#[derive(Debug)]
pub struct Queue {
    config: Config,
    jobs: BTreeMap<JobNumber, Job>,
    by_id: HashMap<JobId, JobNumber>,
    /// Finished jobs by the time they ended.
    finished: BTreeSet<(u64, JobNumber)>,
    workers: HashMap<WorkerId, Worker>,
    /// Waiting tasks that may run beside others.
    ready: Ready,
    /// Waiting tasks that may not.
    suspects: BTreeSet<Turn>,
    /// Tasks between two tries.
    paused: BTreeSet<(Timestamp, TaskId)>,
    /// When each worker is given up.
    leases: BTreeSet<(Timestamp, WorkerId)>,
    /// When each running try with a limit runs out of time.
    time_limits: BTreeSet<(Timestamp, WorkerId, AttemptId)>,
    /// Workers on which tries wait behind others.
    queueing: BTreeSet<(usize, WorkerId)>,
    holds: Holds,
    /// The highest number a job ever had, forgotten ones too, so that none is given twice.
    last_job: u64,
    /// Running number of the last attempt of this broker start.
    last_attempt: u64,
    counts: TaskCounts,
}

impl Queue {
    /// Without any job.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            jobs: BTreeMap::new(),
            by_id: HashMap::new(),
            finished: BTreeSet::new(),
            workers: HashMap::new(),
            ready: Ready::default(),
            suspects: BTreeSet::new(),
            paused: BTreeSet::new(),
            leases: BTreeSet::new(),
            time_limits: BTreeSet::new(),
            queueing: BTreeSet::new(),
            holds: Holds::default(),
            last_job: 0,
            last_attempt: 0,
            counts: TaskCounts::default(),
        }
    }

    /// Decides what a command means. Changes nothing.
    ///
    /// # Errors
    /// If the rules say no.
    pub fn decide(&self, command: Command, now: Now) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::CreateJob {
                id,
                owner,
                name,
                priority,
                created_unix_ms,
            } => self.create_job(id, owner, name, priority, created_unix_ms),
            Command::Submit {
                job,
                first_index,
                specs,
            } => self.submit(job, first_index, specs),
            Command::CloseJob { job } => self.close_job(job, now),
            Command::CancelJob { job } => self.cancel_job(job, now),
            Command::HoldBlob { job, blob } => self.hold_blob(job, blob),
            Command::ReleaseBlobs { job, digests } => self.release_blobs(job, digests),
            Command::Join { hello } => self.join(hello, now),
            Command::Heartbeat { worker } => self.heartbeat(worker, now),
            Command::Disconnect { worker } => self.disconnect(worker, now),
            Command::Drain { worker } => self.drain(worker),
            Command::Report {
                worker,
                task,
                attempt,
                result,
                run_ms,
            } => self.report(worker, HeldAttempt { task, attempt }, result, run_ms, now),
            Command::HandBack { worker, attempts } => self.hand_back(worker, &attempts, now),
            Command::Dispatch => Ok(self.dispatch(now)),
            Command::Tick => Ok(self.most_overdue(now)),
        }
    }

    /// When the shell should next send [`Command::Tick`], if ever.
    ///
    /// Forgetting old jobs goes by the wall clock and is not counted: a tick now and then will do.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let paused = self.paused.first().map(|(until, _)| *until);
        let leases = self.leases.first().map(|(until, _)| *until);
        let limits = self.time_limits.first().map(|(until, _, _)| *until);
        [paused, leases, limits].into_iter().flatten().min()
    }

    /// How patient it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All jobs, the oldest first.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// The job of a short name.
    pub fn job(&self, number: JobNumber) -> Option<&Job> {
        self.jobs.get(&number)
    }

    /// The job of a customer's name.
    pub fn job_by_id(&self, id: JobId) -> Option<&Job> {
        self.job(*self.by_id.get(&id)?)
    }

    /// One task.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.job(id.job)?.task(id.index)
    }

    /// All workers, in no order.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// One worker.
    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// Tasks of all jobs.
    pub fn counts(&self) -> TaskCounts {
        self.counts
    }

    /// Whether anything needs a blob.
    pub fn is_held(&self, digest: &Digest) -> bool {
        self.holds.is_held(digest)
    }

    /// Blobs that nothing needs any more, each told once: the shell deletes them.
    ///
    /// Told only after the events that gave them up are applied; to delete them before those are durable would be too soon.
    pub fn take_unheld(&mut self) -> Vec<Digest> {
        self.holds.take_unheld()
    }

    /// Why a job's waiting tasks cannot run now, if they cannot.
    pub fn blocked_reason(&self, job: &Job) -> Option<String> {
        /// Tasks looked at: those of one job are mostly of a few kinds.
        const TASK_COUNT_MAX: usize = 64;
        if job.counts.waiting == 0 || job.counts.running > 0 {
            return None;
        }
        if self.workers.is_empty() {
            return Some("no worker is connected".into());
        }
        let unfinished = job.tasks.iter().filter(|task| task.outcome().is_none());
        unfinished.take(TASK_COUNT_MAX).find_map(|task| {
            let kind = task.kind();
            let mut able = self.workers.values().filter(|worker| worker.has_kind(kind));
            let first = able.next();
            if first.is_none() {
                Some(format!(
                    "no worker has the kind {}/{}",
                    kind.name, kind.version
                ))
            } else if first.into_iter().chain(able).all(Worker::is_draining) {
                Some("every worker that could run them is draining".into())
            } else {
                None
            }
        })
    }
}

#[cfg(test)]
mod tests;
