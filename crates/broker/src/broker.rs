//! A whole broker: opened, serving, and stopped in order.

use crate::{
    config::Config,
    data_dir::{DataDir, DataDirError},
    disk_space::{DiskSpace, Reserve},
    engine::{Engine, EngineFault, EngineHandle, unix_ms},
    near::{Records, Taking},
    reports::Reports,
    roster::Roster,
    rpc::{self, auth::Auth},
    store::{PackError, Packs, SledStore, Store as _, StoreError},
    swarm,
    tokens::Tokens,
};
use dewar_blobs::{BlobStore, Digest};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Where a broker listens if nobody says, and the last port it tries.
const PORTS: std::ops::RangeInclusive<u16> = 9990..=9999;

/// How long calls may take to end when the broker stops. Customers and workers come back to the next one anyway.
const GOODBYE: Duration = Duration::from_secs(3);

/// Starts brokers.
#[derive(Debug)]
pub struct Broker;

/// A broker that serves. Dropped, it stops without waiting.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    token: String,
    data_dir: PathBuf,
    pulse: Pulse,
    stop: CancellationToken,
    life: Option<JoinHandle<Result<(), Fault>>>,
}

/// Tells whether a broker still does anything, to whoever restarts one that hangs.
#[derive(Clone)]
pub struct Pulse(EngineHandle);

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").finish_non_exhaustive()
    }
}

impl Pulse {
    /// Waits until the engine has answered. It does not while its disk takes nothing. False once it has ended.
    pub async fn beat(&self) -> bool {
        self.0.query(|_| ()).await.is_ok()
    }
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// None was given, and the account has no home.
    #[error("this account has no folder for its state; give --data-dir")]
    NoDataDir,
    /// The data folder will not do.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pack files do not open.
    #[error(transparent)]
    Packs(#[from] PackError),
    /// The folder of blobs does not open.
    #[error("cannot open the blobs")]
    Blobs(#[source] io::Error),
    /// The folder of reports does not open.
    #[error("cannot open the reports")]
    Reports(#[source] io::Error),
    /// An exported folder will not do.
    #[error("cannot export {}", path.display())]
    Export {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address will not do.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address, or the last one that was tried.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could listen in.
    #[error(
        "{0} can be reached from other machines, and nothing is encrypted yet: tokens and data would travel in the open \
         (on a network that you trust, say --insecure)"
    )]
    Insecure(SocketAddr),
    /// The thread that opened the folder panicked.
    #[error("opening the data folder was cut short")]
    Interrupted,
}

impl StartError {
    /// Whether the same settings will fail again, however often they are tried. A full disk, a taken port or a folder in
    /// use may mend by itself.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        match self {
            Self::DataDir(error) => matches!(
                error,
                DataDirError::BadToken { .. } | DataDirError::NetworkFileSystem { .. }
            ),
            Self::Store(error) => matches!(
                error,
                StoreError::Newer { .. } | StoreError::NetworkFileSystem { .. }
            ),
            Self::NoDataDir | Self::Export { .. } | Self::Insecure(_) => true,
            Self::Packs(_)
            | Self::Blobs(_)
            | Self::Reports(_)
            | Self::Listen { .. }
            | Self::Interrupted => false,
        }
    }
}

/// Why a broker that served does so no more.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] EngineFault),
    /// The network failed.
    #[error("the server failed")]
    Server(#[source] tonic::transport::Error),
    /// A task of the broker panicked.
    #[error("a part of the broker was lost")]
    Lost,
}

/// What opening the data folder gives.
struct Opened {
    folder: DataDir,
    engine: Engine,
    handle: EngineHandle,
    blobs: BlobStore,
    near: swarm::Near,
    reports: Reports,
    take_in: mpsc::UnboundedReceiver<Taking>,
}

impl Broker {
    /// Opens the data folder, rebuilds the queue, and serves.
    ///
    /// # Errors
    /// If the folder, the store or the address will not do.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        if let Some(address) = config.listen
            && !address.ip().is_loopback()
            && !config.insecure
        {
            return Err(StartError::Insecure(address));
        }
        let started_unix_ms = unix_ms();
        let for_opening = config.clone();
        let opened = spawn_blocking(move || open(&for_opening)).await;
        let Opened {
            folder,
            engine,
            handle,
            blobs,
            near,
            reports,
            take_in,
        } = opened.map_err(|_| StartError::Interrupted)??;
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().map_err(|source| StartError::Listen {
            address: any_loopback(0),
            source,
        })?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "listening beyond this machine, and nothing is encrypted");
        }
        let counts = engine.queue().counts();
        tracing::info!(
            broker_start = handle.broker_start(),
            jobs = engine.queue().jobs().count(),
            waiting = counts.waiting,
            "opened {}",
            folder.path().display()
        );

        let stop = CancellationToken::new();
        let disk = DiskSpace::watch(folder.path(), config.disk, stop.clone());
        let disk = disk.map_err(|source| DataDirError::Io {
            action: "examine the disk of",
            path: folder.path().to_owned(),
            source,
        })?;
        let pulse = Pulse(handle.clone());
        let services = rpc::Services {
            swarm: swarm::start(handle.clone(), near, stop.clone()),
            take_in,
            peer_token: peer_token(folder.token()),
            engine: handle,
            blobs: blobs.clone(),
            auth: Auth::new(Tokens::new(folder.token(), folder.path())),
            patience: config.patience,
            broker_id: folder.broker_id(),
            data_dir: folder.path().display().to_string(),
            started_unix_ms,
            blob_bytes: Arc::new(move || blobs.total_bytes()),
            disk,
            traffic: rpc::Traffic::new(config.upload_limit, config.download_limit),
            reports,
        };
        Ok(Running {
            address,
            token: folder.token().to_owned(),
            data_dir: folder.path().to_owned(),
            pulse,
            life: Some(tokio::spawn(live(
                engine,
                services,
                listener,
                folder,
                stop.clone(),
            ))),
            stop,
        })
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that opens it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where its pulse is felt.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Asks it to stop; [`Running::wait`] tells when it has.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops it: what it was told by now is written and answered, and its data folder is free afterwards.
    ///
    /// # Errors
    /// If it had failed, or fails on the way.
    pub async fn shutdown(mut self) -> Result<(), Fault> {
        self.stop();
        self.wait().await
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// If it did so because something failed: its process should end with it.
    pub async fn wait(&mut self) -> Result<(), Fault> {
        match &mut self.life {
            None => Ok(()),
            Some(life) => {
                let ended = life.await.unwrap_or(Err(Fault::Lost));
                self.life = None;
                ended
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn open(config: &Config) -> Result<Opened, StartError> {
    for path in &config.exports {
        let listed = path.read_dir().and_then(|_| path.canonicalize());
        listed.map_err(|source| StartError::Export {
            path: path.clone(),
            source,
        })?;
    }
    let folder = DataDir::open(&config.data_dir)?;
    // First of all, since on a full disk the store may need the room to open.
    let reserve = Reserve::open(folder.path(), config.disk);
    let store = Box::new(SledStore::open(&folder.path().join("store"))?);
    let packs = Packs::open(&folder.path().join("packs"))?;
    let waits = config.patience.comeback > Duration::ZERO;
    let roster = waits.then(|| Roster::new(folder.path()));
    let expected = roster.as_ref().map_or_else(Vec::new, Roster::read);
    let queue = config.queue(store.broker_start(), expected);
    let blobs_dir = folder.path().join("blobs");
    let blobs = BlobStore::open(&blobs_dir, &config.exports, config.disk.reserve_bytes)
        .map_err(StartError::Blobs)?;
    let (records, recorded) =
        Records::open(&folder.path().join("near")).map_err(StartError::Blobs)?;
    let reports = Reports::open(&folder.path().join("reports")).map_err(StartError::Reports)?;
    let (give_up, given_up) = mpsc::unbounded_channel();
    let (to_take_in, take_in) = mpsc::unbounded_channel();
    let near = swarm::Near {
        records,
        recorded,
        patience: config.near,
        given_up,
        take_in: to_take_in,
    };
    let drop_blobs = drop_blobs(blobs.clone(), give_up);
    let (mut engine, handle) = Engine::open(store, packs, reserve, queue, drop_blobs)?;
    if let Some(roster) = roster {
        engine.keep_roster(roster);
    }
    // All folders are made by now.
    folder.sync_names()?;
    let swept = blobs
        .sweep(|digest| engine.queue().is_held(&dewar_queue::Digest(digest.0)))
        .map_err(StartError::Blobs)?;
    if swept.blob_count > 0 {
        tracing::info!(
            count = swept.blob_count,
            freed_bytes = swept.freed_bytes,
            "deleted blobs that nobody held"
        );
    }
    Ok(Opened {
        folder,
        engine,
        handle,
        blobs,
        near,
        reports,
        take_in,
    })
}

/// Deletes blobs the queue has given up. The engine waits for it, so that no later hold finds its blob gone. Of those that
/// workers keep the swarm hears: it knows by itself of which ones an outcome is on its way.
fn drop_blobs(
    blobs: BlobStore,
    near: mpsc::UnboundedSender<Vec<dewar_queue::Digest>>,
) -> crate::engine::DropBlobs {
    Box::new(move |digests| {
        let blobs = blobs.clone();
        // A broker that shuts down looks for them at its next start.
        let _ = near.send(digests.clone());
        Box::pin(async move {
            let deleting = spawn_blocking(move || {
                for digest in digests {
                    // It is swept later; no reason to stop serving.
                    if let Err(error) = blobs.delete(&Digest(digest.0)) {
                        tracing::warn!(%digest, %error, "cannot delete a blob");
                    }
                }
            });
            if deleting.await.is_err() {
                tracing::warn!("deleting blobs was cut short");
            }
        })
    })
}

async fn listen(address: Option<SocketAddr>) -> Result<TcpListener, StartError> {
    if let Some(address) = address {
        return TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address, source });
    }
    let mut failure = None;
    for port in PORTS {
        let address = any_loopback(port);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                if port != *PORTS.start() {
                    tracing::warn!(
                        port,
                        "port {} is taken; using the next free one",
                        PORTS.start()
                    );
                }
                return Ok(listener);
            }
            Err(source) => {
                let taken = source.kind() == io::ErrorKind::AddrInUse;
                failure = Some(StartError::Listen { address, source });
                if !taken {
                    break;
                }
            }
        }
    }
    Err(failure.expect("there is at least one port to try"))
}

/// What opens workers to one another: made of the broker's own token, so that workers who outlast a restart of the broker
/// still open one another, and of nothing that opens the broker.
fn peer_token(own: &str) -> Arc<str> {
    let secret = blake3::derive_key("dewar 2026-11-25 token of peers", own.as_bytes());
    format!("peers.{}", blake3::Hash::from_bytes(secret).to_hex()).into()
}

fn any_loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Engine and server side by side; when one ends, so does the other. The folder is unlocked last.
async fn live(
    engine: Engine,
    services: rpc::Services,
    listener: TcpListener,
    folder: DataDir,
    stop: CancellationToken,
) -> Result<(), Fault> {
    let mut engine = tokio::spawn(engine.run(stop.clone()));
    let mut server = tokio::spawn(rpc::serve(services, listener, stop.clone()));
    let first = tokio::select! {
        ended = &mut engine => {
            let ended = ended.map_err(|_| Fault::Lost).and_then(|ended| Ok(ended?));
            stop.cancel();
            // On a disk that failed nothing can be promised any more, so nobody is waited for.
            let goodbye = if ended.is_ok() { GOODBYE } else { Duration::ZERO };
            if timeout(goodbye, &mut server).await.is_err() {
                server.abort();
            }
            ended
        }
        ended = &mut server => {
            stop.cancel();
            let ended = match ended {
                Ok(ended) => ended.map_err(Fault::Server),
                Err(_) => Err(Fault::Lost),
            };
            let engine = (&mut engine).await.map_err(|_| Fault::Lost);
            ended.and(engine.and_then(|ended| Ok(ended?)))
        }
    };
    drop(folder);
    first
}
