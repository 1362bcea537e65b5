//! What a task is to the queue, and what it can come to.

use crate::{BlobRef, Digest, TaskId};
use std::{collections::BTreeSet, sync::Arc};

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
    /// From where.
    pub source: InputSource,
    /// Offset and length of the parts it reads; none means all of it.
    pub ranges: Vec<(u64, u64)>,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// A blob.
    Blob(BlobRef),
    /// An earlier task of the same job: the task waits for it.
    Output {
        /// Which task.
        task_index: u64,
        /// What of its output.
        part: OutputPart,
    },
    /// The output message of an earlier task, once it is there. Never submitted.
    Message(Payload),
}

/// A part of a task's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputPart {
    /// One of its blobs, by position.
    Blob(u32),
    /// Its message.
    Message,
}

/// What one try takes of its worker while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resources {
    /// At least 1.
    pub slot_count: u32,
    /// 0 if nobody said.
    pub memory_bytes: u64,
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
    /// What one try takes.
    pub resources: Resources,
    /// Its customer's own name for it, distinct within the job.
    pub key: Option<Arc<str>>,
    /// Tasks of the job that must succeed first, beside those whose outputs it reads.
    pub after: Vec<u64>,
    /// BLAKE3 of the parameters, if the job wants tasks answered that were computed before.
    pub parameters_digest: Option<Digest>,
}

impl TaskSpec {
    /// Of one slot, tried three times, that reads nothing and waits for nothing.
    pub fn new(kind: Kind, parameters: Payload) -> Self {
        Self {
            kind,
            parameters,
            inputs: Vec::new(),
            attempts_max: 3,
            time_limit_ms: 0,
            resources: Resources::default(),
            key: None,
            after: Vec::new(),
            parameters_digest: None,
        }
    }

    /// Whether another task differs in its parameters at the most.
    pub(crate) fn equals_but_parameters(&self, other: &Self) -> bool {
        let Self {
            kind,
            parameters: _,
            inputs,
            attempts_max,
            time_limit_ms,
            resources,
            key,
            after,
            parameters_digest,
        } = self;
        *kind == other.kind
            && *inputs == other.inputs
            && *attempts_max == other.attempts_max
            && *time_limit_ms == other.time_limit_ms
            && *resources == other.resources
            && *key == other.key
            && *after == other.after
            && *parameters_digest == other.parameters_digest
    }

    /// The same with empty parameters.
    pub(crate) fn without_parameters(&self) -> Self {
        Self {
            parameters: Payload::Inline(Arc::from([])),
            ..self.clone()
        }
    }

    /// Bytes that the queue keeps of it until it ends, about: of everything that a customer can make large.
    ///
    /// Tasks that share their inputs count as if they did not: what an owner may queue must not depend on his neighbours.
    pub(crate) fn kept_bytes(&self, parameters: &Payload) -> u64 {
        const INPUT_BYTES: usize = size_of::<Input>();
        const RANGE_BYTES: usize = size_of::<(u64, u64)>();
        /// Kept on both ends.
        const EDGE_BYTES: usize = 4 * size_of::<u64>();
        let inputs = self.inputs.iter();
        let inputs =
            inputs.map(|input| INPUT_BYTES + EDGE_BYTES + input.ranges.len() * RANGE_BYTES);
        let key = self.key.as_ref().map_or(0, |key| key.len());
        let own = inputs.sum::<usize>() + self.after.len() * EDGE_BYTES + key;
        parameters.carried_bytes().saturating_add(own as u64)
    }

    /// Tasks that must succeed first.
    pub fn dependencies(&self) -> BTreeSet<u64> {
        let read = self.inputs.iter().filter_map(|input| match input.source {
            InputSource::Output { task_index, .. } => Some(task_index),
            InputSource::Blob(_) | InputSource::Message(_) => None,
        });
        read.chain(self.after.iter().copied()).collect()
    }
}

impl Resources {
    /// Orders before all others.
    pub(crate) const LEAST: Self = Self {
        slot_count: 0,
        memory_bytes: 0,
    };
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            slot_count: 1,
            memory_bytes: 0,
        }
    }
}

impl Payload {
    /// Bytes of it that the queue carries: none for a blob.
    pub fn carried_bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Packed { length, .. } => u64::from(*length),
            Self::Blob(_) => 0,
        }
    }
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
    /// How often the task had been rerun.
    pub generation: u32,
    /// An equal task had been computed before, and this is its output.
    pub reused: bool,
    /// What computed it, if that gives the same again.
    pub made_by: Option<Made>,
}

/// What must be the same for a computation to give the same bytes again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Made {
    /// Of the kernel.
    pub revision: u32,
    /// Of the machine.
    pub instruction_class: Arc<str>,
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
