//! What happened. Durable events are the broker's whole memory; the others die with the process.

use crate::{
    AttemptId, BlobRef, Digest, Failure, HoldingChange, JobId, JobNumber, JobTerms, Outcome,
    TaskId, TaskSpec, Timestamp, WorkerHello, WorkerId,
};
use std::sync::Arc;

/// Something the queue decided. Folded in by [`crate::Queue::apply`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Durable. A job was opened.
    JobCreated {
        /// Its short name.
        job: JobNumber,
        /// Its customer's name for it.
        id: JobId,
        /// Who pays for it.
        owner: Arc<str>,
        /// For people.
        name: Arc<str>,
        /// -100 to 100.
        priority: i32,
        /// What else it is to be like.
        terms: JobTerms,
        /// Wall clock, for people.
        created_unix_ms: u64,
    },
    /// Durable. Tasks were added, numbered from `first_index`.
    TasksSubmitted {
        /// Their job.
        job: JobNumber,
        /// Index of the first.
        first_index: u64,
        /// The tasks.
        specs: Vec<Arc<TaskSpec>>,
    },
    /// Durable. No more tasks will come.
    JobClosed {
        /// Which.
        job: JobNumber,
        /// Wall clock.
        at_unix_ms: u64,
    },
    /// Durable. The job is closed, and every unfinished task of it ends as cancelled, in order of index.
    ///
    /// One event however many tasks: cancelling a million must not write a million records.
    JobCancelled {
        /// Which.
        job: JobNumber,
        /// Wall clock.
        at_unix_ms: u64,
    },
    /// Durable. Unfinished ones among these tasks end as cancelled, in this order; what waits for them fails.
    TasksCancelled {
        /// Their job.
        job: JobNumber,
        /// Which.
        indices: Vec<u64>,
        /// Wall clock.
        at_unix_ms: u64,
    },
    /// Durable. These tasks, which have ended, wait again, in a new generation.
    TasksRerun {
        /// Their job.
        job: JobNumber,
        /// Which, ascending.
        indices: Vec<u64>,
        /// The latest try there had been: this one and those before it are of an earlier generation.
        fence: AttemptId,
    },
    /// Tasks were to be rerun with others, and could not be. Changes nothing.
    RerunSkipped {
        /// Their job.
        job: JobNumber,
        /// How many.
        task_count: u64,
        /// Why the first of them could not.
        reason: String,
    },
    /// Durable. The job holds a blob that was uploaded or imported for it.
    BlobHeld {
        /// The job.
        job: JobNumber,
        /// The blob.
        blob: BlobRef,
    },
    /// Durable. The job's customer needs these blobs no more.
    BlobsReleased {
        /// The job.
        job: JobNumber,
        /// The blobs.
        digests: Vec<Digest>,
    },
    /// Durable. A try failed and counts.
    AttemptFailed {
        /// The task.
        task: TaskId,
        /// The try.
        attempt: AttemptId,
        /// On whom; None in what earlier releases wrote.
        worker: Option<WorkerId>,
        /// Why.
        failure: Failure,
        /// When it may be tried again. Meaningless after a restart, when it counts as past.
        retry_at: Timestamp,
    },
    /// Durable. A try that counted as lost goes on, so its worker was not killed by it.
    AttemptAcquitted {
        /// The task.
        task: TaskId,
        /// The try.
        attempt: AttemptId,
    },
    /// Durable. The task came to its end; if it failed, so do those that wait for it.
    TaskEnded {
        /// What it came to.
        outcome: Outcome,
        /// Wall clock.
        at_unix_ms: u64,
    },
    /// Durable. The job and all its tasks are forgotten.
    JobForgotten {
        /// Which.
        job: JobNumber,
    },
    /// A worker said hello.
    WorkerJoined {
        /// Who it is and what it holds.
        hello: WorkerHello,
        /// When.
        at: Timestamp,
    },
    /// A worker gave a sign of life.
    WorkerSeen {
        /// Who.
        worker: WorkerId,
        /// When.
        at: Timestamp,
    },
    /// A worker's connection closed; it may come back until its lease lapses.
    WorkerDisconnected {
        /// Who.
        worker: WorkerId,
        /// When.
        at: Timestamp,
    },
    /// A worker was given up, or left. Its tries are over.
    WorkerGone {
        /// Who.
        worker: WorkerId,
    },
    /// A worker takes nothing new.
    WorkerDraining {
        /// Who.
        worker: WorkerId,
    },
    /// A worker wants nothing new for now, or does again.
    WorkerAvailability {
        /// Who.
        worker: WorkerId,
        /// Why not, if not.
        busy_reason: Option<Arc<str>>,
    },
    /// What chunks a worker holds has changed.
    HoldingsNoted {
        /// Who.
        worker: WorkerId,
        /// How.
        changes: Vec<HoldingChange>,
    },
    /// A worker failed everything it touched: for a while it is given nothing.
    WorkerOnProbation {
        /// Who.
        worker: WorkerId,
        /// Until when.
        until: Timestamp,
        /// How long that is; the next time it is twice that.
        pause_ms: u64,
    },
    /// A worker on probation is given a single task.
    WorkerOnTrial {
        /// Who.
        worker: WorkerId,
    },
    /// Workers of before the restart are waited for no longer.
    ComebackOver,
    /// A job's customer gave a sign of life.
    CustomerSeen {
        /// The job.
        job: JobNumber,
        /// When.
        at: Timestamp,
    },
    /// A customer watches a job from now on, or no more.
    CustomerWatches {
        /// The job.
        job: JobNumber,
        /// Begins or ends.
        begins: bool,
        /// When.
        at: Timestamp,
        /// The same by the wall clock.
        at_unix_ms: u64,
    },
    /// A try began: the shell sends the assignment.
    AttemptStarted {
        /// The task.
        task: TaskId,
        /// The try.
        attempt: AttemptId,
        /// On whom.
        worker: WorkerId,
        /// When.
        at: Timestamp,
    },
    /// A task's pause between two tries is over.
    RetryDue {
        /// Which.
        task: TaskId,
    },
    /// A worker is rid of a try, whatever became of it. Says nothing of blame: that is `AttemptFailed`.
    AttemptEnded {
        /// The task.
        task: TaskId,
        /// The try.
        attempt: AttemptId,
        /// On whom.
        worker: WorkerId,
        /// What became of it.
        end: AttemptEnd,
        /// When: a try that waited behind it on the worker runs from now on.
        at: Timestamp,
    },
}

/// What became of a try, as far as its worker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It gave the outcome.
    Succeeded,
    /// It failed.
    Failed,
    /// The worker has given it up, or never got it.
    GivenBack,
    /// The worker must be told to stop.
    Stopped,
    /// Likewise, for it took too long: that is a failure.
    OutOfTime,
}

impl Event {
    /// Whether the event is written before anyone hears of it.
    pub fn is_durable(&self) -> bool {
        self.recorded_job().is_some()
    }

    /// The job among whose records a durable event is; none for those that die with the process.
    pub fn recorded_job(&self) -> Option<JobNumber> {
        match self {
            Self::JobCreated { job, .. }
            | Self::TasksSubmitted { job, .. }
            | Self::JobClosed { job, .. }
            | Self::JobCancelled { job, .. }
            | Self::TasksCancelled { job, .. }
            | Self::TasksRerun { job, .. }
            | Self::BlobHeld { job, .. }
            | Self::BlobsReleased { job, .. }
            | Self::JobForgotten { job } => Some(*job),
            Self::AttemptFailed { task, .. } | Self::AttemptAcquitted { task, .. } => {
                Some(task.job)
            }
            Self::TaskEnded { outcome, .. } => Some(outcome.task.job),
            Self::RerunSkipped { .. }
            | Self::WorkerJoined { .. }
            | Self::WorkerSeen { .. }
            | Self::WorkerDisconnected { .. }
            | Self::WorkerGone { .. }
            | Self::WorkerDraining { .. }
            | Self::WorkerAvailability { .. }
            | Self::HoldingsNoted { .. }
            | Self::WorkerOnProbation { .. }
            | Self::WorkerOnTrial { .. }
            | Self::ComebackOver
            | Self::CustomerSeen { .. }
            | Self::CustomerWatches { .. }
            | Self::AttemptStarted { .. }
            | Self::RetryDue { .. }
            | Self::AttemptEnded { .. } => None,
        }
    }
}
