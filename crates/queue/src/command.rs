//! What the shell asks of the queue, and how the queue says no.

use crate::{
    AttemptId, BlobRef, Digest, Failure, HoldingChange, JobId, JobNumber, Kind, Output, TaskId,
    TaskSpec, WorkerId,
};
use std::sync::Arc;

/// Slots of one worker: several times the threads of the largest machines.
pub const SLOT_COUNT_MAX: u32 = 4096;

/// Kinds of one worker: dispatch looks at each of them.
pub const KIND_COUNT_MAX: usize = 64;

/// Different demands (kind, slots, memory) among unfinished tasks: each worker is listed under all that it could meet.
pub const NEED_COUNT_MAX: usize = 256;

/// A request to the queue. Decided by [`crate::Queue::decide`], which changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Open a job; the same id again is the same job.
    CreateJob {
        /// The customer's name for it.
        id: JobId,
        /// Name of the customer's token.
        owner: Arc<str>,
        /// For people.
        name: Arc<str>,
        /// -100 to 100.
        priority: i32,
        /// What else it is to be like.
        terms: JobTerms,
    },
    /// Add tasks. Those already there, by position or by key, are skipped; a gap is refused.
    Submit {
        /// Their job.
        job: JobId,
        /// Index of the first.
        first_index: u64,
        /// The tasks.
        specs: Vec<Arc<TaskSpec>>,
    },
    /// No more tasks will come.
    CloseJob {
        /// Which.
        job: JobId,
    },
    /// End every unfinished task, and close the job.
    CancelJob {
        /// Which.
        job: JobId,
    },
    /// End unfinished tasks; whole jobs are closed as well.
    CancelTasks {
        /// Which.
        tasks: TaskSelection,
    },
    /// Open a new generation of tasks that have ended.
    Rerun {
        /// Which.
        tasks: TaskSelection,
        /// Also those that succeeded. Tasks selected one by one are rerun either way.
        succeeded: bool,
    },
    /// A customer watches a job's outcomes from now on, or no more.
    Watch {
        /// The job.
        job: JobNumber,
        /// Begins or ends.
        begins: bool,
    },
    /// Keep a blob for a job.
    HoldBlob {
        /// The job.
        job: JobId,
        /// The blob.
        blob: BlobRef,
    },
    /// Give blobs up.
    ReleaseBlobs {
        /// The job.
        job: JobId,
        /// The blobs.
        digests: Vec<Digest>,
    },
    /// A worker said hello, for the first time or again.
    Join {
        /// Who it is and what it holds.
        hello: WorkerHello,
    },
    /// A worker gave a sign of life.
    Heartbeat {
        /// Who.
        worker: WorkerId,
    },
    /// A worker's connection closed.
    Disconnect {
        /// Who.
        worker: WorkerId,
    },
    /// Take nothing new, then leave.
    Drain {
        /// Who.
        worker: WorkerId,
    },
    /// A worker wants nothing new for now, or does again.
    SetAvailability {
        /// Who.
        worker: WorkerId,
        /// Why not, if not.
        busy_reason: Option<Arc<str>>,
    },
    /// What chunks a worker holds has changed.
    NoteHoldings {
        /// Who.
        worker: WorkerId,
        /// How.
        changes: Vec<HoldingChange>,
    },
    /// A worker tells how a try ended.
    Report {
        /// Who.
        worker: WorkerId,
        /// The task.
        task: TaskId,
        /// The try.
        attempt: AttemptId,
        /// How it ended.
        result: TaskResult,
        /// How long it ran.
        run_ms: u64,
    },
    /// A worker gives tries back; charged to nobody.
    HandBack {
        /// Who.
        worker: WorkerId,
        /// Which.
        attempts: Vec<HeldAttempt>,
    },
    /// Give one waiting task to a worker with room. Repeated by the shell until nothing comes of it.
    Dispatch,
    /// Time passed: deal with the one thing longest overdue. Repeated by the shell until nothing comes of it.
    Tick,
}

/// What a job is to be like, beyond its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobTerms {
    /// How long it is remembered once finished. None: as the broker thinks fit.
    pub keep_ms: Option<u64>,
    /// It is cancelled when nobody has watched it for so long. None: it runs on.
    pub absence_ms_max: Option<u64>,
    /// Tasks that were computed before are answered from the earlier outcome.
    pub reuse: bool,
}

/// Which tasks of which jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskSelection {
    /// Some of one job.
    Tasks {
        /// The job.
        job: JobNumber,
        /// Which of its tasks.
        indices: Vec<u64>,
    },
    /// All of one job.
    Job(JobNumber),
    /// All of an owner's jobs.
    Owner(Arc<str>),
    /// All of all jobs.
    All,
}

/// How a try ended, as its worker tells it.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskResult {
    /// With what the kernel gave.
    Succeeded(Output),
    /// With the reason.
    Failed(Failure),
    /// It stopped because it was told to.
    Stopped,
}

/// A worker, as it introduces itself.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerHello {
    /// Its own name for itself.
    pub id: WorkerId,
    /// For people.
    pub name: Arc<str>,
    /// How many tasks it runs at a time.
    pub slot_count: u32,
    /// Memory its tasks may use together; 0 if it does not say.
    pub memory_bytes: u64,
    /// What it can compute.
    pub kinds: Vec<Kind>,
    /// What more there is to know of some of its kinds.
    pub kernels: Vec<Kernel>,
    /// Instruction class of its results.
    pub instruction_class: Arc<str>,
    /// Tries it still works on, or has the results of.
    pub held: Vec<HeldAttempt>,
}

/// The code behind a kind on one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The kind.
    pub kind: Kind,
    /// Changes when its results do.
    pub revision: u32,
    /// Whether the same parameters and inputs give the same bytes within an instruction class.
    pub deterministic: bool,
}

/// One try at one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldAttempt {
    /// The task.
    pub task: TaskId,
    /// The try.
    pub attempt: AttemptId,
}

/// The rules say no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such job.
    #[error("the broker has no such job")]
    UnknownJob,
    /// Indices must have no gaps.
    #[error(
        "{job_name} has {task_count} tasks, so the next index is {task_count}, not {first_index}"
    )]
    Gap {
        /// The job, for people.
        job_name: String,
        /// How many tasks it has.
        task_count: u64,
        /// What was asked.
        first_index: u64,
    },
    /// The job takes no more tasks.
    #[error("{0} is closed and takes no more tasks")]
    JobClosed(String),
    /// The id is taken.
    #[error("this job id belongs to a job of {0}")]
    OtherOwner(Arc<str>),
    /// Too much waits already.
    #[error(
        "{waiting_count} tasks wait already; the broker takes no more than {waiting_count_max}"
    )]
    QueueFull {
        /// How many wait.
        waiting_count: u64,
        /// How many may.
        waiting_count_max: u64,
    },
    /// One owner has too much in the queue.
    #[error(
        "{owner} has {found} {what} in the queue; the broker takes no more than {max} from one owner"
    )]
    OwnerFull {
        /// Who.
        owner: Arc<str>,
        /// Of what.
        what: &'static str,
        /// How much with what was to come.
        found: u64,
        /// How much may be.
        max: u64,
    },
    /// Too many different demands on workers.
    #[error(
        "with these, unfinished tasks would have more than {NEED_COUNT_MAX} different demands (kind, slots, memory); the broker takes no more"
    )]
    TooManyNeeds,
    /// Tasks with and without keys in one submit.
    #[error("task {0} of this submit has no key, but others have: give all of them one, or none")]
    KeyMissing(u64),
    /// A task waits for one that is not before it.
    #[error("task {index} waits for task {dependency}, which is not before it")]
    BadDependency {
        /// The task.
        index: u64,
        /// What it waits for.
        dependency: u64,
    },
    /// A job has no such task.
    #[error("{job_name} has no task {index}")]
    UnknownTask {
        /// The job, for people.
        job_name: String,
        /// What was asked.
        index: u64,
    },
    /// What a task reads was given up meanwhile.
    #[error("{task_name} cannot be rerun: its input {digest} was given up")]
    InputsGone {
        /// The task, for people.
        task_name: String,
        /// The blob.
        digest: Digest,
    },
    /// A task waits for one that has ended without success.
    #[error("{task_name} cannot be rerun: {dependency_name}, which it waits for, is not")]
    DependencyEnded {
        /// The task, for people.
        task_name: String,
        /// What it waits for, for people.
        dependency_name: String,
    },
    /// A worker that could not be given anything.
    #[error("a worker needs 1 to {SLOT_COUNT_MAX} slots and 1 to {KIND_COUNT_MAX} kinds")]
    AbsurdWorker,
    /// No such worker.
    #[error("the broker does not know this worker; it must say hello first")]
    UnknownWorker,
}
