//! What a task is to the queue, and what it can come to.

use crate::{BlobRef, TaskId};
use std::sync::Arc;

/// Name and version of a computation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Such as `em.align`.
    pub name: Arc<str>,
    /// Raised when its meaning changes.
    pub version: u32,
}

/// Bytes the queue carries and never looks into, or the place where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Small: they ride in the event.
    Inline(Arc<[u8]>),
    /// Middling: appended to a pack file of the store before the event that names them.
    Packed {
        /// Number of the pack file.
        file: u64,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        length: u32,
        /// CRC-32C of them.
        checksum: u32,
    },
    /// Large: a blob.
    Blob(BlobRef),
}

/// What a task reads. The queue only needs to know which blobs are in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The blob.
    pub blob: BlobRef,
    /// Offset and length of the parts it reads; none means all of it.
    pub ranges: Vec<(u64, u64)>,
}

/// One unit of work, as its customer states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// What to compute.
    pub kind: Kind,
    /// Encoded parameters.
    pub parameters: Payload,
    /// What it reads.
    pub inputs: Vec<Input>,
    /// Tries before it counts as failed; at least 1.
    pub attempts_max: u32,
    /// How long one try may run; 0 for no limit.
    pub time_limit_ms: u64,
}

/// What a kernel gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The encoded output message.
    pub message: Payload,
    /// Larger results.
    pub blobs: Vec<BlobRef>,
}

/// Why a task, or one try at it, failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The class, which decides about retries.
    pub class: FailureClass,
    /// One line for people.
    pub message: String,
}

/// Classes of failure, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The kernel said no, or panicked.
    KernelError,
    /// The worker went away.
    WorkerLost,
    /// It ran longer than its limit.
    TimedOut,
    /// It cannot succeed anywhere; never tried again.
    BadInput,
    /// A task it waits for failed.
    Dependency,
    /// It took down three workers by itself.
    KilledWorkers,
}

/// What a task came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which task.
    pub task: TaskId,
    /// Position in the job's stream of outcomes, from 1 without gaps.
    pub sequence: u64,
    /// What it came to.
    pub result: OutcomeResult,
    /// Name of the worker that computed it, if one did.
    pub worker_name: Option<Arc<str>>,
    /// How long the successful try ran.
    pub run_ms: u64,
}

/// The three ends of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutcomeResult {
    /// With what the kernel gave.
    Succeeded(Output),
    /// With the reason.
    Failed(Failure),
    /// By its customer.
    Cancelled,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// For a worker.
    Waiting,
    /// On at least one worker.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended by its customer.
    Cancelled,
}
