//! The one owner of what is wanted: tells the broker, fetches from where it says, and gives the bytes to whoever asked.

mod says;

use super::{
    sharing::{FromBroker, keep_sharing},
    transfer::{Peer, Sources, Trouble},
};
use crate::near::{FromSwarm, Near};
use dewar_blobs::{BlobRef, Chunk, ChunkCache, ChunkSet, Pieces, ReadError};
use dewar_proto::{AuthorizedChannel, PROTOCOL, v1};
use says::holding;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use v1::{share_request::Message as ToBroker, share_response::Message as Heard};

/// Blobs in one message of holdings; the broker takes 4,096.
const HOLDINGS_MAX: usize = 1024;

/// Between two looks whether those who asked for chunks still want them.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A chunk that came is in the cache within this time, or will not be.
const KEPT_WITHIN: Duration = Duration::from_secs(60);

/// What is asked of the owner, or told.
pub(crate) enum Wish {
    Fetch {
        chunk: Chunk,
        reply: oneshot::Sender<Result<Pieces, ReadError>>,
    },
    /// Chunks that the broker wanted here are here, of which some may have been all along.
    Precached { blob: BlobRef, chunks: ChunkSet },
    /// A blob the broker wanted here does not come.
    CannotPrecache { blob: BlobRef, message: String },
    /// The broker is to hear something.
    Say(ToBroker),
}

/// One chunk of one blob.
type Key = (BlobRef, u64);

/// From whom a chunk comes; nobody is the broker.
type From = Option<Peer>;

/// A chunk somebody asked for.
struct Want {
    chunk: Chunk,
    reply: Option<oneshot::Sender<Result<Pieces, ReadError>>>,
    /// Where it is being fetched, or was.
    state: State,
}

#[derive(PartialEq)]
enum State {
    /// The broker has not said from whom.
    Waiting,
    Fetching,
    /// It came, and the cache is about to keep it.
    Came {
        from: From,
        at: Instant,
    },
}

/// Who the worker is to the swarm.
pub(crate) struct Myself {
    pub(crate) worker_id: [u8; 16],
    /// Where peers reach it; empty if they cannot.
    pub(crate) data_address: String,
}

/// The state.
pub(crate) struct Owner {
    myself: Myself,
    cache: ChunkCache,
    sources: Sources,
    /// What peers must show to be served.
    token: watch::Sender<Option<Arc<str>>>,
    /// None while there is no connection.
    outbox: Option<mpsc::Sender<v1::ShareRequest>>,
    /// The broker knows no swarm: everything comes from it.
    is_alone: bool,
    wants: HashMap<Key, Want>,
    /// What the broker was told on this connection that we hold.
    told: HashMap<BlobRef, ChunkSet>,
    /// How often chunks had been removed from the cache when what the broker was told was last compared with it.
    eviction_count: u64,
    transfers: JoinSet<(Key, From, Result<Pieces, Outcome>)>,
    precaches: mpsc::Sender<BlobRef>,
    /// Hears all that is about results kept here.
    near: Near,
}

/// How a transfer failed.
enum Outcome {
    /// A peer did not give it; another may.
    Peer(Trouble),
    /// The broker did not give it, and that is that.
    Broker(ReadError),
}

impl Owner {
    /// An owner that was asked for nothing yet. Blobs the broker wants fetched beforehand go to `precaches`.
    pub(crate) fn new(
        myself: Myself,
        cache: ChunkCache,
        sources: Sources,
        token: watch::Sender<Option<Arc<str>>>,
        precaches: mpsc::Sender<BlobRef>,
        near: Near,
    ) -> Self {
        Self {
            myself,
            cache,
            sources,
            token,
            outbox: None,
            is_alone: false,
            wants: HashMap::new(),
            told: HashMap::new(),
            eviction_count: 0,
            transfers: JoinSet::new(),
            precaches,
            near,
        }
    }

    /// Serves wishes until `stop`.
    pub(crate) async fn run(
        mut self,
        channel: AuthorizedChannel,
        mut wishes: mpsc::UnboundedReceiver<Wish>,
        stop: CancellationToken,
    ) {
        let mut kept = self.cache.listen();
        let (events, mut from_broker) = mpsc::channel(1024);
        let sharing = tokio::spawn(keep_sharing(channel, events));
        let mut look = time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => self.grant(wish),
                    None => break,
                },
                Some(chunk) = kept.recv() => self.note_kept(chunk),
                Some(event) = from_broker.recv() => self.hear(event).await,
                Some(done) = self.transfers.join_next() => {
                    if let Ok((key, from, came)) = done {
                        self.finish(key, from, came);
                    }
                }
                _ = look.tick() => {
                    self.drop_unwanted();
                    self.tell_evicted().await;
                }
                () = stop.cancelled() => break,
            }
        }
        sharing.abort();
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Fetch { chunk, reply } => self.want(chunk, reply),
            Wish::Precached { blob, chunks } => self.say_precached(blob, chunks),
            Wish::CannotPrecache { blob, message } => self.say_not_precached(blob, message),
            Wish::Say(message) => self.say(message),
        }
    }

    /// A chunk is in the cache, and can be given to others.
    fn note_kept(&mut self, chunk: Chunk) {
        let key = (chunk.blob, chunk.index);
        if let Some(Want {
            state: State::Came { from, .. },
            ..
        }) = self.wants.get(&key)
        {
            let from = from.clone();
            self.wants.remove(&key);
            self.told.entry(chunk.blob).or_default().insert(chunk.index);
            self.say(ToBroker::Got(v1::Got {
                blob: Some(chunk.blob.into()),
                chunk: chunk.index,
                source_worker_id: from.map_or_else(Vec::new, |peer| peer.worker_id),
            }));
        } else {
            // Whoever wanted it was stopped meanwhile.
            let chunks = [chunk.index].into_iter().collect();
            self.say_held(chunk.blob, &chunks);
        }
    }

    fn want(&mut self, chunk: Chunk, reply: oneshot::Sender<Result<Pieces, ReadError>>) {
        let key = (chunk.blob, chunk.index);
        let before = self.wants.insert(
            key,
            Want {
                chunk,
                reply: Some(reply),
                state: State::Waiting,
            },
        );
        if before.is_some() {
            self.say_unwanted(key);
        }
        if self.is_alone {
            self.fetch(key, None);
        } else {
            self.say_wanted([key]);
        }
    }

    async fn hear(&mut self, event: FromBroker) {
        match event {
            FromBroker::Connecting(outbox) => self.greet(outbox).await,
            FromBroker::Heard(Heard::Welcome(welcome)) => self.settle(&welcome),
            FromBroker::Heard(Heard::Fetch(fetch)) => self.obey(fetch),
            FromBroker::Heard(Heard::Precache(precache)) => self.precache(&precache),
            FromBroker::Heard(message) => self.near.hear(FromSwarm::Heard(message)),
            FromBroker::Ended => {
                self.outbox = None;
                self.near.hear(FromSwarm::Ended);
            }
            FromBroker::NoSwarm(status) => {
                self.near.hear(FromSwarm::Welcomed(None));
                tracing::info!(
                    reason = status.message(),
                    "the broker knows no swarm; all comes from it"
                );
                self.outbox = None;
                self.is_alone = true;
                for key in self.waiting() {
                    self.fetch(key, None);
                }
            }
        }
    }

    /// Hello, then all that is held, then all that is wanted.
    async fn greet(&mut self, outbox: mpsc::Sender<v1::ShareRequest>) {
        self.outbox = Some(outbox);
        self.say(ToBroker::Hello(v1::ShareHello {
            protocol: Some(PROTOCOL),
            worker_id: self.myself.worker_id.to_vec(),
            data_address: self.myself.data_address.clone(),
            node: node(),
        }));
        self.told = self.holdings().await.unwrap_or_default();
        let added: Vec<_> = self.told.iter().map(holding).collect();
        for added in added.chunks(HOLDINGS_MAX) {
            self.say(ToBroker::Holdings(v1::Holdings {
                added: added.to_vec(),
                removed: Vec::new(),
            }));
        }
        let wanted: Vec<_> = self.wants.keys().copied().collect();
        self.say_wanted(wanted);
    }

    /// All that the cache holds, unless that cannot be known now.
    async fn holdings(&mut self) -> Option<HashMap<BlobRef, ChunkSet>> {
        // Before looking: what goes meanwhile is looked for again.
        self.eviction_count = self.cache.eviction_count();
        let cache = self.cache.clone();
        let holdings = tokio::task::spawn_blocking(move || cache.holdings()).await;
        let holdings = holdings.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let holdings = holdings
            .inspect_err(|error| tracing::warn!(%error, "what the cache holds is not known"));
        Some(holdings.ok()?.into_iter().collect())
    }

    /// Whoever shares the folder may have made room in it: nobody is to be sent here for what is gone. Chunks that come
    /// meanwhile are told of after this.
    async fn tell_evicted(&mut self) {
        if self.outbox.is_none() || self.cache.eviction_count() == self.eviction_count {
            return;
        }
        let Some(here) = self.holdings().await else {
            return;
        };
        let mut removed = Vec::new();
        self.told.retain(|blob, told| {
            let mut gone = told.clone();
            here.get(blob).inspect(|here| gone.remove_all(here));
            told.remove_all(&gone);
            if !gone.is_empty() {
                removed.push(holding((blob, &gone)));
            }
            !told.is_empty()
        });
        for removed in removed.chunks(HOLDINGS_MAX) {
            self.say(ToBroker::Holdings(v1::Holdings {
                added: Vec::new(),
                removed: removed.to_vec(),
            }));
        }
    }

    fn settle(&mut self, welcome: &v1::ShareWelcome) {
        let broker_id = Uuid::from_slice(&welcome.broker_id).ok();
        self.near.hear(FromSwarm::Welcomed(broker_id));
        match welcome.peer_token.parse() {
            Ok(token) => {
                self.sources.set_token(token);
                self.token
                    .send_replace(Some(welcome.peer_token.as_str().into()));
            }
            Err(error) => tracing::warn!(%error, "the broker's token for peers is malformed"),
        }
    }

    fn obey(&mut self, fetch: v1::Fetch) {
        let Ok(blob) = BlobRef::from_wire(fetch.blob.as_ref(), "fetch.blob") else {
            return;
        };
        let peer = fetch.peer.map(|peer| Peer {
            worker_id: peer.worker_id,
            address: peer.address.into(),
        });
        self.fetch((blob, fetch.chunk), peer);
    }

    fn fetch(&mut self, key: Key, from: From) {
        let Some(want) = self.wants.get_mut(&key) else {
            self.say_unwanted(key);
            return;
        };
        if want.state != State::Waiting {
            return;
        }
        want.state = State::Fetching;
        let chunk = want.chunk;
        match &from {
            None => {
                let coming = self.sources.broker_transfer(chunk);
                self.transfers
                    .spawn(async move { (key, from, coming.await.map_err(Outcome::Broker)) });
            }
            Some(peer) => {
                let coming = self.sources.peer_transfer(peer, chunk);
                self.transfers
                    .spawn(async move { (key, from, coming.await.map_err(Outcome::Peer)) });
            }
        }
    }

    fn finish(&mut self, key: Key, from: From, came: Result<Pieces, Outcome>) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        match came {
            Ok(pieces) => {
                want.state = State::Came {
                    from,
                    at: Instant::now(),
                };
                if !want.answer(Ok(pieces)) {
                    self.give_up(key);
                }
            }
            Err(Outcome::Peer(trouble)) => {
                want.state = State::Waiting;
                self.say(ToBroker::Missed(v1::Missed {
                    blob: Some(key.0.into()),
                    chunk: key.1,
                    source_worker_id: from.map_or_else(Vec::new, |peer| peer.worker_id),
                    reason: trouble.reason.into(),
                    message: trouble.message,
                }));
            }
            Err(Outcome::Broker(error)) => {
                want.answer(Err(error));
                self.give_up(key);
            }
        }
    }

    fn give_up(&mut self, key: Key) {
        self.wants.remove(&key);
        self.say_unwanted(key);
    }

    /// Those whose task was stopped, and those the cache did not keep.
    fn drop_unwanted(&mut self) {
        let unwanted = self.wants.iter().filter(|(_, want)| want.is_over());
        let unwanted: Vec<_> = unwanted.map(|(key, _)| *key).collect();
        for key in unwanted {
            self.give_up(key);
        }
    }

    fn precache(&mut self, precache: &v1::Precache) {
        let Ok(blob) = BlobRef::from_wire(precache.blob.as_ref(), "precache.blob") else {
            return;
        };
        if self.precaches.try_send(blob).is_err() {
            self.say_not_precached(blob, "too much to fetch beforehand".to_owned());
        }
    }

    fn waiting(&self) -> Vec<Key> {
        let waiting = self.wants.iter();
        waiting
            .filter(|(_, want)| want.state == State::Waiting)
            .map(|(key, _)| *key)
            .collect()
    }
}

impl Want {
    fn is_over(&self) -> bool {
        match &self.state {
            State::Came { at, .. } => at.elapsed() > KEPT_WITHIN,
            State::Waiting | State::Fetching => {
                self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
            }
        }
    }

    /// Gives whoever asked an answer; false if nobody waits for it.
    fn answer(&mut self, answer: Result<Pieces, ReadError>) -> bool {
        let reply = self.reply.take();
        reply.is_some_and(|reply| reply.send(answer).is_ok())
    }
}

/// The same for all workers on one machine, and for no others; empty if the system does not say.
fn node() -> String {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    boot_id.unwrap_or_default().trim().to_owned()
}
