//! What the engine is told, and what it tells workers.

use super::{Effect, EngineError, View};
use dewar_queue::{
    AttemptId, Command, JobId, JobNumber, Kernel, Kind, TaskResult, TaskSpec, WorkerId,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// One message to the engine.
pub(super) enum Message {
    /// A command to the queue; answered when what it brings is durable.
    Command {
        command: Command,
        reply: oneshot::Sender<Result<Effect, EngineError>>,
    },
    /// A question; answered from what is durable.
    Query(Box<dyn FnOnce(View<'_>) + Send>),
    /// Asks to be woken when a job gets outcomes or ends.
    Subscribe {
        job: JobNumber,
        reply: oneshot::Sender<watch::Receiver<()>>,
    },
    /// A worker's hello.
    Attend {
        hello: Box<Hello>,
        outbox: mpsc::Sender<ToWorker>,
        reply: oneshot::Sender<Result<u64, EngineError>>,
    },
    /// A message of a worker that said hello.
    FromWorker {
        worker: WorkerId,
        session: u64,
        message: FromWorker,
    },
}

/// A try, in the words of the wire: workers name jobs by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) job: JobId,
    pub(crate) index: u64,
    pub(crate) attempt: AttemptId,
}

/// A worker, as it introduces itself.
#[derive(Debug)]
pub(crate) struct Hello {
    pub(crate) id: WorkerId,
    pub(crate) name: Arc<str>,
    pub(crate) slot_count: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) instruction_class: Arc<str>,
    pub(crate) held: Vec<Address>,
    pub(crate) info: WorkerInfo,
}

/// What people want to know of a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerInfo {
    pub(crate) host_name: String,
    pub(crate) site: String,
    pub(crate) program_version: String,
}

/// What a worker says after hello.
#[derive(Debug)]
pub(crate) enum FromWorker {
    Heartbeat {
        progress: Vec<(Address, f32)>,
    },
    Report {
        address: Address,
        result: TaskResult,
        run_ms: u64,
    },
    HandBack {
        attempts: Vec<Address>,
    },
    Draining,
    /// It wants nothing new for now, and why, or does again.
    Availability {
        busy_reason: Option<Arc<str>>,
    },
    Disconnected,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum ToWorker {
    Assign {
        address: Address,
        job: JobNumber,
        spec: Arc<TaskSpec>,
    },
    Received(Address),
    Stop(Address),
    Drain,
    BackSoon,
}
