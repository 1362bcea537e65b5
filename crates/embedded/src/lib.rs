//! A broker and workers inside one process: what `thread:N` is.
//!
//! The same daemons, the same loopback wire and the same files as everywhere else, on a runtime of their own, so that
//! a customer who keeps its own runtime busy does not make the broker think that its worker is lost.

use dewar_broker::{Broker, Patience};
use dewar_task::Registry;
use dewar_worker::Worker;
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};
use tokio::{runtime::Runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

/// Threads of the runtime. Kernels have their own, one for each slot.
const RUNTIME_THREADS: usize = 2;

/// How to run inside one process.
#[derive(Clone)]
pub struct Options {
    /// Where the broker keeps its data and the worker its cache. Locked while in use; the same folder again takes up
    /// the same jobs.
    pub data_dir: PathBuf,
    /// Tasks that run at once.
    pub slot_count: u16,
    /// Folders whose files are imported in place.
    pub exports: Vec<PathBuf>,
    /// What the worker can compute.
    pub kernels: Registry,
}

/// A broker and a worker at work. Dropping it ends them without waiting; [`Embedded::shutdown`] waits.
#[derive(Debug)]
pub struct Embedded {
    address: String,
    token: String,
    stop: CancellationToken,
    ended: Option<oneshot::Receiver<Result<(), Fault>>>,
    runtime: Option<Runtime>,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gave no threads.
    #[error("threads could not be started")]
    Runtime(#[source] std::io::Error),
    /// The broker did not start.
    #[error(transparent)]
    Broker(#[from] dewar_broker::StartError),
    /// The broker's token is none.
    #[error(transparent)]
    Token(#[from] dewar_proto::transport::MalformedToken),
    /// The worker did not start.
    #[error(transparent)]
    Worker(#[from] dewar_worker::StartError),
    /// A bug.
    #[error("starting failed")]
    Failed(#[source] tokio::task::JoinError),
}

/// Why what ran does so no more.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The broker's disk or server failed.
    #[error(transparent)]
    Broker(#[from] dewar_broker::Fault),
    /// The worker left by itself.
    #[error(transparent)]
    Worker(#[from] dewar_worker::RunningError),
    /// A bug.
    #[error("the broker or the worker was lost")]
    Lost,
}

/// Both daemons.
struct Pair {
    broker: dewar_broker::Running,
    worker: dewar_worker::Running,
}

impl Embedded {
    /// Starts a broker, and one worker with all the slots.
    ///
    /// # Errors
    /// If the folder is in use, or either does not start.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("embedded")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let mut embedded = Self {
            address: String::new(),
            token: String::new(),
            stop: CancellationToken::new(),
            ended: None,
            runtime: None,
        };
        let starting = runtime.spawn(start_pair(options));
        // From here on a dropped call ends what was begun.
        let runtime = embedded.runtime.insert(runtime);
        let pair = starting.await.map_err(StartError::Failed)??;
        embedded.address = pair.broker.address().to_string();
        pair.broker.token().clone_into(&mut embedded.token);
        let (sender, receiver) = oneshot::channel();
        let stop = embedded.stop.clone();
        runtime.spawn(async move {
            // Nobody listens any more once the customer is gone.
            let _ = sender.send(pair.serve(stop).await);
        });
        embedded.ended = Some(receiver);
        Ok(embedded)
    }

    /// Where the broker listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What opens it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The end of broker and worker, to be waited for beside them. `None` when it was taken before.
    pub fn take_end(&mut self) -> Option<End> {
        self.ended.take().map(End)
    }

    /// What makes broker and worker stop in good order; their [`End`] tells when they have.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops both in good order: the folder is free afterwards.
    ///
    /// # Errors
    /// If either had failed.
    pub async fn shutdown(mut self) -> Result<(), Fault> {
        self.stop();
        match self.take_end() {
            Some(end) => end.wait().await,
            None => Ok(()),
        }
    }
}

/// The end of broker and worker.
#[derive(Debug)]
pub struct End(oneshot::Receiver<Result<(), Fault>>);

impl End {
    /// Waits until both have stopped.
    ///
    /// # Errors
    /// If either failed.
    pub async fn wait(self) -> Result<(), Fault> {
        self.0.await.unwrap_or(Err(Fault::Lost))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.cancel();
        // Waiting is not possible here, and not needed: whatever is on disk is in order at any time.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn start_pair(options: Options) -> Result<Pair, StartError> {
    let broker = Broker::start(dewar_broker::Config {
        listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
        exports: options.exports,
        // Its worker ended with it.
        patience: Patience {
            comeback: Duration::ZERO,
            ..Patience::default()
        },
        ..dewar_broker::Config::new(options.data_dir.join("broker"))
    })
    .await?;
    let worker = Worker::start(
        dewar_worker::Config {
            broker: broker.address().to_string(),
            token: broker.token().parse()?,
            slot_count: options.slot_count,
            name: "embedded".to_owned(),
            site: String::new(),
            cache_dir: options.data_dir.join("cache"),
            cache_bytes_max: dewar_worker::CACHE_BYTES_DEFAULT,
            results: dewar_worker::ResultsAt::Broker,
            data: None,
            nice: 0,
            load_limit: None,
            memory_bytes: dewar_worker::memory_bytes_default(),
            stuck: dewar_worker::StuckKernel::Replace,
            exit_when_idle: None,
            exit_when_unreachable: None,
        },
        options.kernels,
    )?;
    Ok(Pair { broker, worker })
}

impl Pair {
    /// Runs until told to stop, or until one fails.
    async fn serve(mut self, stop: CancellationToken) -> Result<(), Fault> {
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = self.broker.wait() => ended.map_err(Fault::from),
            ended = self.worker.wait() => ended.map_err(Fault::from),
        };
        if let Err(error) = &ended {
            tracing::error!(%error, "broker or worker failed");
        }
        // The worker first, so that the broker hears what it hands back.
        self.worker.stop();
        let left = self.worker.wait().await;
        let stopped = self.broker.shutdown().await;
        ended
            .and(left.map_err(Fault::from))
            .and(stopped.map_err(Fault::from))
    }
}
