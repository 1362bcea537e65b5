//! A worker as its owner sees it: started, drained, stopped, waited for.

use crate::{
    Config, ResultsAt, StartError,
    book::{Book, STUCK_AFTER},
    connection,
    delivery::Delivery,
    handover::Handover,
    materials::Materials,
    near::{Near, NearStore, copy},
    restart,
    results::{Identity, Keeper, broker_key},
    self_test::self_test,
    session::{Event, Session},
    slots::Slots,
    swarm::{DataPort, Myself, Owner, PeerToken, Sources, SwarmSource, Wish, precache},
};
use dewar_blobs::{BlobClient, ChunkCache, Pace};
use dewar_proto::{AuthorizedChannel, transport};
use dewar_task::Registry;
use std::{net::IpAddr, path::PathBuf, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Events that wait for the session. Those who send them wait when it is full.
const EVENTS_MAX: usize = 1024;

/// Blobs that wait to be fetched beforehand.
const PRECACHES_MAX: usize = 65_536;

/// Copies that wait to be made, more than the broker asks for at once of all workers that share the folder.
const COPIES_MAX: usize = 1024;

/// How long the last messages may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts workers.
#[derive(Debug)]
pub struct Worker;

/// A worker at work. Dropping it stops the worker.
#[derive(Debug)]
pub struct Running {
    worker_id: Uuid,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    /// None once it was waited for.
    session: Option<JoinHandle<Result<(), RunningError>>>,
}

/// Tells whether a worker's session still decides.
#[derive(Debug, Clone)]
pub struct Pulse(mpsc::Sender<Event>);

impl Pulse {
    /// Waits for the session to answer; false once it has ended.
    pub async fn beat(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(Event::Pulse(answer)).await.is_ok() && answered.await.is_ok()
    }
}

/// How fast data may move.
struct Paces {
    upload: Pace,
    download: Pace,
}

/// Why a worker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// The broker does not want it.
    #[error("the broker at {address} refused this worker: {message}")]
    Refused {
        /// The broker.
        address: String,
        /// What it said.
        message: String,
    },
    /// The broker was away for longer than allowed.
    #[error("the broker at {address} was not reached for {} s: {reason}", after.as_secs())]
    Unreachable {
        /// The broker.
        address: String,
        /// How long that was.
        after: Duration,
        /// What the last try met.
        reason: String,
    },
    /// A kernel does not stop when told, and only a new process is rid of it. What else it ran is handed back.
    #[error("the kernel of {attempt} did not stop within {} s of being told", STUCK_AFTER.as_secs())]
    Stuck {
        /// Which try.
        attempt: String,
    },
    /// A worker that is gone left results for this broker, whom it knew by another address or token.
    #[error(
        "worker {worker_id} is gone and left results for this broker; they are for the next process to deliver"
    )]
    LeftResults {
        /// That worker.
        worker_id: Uuid,
    },
    /// The results that are kept here are another broker's.
    #[error(
        "another broker than before answers at {address}; what was done for the one before is kept for it"
    )]
    OtherBroker {
        /// Where.
        address: String,
    },
    /// It was told to end a second time, and left things as they were.
    #[error("interrupted")]
    Interrupted,
    /// The system does not tell of signals.
    #[error("signals cannot be heard")]
    Signals(#[source] std::io::Error),
    /// A bug.
    #[error("the session failed")]
    Failed(#[source] tokio::task::JoinError),
}

impl RunningError {
    /// As which worker the process is to begin anew, if that is what it takes.
    pub fn anew_as(&self, worker_id: Uuid) -> Option<Uuid> {
        match self {
            Self::Stuck { .. } | Self::OtherBroker { .. } => Some(worker_id),
            Self::LeftResults { worker_id } => Some(*worker_id),
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Interrupted
            | Self::Signals(_)
            | Self::Failed(_) => None,
        }
    }
}

impl Worker {
    /// Starts a worker on the current runtime, with threads of its own for its kernels. It looks for its broker for as
    /// long as it takes.
    ///
    /// # Errors
    /// If the settings make no sense, this machine fails its self-test, or the cache folder or threads cannot be had.
    pub fn start(config: Config, registry: Registry) -> Result<Running, StartError> {
        if config.slot_count == 0 {
            return Err(StartError::NoSlots);
        }
        self_test(&registry)?;
        let data_port = config
            .data
            .as_ref()
            .map(|data| DataPort::bind(data.listen, data.advertise.clone(), &config.broker));
        let data_port = data_port.transpose()?;
        let local = data_port.as_ref().and_then(|port| port.local);
        // One connection for what is said, and one for bytes: no heartbeat waits behind a chunk.
        let channel = channel(&config, local)?;
        let data = config.data.clone().unwrap_or_default();
        let paces = Paces {
            upload: Pace::new(data.upload_limit),
            download: Pace::new(data.download_limit),
        };
        let blobs =
            BlobClient::new(self::channel(&config, local)?).with_upload(paces.upload.clone());
        let unusable = |source| StartError::Cache {
            folder: config.cache_dir.clone(),
            source,
        };
        let cache =
            ChunkCache::open(&config.cache_dir, config.cache_bytes_max).map_err(unusable)?;
        let results_dir = config.cache_dir.join("results");
        let identity = Identity::take(&results_dir, &broker_key(&config), restart::identity())
            .map_err(unusable)?;
        let (worker_id, broker_id) = (identity.worker_id, identity.broker_id);
        let (keeper, left) = Keeper::start(identity).map_err(unusable)?;

        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let slots = Slots::start(
            config.slot_count,
            config.memory_bytes,
            config.nice,
            &registry,
            &events,
        )
        .map_err(StartError::Thread)?;
        let leave = CancellationToken::new();
        let connection = tokio::spawn(connection::keep_connected(
            channel.clone(),
            events.clone(),
            leave.clone(),
        ));
        let stop = CancellationToken::new();
        let bytes_max = match config.results {
            ResultsAt::Near { bytes_max } => Some(bytes_max),
            ResultsAt::Broker => None,
        };
        let (source, near) = take_part(
            data_port,
            (worker_id.into_bytes(), local),
            (channel, blobs.clone()),
            (&cache, &paces),
            (config.cache_dir.join("near"), bytes_max),
            &leave,
        );
        let materials = Materials::new(cache, source);
        let handover = Handover::new(near.clone(), events.clone());
        let near = bytes_max.map(|_| near);
        let delivery = Delivery::new(blobs, near, keeper.clone());
        let mut book = Book::new(events.clone(), slots, materials, delivery, keeper);
        book.resume(left);
        let kernels = registry.kernels().collect();
        let session = Session::new(
            config,
            kernels,
            worker_id.into_bytes(),
            broker_id,
            inbox,
            (book, handover),
        );
        let ends = stop.clone();
        let session = tokio::spawn(async move {
            let ended = session.run(ends).await;
            leave.cancel();
            // The outbox is gone with the session: the connection ends once its last messages are out.
            let mut connection = connection;
            if time::timeout(FAREWELL_TIMEOUT, &mut connection)
                .await
                .is_err()
            {
                connection.abort();
            }
            ended
        });
        Ok(Running {
            worker_id,
            events,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            session: Some(session),
        })
    }
}

fn channel(config: &Config, local: Option<IpAddr>) -> Result<AuthorizedChannel, StartError> {
    let channel = transport::channel_from(local, &config.broker, config.token.clone());
    channel.map_err(|source| StartError::Address {
        address: config.broker.clone(),
        source,
    })
}

/// Makes the worker part of the swarm, until `leave`.
fn take_part(
    data_port: Option<DataPort>,
    (worker_id, local): ([u8; 16], Option<IpAddr>),
    (channel, broker): (AuthorizedChannel, BlobClient),
    (cache, paces): (&ChunkCache, &Paces),
    (near_dir, near_bytes_max): (PathBuf, Option<u64>),
    leave: &CancellationToken,
) -> (SwarmSource, Near) {
    let (wishes, wanted) = mpsc::unbounded_channel();
    let (precaches, beforehand) = mpsc::channel(PRECACHES_MAX);
    let (token, peer_token) = PeerToken::channel();
    let myself = Myself {
        worker_id,
        data_address: data_port
            .as_ref()
            .map_or_else(String::new, |port| port.address.clone()),
    };
    let (lost, found_lost) = mpsc::unbounded_channel();
    let store = NearStore::new(near_dir, near_bytes_max, lost);
    if let Some(port) = data_port {
        tokio::spawn(port.serve(
            (cache.clone(), store.clone()),
            peer_token,
            paces.upload.clone(),
            leave.clone(),
        ));
    }
    let sources = Sources::new(broker.clone(), local, paces.download.clone());
    let (copies, to_copy) = mpsc::channel(COPIES_MAX);
    let to_say = wishes.clone();
    let say = move |message| {
        // Without an owner there is nobody to tell.
        let _ = to_say.send(Wish::Say(message));
    };
    let near = Near::start(store.clone(), found_lost, say, copies);
    let owner = Owner::new(
        myself,
        cache.clone(),
        sources,
        token,
        precaches,
        near.clone(),
    );
    tokio::spawn(owner.run(channel, wanted, leave.clone()));
    let source = SwarmSource::new(broker, wishes.clone(), store.clone());
    tokio::spawn(precache(beforehand, cache.clone(), source.clone(), wishes));
    let copying = copy(to_copy, cache.clone(), source.clone(), store, near.clone());
    tokio::spawn(leave.clone().run_until_cancelled_owned(copying));
    (source, near)
}

impl Running {
    /// By which the broker knows it.
    pub fn worker_id(&self) -> Uuid {
        self.worker_id
    }

    /// By which to tell whether it still decides.
    pub fn pulse(&self) -> Pulse {
        Pulse(self.events.clone())
    }

    /// Lets the worker finish what runs, and leave.
    pub async fn drain(&self) {
        // A session that has ended has nothing to finish.
        let _ = self.events.send(Event::Drain).await;
    }

    /// Makes the worker hand back what it runs, and leave at once.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the worker has left. May be dropped and called again, as in `select!`; the
    /// end is told once.
    ///
    /// # Errors
    /// If it left because the broker refused it or was away for too long.
    pub async fn wait(&mut self) -> Result<(), RunningError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let ended = session.await;
        self.session = None;
        ended.unwrap_or_else(|error| Err(RunningError::Failed(error)))
    }
}
