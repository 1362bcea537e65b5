//! What the engine is told, and what it tells workers.

use super::{Effect, EngineError, View};
use dewar_queue::{
    AttemptId, Command, HoldingChange, JobId, JobNumber, TaskResult, TaskSpec, WorkerHello,
    WorkerId,
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
    /// What chunks a worker holds has changed.
    Holdings {
        worker: WorkerId,
        changes: Vec<HoldingChange>,
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
pub struct Address {
    /// The job.
    pub job: JobId,
    /// The task's position in it.
    pub index: u64,
    /// The try.
    pub attempt: AttemptId,
}

/// A worker, as it introduces itself.
#[derive(Debug)]
pub struct Hello {
    /// As the queue knows it, but for `held`, which it leaves empty: the engine knows which jobs there are.
    pub worker: WorkerHello,
    /// Tries it still works on, or has the results of.
    pub held: Vec<Address>,
    /// What people want to know.
    pub info: WorkerInfo,
}

/// What people want to know of a worker.
#[derive(Debug, Clone)]
pub struct WorkerInfo {
    /// Where it runs.
    pub host_name: String,
    /// Which machines are near it.
    pub site: String,
    /// Of which release it is.
    pub program_version: String,
    /// Name of the token it attends with.
    pub owner: Arc<str>,
}

/// What a worker says after hello.
#[derive(Debug, Clone)]
pub enum FromWorker {
    /// It lives.
    Heartbeat {
        /// How far its tries are, 0 to 1.
        progress: Vec<(Address, f32)>,
    },
    /// A try has ended.
    Report {
        /// Which.
        address: Address,
        /// How.
        result: TaskResult,
        /// How long it ran.
        run_ms: u64,
        /// How long its inputs were on their way; 0 if that was not said.
        fetch_ms: u64,
    },
    /// It gives tries back.
    HandBack {
        /// Which.
        attempts: Vec<Address>,
    },
    /// It wants nothing new.
    Draining,
    /// It wants nothing new for now, and why, or does again.
    Availability {
        /// Why not; none if it does.
        busy_reason: Option<Arc<str>>,
    },
    /// Its connection closed.
    Disconnected,
}

/// What a worker is told.
#[derive(Debug, Clone)]
pub enum ToWorker {
    /// A task to run.
    Assign {
        /// The try.
        address: Address,
        /// The job's short name.
        job: JobNumber,
        /// The task.
        spec: Arc<TaskSpec>,
    },
    /// A report is durable, or was not wanted.
    Received(Address),
    /// Stop a try.
    Stop(Address),
    /// Finish what runs, and leave.
    Drain,
    /// The broker stops, and will be back.
    BackSoon,
}
