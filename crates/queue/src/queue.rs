//! The queue itself: what it remembers, and the three calls that drive it.
//!
//! [`Queue::decide`] says what a command means, [`Queue::apply`] folds the answer in, [`Queue::next_deadline`] says when
//! time alone will mean something. Deciding lives in `decide/`, folding in `apply.rs`, and what holds between any two
//! events in `check.rs`.

mod apply;
mod blocked;
mod check;
mod decide;
mod makers;
mod memo;

pub use check::Broken;
pub use decide::InputBytes;

use crate::{
    AttemptId, Command, Config, Digest, Event, Expected, HeldAttempt, Job, JobId, JobNumber, Kind,
    Now, Refusal, Task, TaskCounts, TaskId, TaskSpec, TaskState, Timestamp, Worker, WorkerId,
    holdings::Holdings, holds::Holds, kind_stats::KindStats, ready::Ready,
};
use makers::Makers;
use memo::Memo;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

/// All jobs, tasks and workers of one broker.
#[derive(Debug)]
pub struct Queue {
    config: Config,
    jobs: BTreeMap<JobNumber, Job>,
    by_id: HashMap<JobId, JobNumber>,
    /// Idle jobs by the time at which they are forgotten or closed, of the wall clock.
    idle: BTreeSet<(u64, JobNumber)>,
    /// Jobs whose customers are away, by the time at which they are cancelled.
    absences: BTreeSet<(Timestamp, JobNumber)>,
    /// Jobs whose last tasks run.
    near_end: BTreeSet<JobNumber>,
    memo: Memo,
    makers: Makers,
    kind_stats: HashMap<Kind, KindStats>,
    workers: HashMap<WorkerId, Worker>,
    /// Workers of before the restart that are waited for.
    missing: BTreeMap<WorkerId, Expected>,
    /// What they may still compute, and who of them.
    awaited: BTreeSet<(TaskId, WorkerId)>,
    /// When workers on probation are given a task to try.
    trials: BTreeSet<(Timestamp, WorkerId)>,
    /// Waiting tasks.
    ready: Ready,
    /// Tasks between two tries.
    paused: BTreeSet<(Timestamp, TaskId)>,
    /// When each worker is given up.
    leases: BTreeSet<(Timestamp, WorkerId)>,
    /// When each running try with a limit runs out of time.
    time_limits: BTreeSet<(Timestamp, WorkerId, AttemptId)>,
    /// Workers on which tries wait behind others.
    queueing: BTreeSet<(usize, WorkerId)>,
    holds: Holds,
    /// What workers have of the blobs that tasks read.
    holdings: Holdings,
    /// The highest number a job ever had, forgotten ones too, so that none is given twice.
    last_job: u64,
    /// Running number of the last attempt of this broker start.
    last_attempt: u64,
    counts: TaskCounts,
}

impl Queue {
    /// Without any job.
    pub fn new(config: Config) -> Self {
        let expected = config.expected_workers.iter();
        let held = expected
            .clone()
            .flat_map(|worker| worker.held.iter().map(|task| (*task, worker.id)));
        Self {
            awaited: held.collect(),
            missing: expected.map(|worker| (worker.id, worker.clone())).collect(),
            config,
            jobs: BTreeMap::new(),
            by_id: HashMap::new(),
            idle: BTreeSet::new(),
            absences: BTreeSet::new(),
            near_end: BTreeSet::new(),
            memo: Memo::default(),
            makers: Makers::default(),
            kind_stats: HashMap::new(),
            workers: HashMap::new(),
            trials: BTreeSet::new(),
            ready: Ready::default(),
            paused: BTreeSet::new(),
            leases: BTreeSet::new(),
            time_limits: BTreeSet::new(),
            queueing: BTreeSet::new(),
            holds: Holds::default(),
            holdings: Holdings::default(),
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
                terms,
            } => self.create_job(id, owner, name, priority, terms, now),
            Command::Submit {
                job,
                first_index,
                specs,
            } => self.submit(job, first_index, specs, now),
            Command::CloseJob { job } => self.close_job(job, now),
            Command::CancelJob { job } => self.cancel_job(job, now),
            Command::CancelTasks { tasks } => self.cancel_tasks(&tasks, now),
            Command::Rerun { tasks, succeeded } => self.rerun(&tasks, succeeded, now),
            Command::Watch { job, begins } => self.watch(job, begins, now),
            Command::HoldBlob { job, blob } => self.hold_blob(job, blob, now),
            Command::ReleaseBlobs { job, digests } => self.release_blobs(job, digests),
            Command::Join { hello } => self.join(hello, now),
            Command::Heartbeat { worker } => self.heartbeat(worker, now),
            Command::Disconnect { worker } => self.disconnect(worker, now),
            Command::Drain { worker } => self.drain(worker),
            Command::SetAvailability {
                worker,
                busy_reason,
            } => self.set_availability(worker, busy_reason),
            Command::NoteHoldings { worker, changes } => self.note_holdings(worker, changes),
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
        let trials = self.trials.first().map(|(until, _)| *until);
        let absences = self.absences.first().map(|(until, _)| *until);
        let comeback = (!self.missing.is_empty()).then(|| self.comeback_ends_at());
        [paused, leases, limits, trials, absences, comeback]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whom a broker that started now would have to expect: who attends, with all that they were given, and who is still
    /// waited for.
    pub fn expected_after_restart(&self) -> Vec<Expected> {
        let present = self.workers().map(|worker| Expected {
            id: worker.hello.id,
            name: worker.hello.name.clone(),
            held: worker.book.iter().map(|(_, held)| held.task).collect(),
        });
        present.chain(self.missing.values().cloned()).collect()
    }

    /// Tasks of before the restart, and workers that may still compute them.
    fn awaited(&self, tasks: RangeInclusive<TaskId>) -> impl Iterator<Item = (TaskId, WorkerId)> {
        let (first, last) = (*tasks.start(), *tasks.end());
        let awaited = (first, WorkerId([0; 16]))..=(last, WorkerId([u8::MAX; 16]));
        self.awaited.range(awaited).copied()
    }

    /// Workers that may still compute a task of before the restart.
    fn awaited_of(&self, task: TaskId) -> impl Iterator<Item = WorkerId> {
        self.awaited(task..=task).map(|(_, worker)| worker)
    }

    /// When workers of before the restart are waited for no longer. The clock begins with the restart.
    fn comeback_ends_at(&self) -> Timestamp {
        Timestamp::default().after_ms(self.config.comeback_ms)
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

    /// A task as a worker is to see it: with what others gave in place of the names of their outputs.
    pub fn assignment(&self, id: TaskId) -> Option<Arc<TaskSpec>> {
        let task = self.task(id)?;
        let mut spec = TaskSpec::clone(&task.spec);
        spec.parameters = task.parameters.clone();
        let fed = task.needed.iter().flat_map(|needed| &needed.inputs);
        for (position, source) in fed {
            if let Some(input) = spec.inputs.get_mut(*position) {
                input.source = source.clone();
            }
        }
        Some(Arc::new(spec))
    }

    /// Where a task stands, as people see it: one that was only sent ahead to a worker waits still.
    pub fn state_of(&self, task: &Task) -> TaskState {
        let state = task.state();
        let runs = |(attempt, worker): &(AttemptId, WorkerId)| {
            let worker = self.worker(*worker);
            let held = worker.and_then(|worker| worker.book.get(*attempt));
            held.is_some_and(|held| held.running_since.is_some())
        };
        if state == TaskState::Running && !task.live().iter().any(runs) {
            TaskState::Waiting
        } else {
            state
        }
    }

    /// Tasks of a job by state, as people see them: see [`Self::state_of`].
    pub fn counts_of(&self, job: &Job) -> TaskCounts {
        let mut counts = job.counts;
        for index in &job.running {
            if let Some(task) = job.task(*index)
                && self.state_of(task) == TaskState::Waiting
            {
                counts.running -= 1;
                counts.waiting += 1;
            }
        }
        counts
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
}

#[cfg(test)]
mod tests;
