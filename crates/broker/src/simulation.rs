//! The engine opened up, for simulations that bring their own store, network and time. Nobody else's business.

pub use crate::engine::{Address, FromWorker, Hello, ToWorker, WorkerInfo};

use crate::{
    disk_space::Reserve,
    engine::{Engine, EngineError, EngineFault, EngineHandle},
    roster::Roster,
    store::{Packs, Store, StoreError},
};
use dewar_queue::{Command, Config, JobNumber, Queue, WorkerId};
use std::path::Path;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// An engine that was opened and does not run yet.
pub struct Simulated(Engine);

/// How workers and customers reach the engine.
#[derive(Clone)]
pub struct Door(EngineHandle);

/// Rebuilds the queue from the store, and from the roster in a folder. Blobs that nobody holds stay where they are.
///
/// # Errors
/// If the store cannot be read.
pub fn open(
    store: Box<dyn Store>,
    packs: Packs,
    mut config: Config,
    roster_folder: &Path,
    unix_ms: impl Fn() -> u64 + Send + 'static,
) -> Result<(Simulated, Door), StoreError> {
    let roster = Roster::new(roster_folder);
    config.expected_workers = roster.read();
    let keep = Box::new(|_| Box::pin(async {}) as _);
    let (mut engine, handle) = Engine::open(store, packs, Reserve::none(), config, keep)?;
    engine.keep_roster(roster);
    Ok((Simulated(engine.with_wall_clock(unix_ms)), Door(handle)))
}

impl Simulated {
    /// Runs until told to stop. Dropped, it dies as a process does.
    ///
    /// # Errors
    /// If the store failed.
    pub async fn run(self, stop: CancellationToken) -> Result<(), EngineFault> {
        self.0.run(stop).await
    }
}

impl Door {
    /// What a customer says; durable when it returns.
    ///
    /// # Errors
    /// If the rules say no, or the engine is gone.
    pub async fn command(&self, command: Command) -> Result<(), EngineError> {
        self.0.command(command).await.map(|_| ())
    }

    /// Looks at the queue.
    ///
    /// # Errors
    /// If the engine is gone.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Queue) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        self.0.query(|view| look(view.queue)).await
    }

    /// A receiver that changes whenever the job gets outcomes or ends.
    ///
    /// # Errors
    /// If the engine is gone.
    pub async fn subscribe(&self, job: JobNumber) -> Result<watch::Receiver<()>, EngineError> {
        self.0.subscribe(job).await
    }

    /// Begins a worker's session, and gives its number.
    ///
    /// # Errors
    /// If the rules say no, or the engine is gone.
    pub async fn attend(
        &self,
        hello: Hello,
        outbox: mpsc::Sender<ToWorker>,
    ) -> Result<u64, EngineError> {
        self.0.attend(hello, outbox).await
    }

    /// Passes on what a worker says.
    ///
    /// # Errors
    /// If the engine is gone.
    pub async fn hear(
        &self,
        worker: WorkerId,
        session: u64,
        message: FromWorker,
    ) -> Result<(), EngineError> {
        self.0.hear(worker, session, message).await
    }
}
