//! What the broker hears of the folder, and what it says: the one owner of outputs that wait for the word that they are safe.

use super::store::{KeepError, Kept, NearStore};
use crate::{results::Piece, session::Event};
use dewar_blobs::{BlobRef, ChunkList, Digest, hash_bytes};
use dewar_proto::v1;
use std::{collections::HashMap, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{self, timeout},
};
use uuid::Uuid;
use v1::{share_request::Message as ToBroker, share_response::Message as FromBroker};

/// The broker finds a second worker within this time, or says that there is none. It asks two, each for one and a half minutes.
const SAFE_WITHIN: Duration = Duration::from_secs(240);

/// Between two looks for outputs that nobody waits for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A broker's lists in a message fit so many chunks: 128 GiB.
const CHUNKS_MAX: u64 = 1 << 17;

/// What comes over the swarm's connection.
pub(crate) enum FromSwarm {
    /// The broker has answered, and said who it is. One of before minor 4 does not.
    Welcomed(Option<Uuid>),
    Ended,
    Heard(FromBroker),
}

/// Why an output is not kept here.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// The broker is away, or was not met yet.
    Away,
    /// It is to be written to the broker.
    Refused(String),
}

enum Order {
    Swarm(FromSwarm),
    Claim {
        kept: Kept,
        list: ChunkList,
        reply: oneshot::Sender<Result<(), NotKept>>,
    },
    /// Why the folder is not open.
    Why {
        reply: oneshot::Sender<Result<(), NotKept>>,
    },
    Copied {
        kept: Kept,
        list: ChunkList,
    },
    NotCopied {
        blob: BlobRef,
        message: String,
    },
    /// The worker is about to go. The session hears what is still needed of the folder.
    Leave(mpsc::Sender<Event>),
}

/// The way to the owner. Clones are the same.
#[derive(Clone)]
pub(crate) struct Near {
    orders: mpsc::UnboundedSender<Order>,
    store: NearStore,
}

impl Near {
    /// Whether anything is kept here for the broker.
    pub(crate) fn keeps_some(&self) -> bool {
        self.store.keeps_some()
    }

    /// Starts the owner. What it says goes to `say`, and blobs it is told to keep go to `copies`.
    pub(crate) fn start(
        store: NearStore,
        lost: mpsc::UnboundedReceiver<Kept>,
        say: impl Fn(ToBroker) + Send + Sync + 'static,
        copies: mpsc::Sender<BlobRef>,
    ) -> Self {
        // Each is a message of the broker, an output or a copy, whose bounds are theirs.
        let (orders, inbox) = mpsc::unbounded_channel();
        let owner = Owner {
            store: store.clone(),
            say: Box::new(say),
            copies,
            link: Link::None,
            claims: HashMap::new(),
            leaving: None,
        };
        tokio::spawn(owner.run(inbox, lost));
        Self { orders, store }
    }

    pub(crate) fn hear(&self, event: FromSwarm) {
        // The owner lives as long as the worker.
        let _ = self.orders.send(Order::Swarm(event));
    }

    pub(super) fn copied(&self, blob: BlobRef, copied: Result<(Kept, ChunkList), String>) {
        let _ = self.orders.send(match copied {
            Ok((kept, list)) => Order::Copied { kept, list },
            Err(message) => Order::NotCopied { blob, message },
        });
    }

    /// Keeps an output, and waits until it is safe.
    pub(crate) async fn keep(&self, piece: &Piece) -> Result<(), NotKept> {
        if !self.store.takes_more() {
            return Err(NotKept::Refused("this worker keeps no results".to_owned()));
        }
        let (store, piece) = (self.store.clone(), piece.clone());
        let put = spawn_blocking(move || {
            let list = hash_bytes(&piece.bytes);
            let kept = match store.put_again(&list) {
                Some(kept) => kept,
                None => store.put(&list, &piece.bytes)?,
            };
            Ok::<_, KeepError>((kept, list))
        });
        let put = put
            .await
            .map_err(|error| NotKept::Refused(error.to_string()))?;
        let (kept, list) = match put {
            Ok(put) => put,
            // Nobody was met for whom it would be kept, unless a broker that knows nothing of this.
            Err(KeepError::Closed) => return self.ask(|reply| Order::Why { reply }).await,
            Err(error) => return Err(NotKept::Refused(with_cause(&error))),
        };
        let waited = self.ask(|reply| Order::Claim { kept, list, reply }).await;
        if let Err(NotKept::Refused(_)) = waited {
            let store = self.store.clone();
            // The broker gets it instead.
            let _ = spawn_blocking(move || store.remove(kept)).await;
        }
        waited
    }

    /// Has what only this folder keeps brought elsewhere. How much is left goes to `events`, at once and with every change.
    pub(crate) fn leave(&self, events: mpsc::Sender<Event>) {
        let _ = self.orders.send(Order::Leave(events));
    }

    async fn ask(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), NotKept>>) -> Order,
    ) -> Result<(), NotKept> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(order(reply));
        match timeout(SAFE_WITHIN, answer).await {
            Ok(answer) => answer.unwrap_or(Err(NotKept::Away)),
            Err(_) => Err(NotKept::Refused(
                "the broker found nobody in time".to_owned(),
            )),
        }
    }
}

/// What is known of the broker.
enum Link {
    /// It is away.
    None,
    /// It is too old to know of this, or the folder does not work.
    Deaf(String),
    /// It was told what the folder has.
    Told,
}

/// An output that waits.
struct Claim {
    kept: Kept,
    replies: Vec<oneshot::Sender<Result<(), NotKept>>>,
}

struct Owner {
    store: NearStore,
    say: Box<dyn Fn(ToBroker) + Send + Sync>,
    copies: mpsc::Sender<BlobRef>,
    link: Link,
    claims: HashMap<Digest, Claim>,
    /// The session, if the worker is about to go.
    leaving: Option<mpsc::Sender<Event>>,
}

impl Owner {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Order>,
        mut lost: mpsc::UnboundedReceiver<Kept>,
    ) {
        let mut look = time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                Some(kept) = lost.recv() => self.say_gone(kept),
                _ = look.tick() => self.drop_unwanted().await,
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Swarm(FromSwarm::Welcomed(broker_id)) => self.announce(broker_id).await,
            Order::Swarm(FromSwarm::Ended) => {
                self.link = Link::None;
                for claim in std::mem::take(&mut self.claims).into_values() {
                    claim.answer(|| Err(NotKept::Away));
                }
            }
            Order::Swarm(FromSwarm::Heard(message)) => self.hear(message).await,
            Order::Claim { kept, list, reply } => self.claim(kept, &list, reply),
            Order::Why { reply } => {
                let why = self.why_not().unwrap_or(NotKept::Away);
                // Whoever asked may have been stopped.
                let _ = reply.send(Err(why));
            }
            Order::Copied { kept, list } => self.say_kept(kept, &list, false),
            Order::NotCopied { blob, message } => {
                self.say_if_told(ToBroker::CannotKeep(v1::CannotKeep {
                    blob: Some(blob.into()),
                    message,
                }))
            }
            Order::Leave(events) => {
                self.leaving = Some(events);
                self.say_leaving().await;
            }
        }
    }

    /// Says so if there may be anything here, and hears then what of it is needed.
    async fn say_leaving(&self) {
        if matches!(self.link, Link::Told) {
            (self.say)(ToBroker::Leaving(v1::Leaving {}));
        } else if !self.store.keeps_some() {
            self.tell_still_needed(v1::StillNeeded::default()).await;
        }
    }

    async fn tell_still_needed(&self, needed: v1::StillNeeded) {
        if let Some(events) = &self.leaving {
            // The session may have left meanwhile.
            let _ = events.send(Event::StillNeeded(needed)).await;
        }
    }

    /// Says what the folder has, before anything else.
    async fn announce(&mut self, broker_id: Option<Uuid>) {
        let Some(broker_id) = broker_id else {
            self.link = Link::Deaf("the broker does not know of results at workers".to_owned());
            return;
        };
        let store = self.store.clone();
        let opened = spawn_blocking(move || {
            let id = store.open(broker_id)?;
            Ok::<_, std::io::Error>(id.zip(Some(store.kept()?)))
        });
        let opened = opened
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        self.link = match opened {
            Ok(Some((id, kept))) => {
                (self.say)(ToBroker::Keeping(v1::Keeping {
                    store_id: id.into_bytes().into(),
                    kept: kept.iter().map(to_wire).collect(),
                    takes_more: self.store.takes_more(),
                }));
                if self.leaving.is_some() {
                    (self.say)(ToBroker::Leaving(v1::Leaving {}));
                }
                Link::Told
            }
            Ok(None) => Link::Deaf("this worker keeps no results".to_owned()),
            Err(error) => {
                tracing::warn!(%error, "the folder of kept results cannot be used; results go to the broker");
                Link::Deaf(format!(
                    "the folder of kept results cannot be used: {error}"
                ))
            }
        };
    }

    async fn hear(&mut self, message: FromBroker) {
        match message {
            FromBroker::Keep(keep) => self.copy(keep.blob.as_ref()),
            FromBroker::Safe(safe) => self.settle(safe.blob.as_ref(), || Ok(())),
            FromBroker::NotSafe(not_safe) => {
                let why = not_safe.message;
                self.settle(not_safe.blob.as_ref(), || {
                    Err(NotKept::Refused(why.clone()))
                });
            }
            FromBroker::StillNeeded(needed) => self.tell_still_needed(needed).await,
            FromBroker::LetGo(v1::LetGo { kept: Some(kept) }) => {
                let blob = BlobRef::from_wire(kept.blob.as_ref(), "let_go.kept");
                // What waits to be safe was put there since.
                if let Ok(blob) = blob
                    && !self.claims.contains_key(&blob.digest)
                {
                    let stamp = kept.stamp;
                    self.remove(Kept { blob, stamp }).await;
                }
            }
            _ => {}
        }
    }

    fn copy(&mut self, blob: Option<&v1::BlobRef>) {
        let Ok(blob) = BlobRef::from_wire(blob, "keep.blob") else {
            return;
        };
        if self.copies.try_send(blob).is_err() {
            self.say_if_told(ToBroker::CannotKeep(v1::CannotKeep {
                blob: Some(blob.into()),
                message: "too many copies at once".to_owned(),
            }));
        }
    }

    fn claim(&mut self, kept: Kept, list: &ChunkList, reply: oneshot::Sender<Result<(), NotKept>>) {
        let is_too_long = list.chunk_count() > CHUNKS_MAX;
        let refused = self
            .why_not()
            .or_else(|| is_too_long.then(|| NotKept::Refused("it has too many chunks".to_owned())));
        if let Some(refused) = refused {
            // Whoever asked may have been stopped.
            let _ = reply.send(Err(refused));
            return;
        }
        self.say_kept(kept, list, true);
        let claim = self.claims.entry(kept.blob.digest).or_insert(Claim {
            kept,
            replies: Vec::new(),
        });
        claim.kept = kept;
        claim.replies.push(reply);
    }

    /// Why nothing can be kept now.
    fn why_not(&self) -> Option<NotKept> {
        match &self.link {
            Link::Told => None,
            Link::Deaf(why) => Some(NotKept::Refused(why.clone())),
            Link::None => Some(NotKept::Away),
        }
    }

    fn settle(&mut self, blob: Option<&v1::BlobRef>, answer: impl Fn() -> Result<(), NotKept>) {
        if let Ok(blob) = BlobRef::from_wire(blob, "blob")
            && let Some(claim) = self.claims.remove(&blob.digest)
        {
            claim.answer(answer);
        }
    }

    /// Those whose tries were stopped.
    async fn drop_unwanted(&mut self) {
        let unwanted = self.claims.extract_if(|_, claim| {
            let mut replies = claim.replies.iter();
            replies.all(oneshot::Sender::is_closed)
        });
        for claim in unwanted.map(|(_, claim)| claim).collect::<Vec<_>>() {
            self.say_gone(claim.kept);
            self.remove(claim.kept).await;
        }
    }

    async fn remove(&self, kept: Kept) {
        let store = self.store.clone();
        // What is not removed now is let go at the next connection.
        let _ = spawn_blocking(move || store.remove(kept)).await;
    }

    fn say_kept(&self, kept: Kept, list: &ChunkList, is_output: bool) {
        self.say_if_told(ToBroker::Keeps(v1::Keeps {
            kept: Some(to_wire(&kept)),
            chunk_digests: list.digests().clone(),
            is_output,
        }));
    }

    fn say_gone(&self, kept: Kept) {
        self.say_if_told(ToBroker::KeepsNoMore(v1::KeepsNoMore {
            kept: Some(to_wire(&kept)),
        }));
    }

    /// Whoever was not told yet hears of all that is there when it is.
    fn say_if_told(&self, message: ToBroker) {
        if matches!(self.link, Link::Told) {
            (self.say)(message);
        }
    }
}

impl Claim {
    fn answer(self, answer: impl Fn() -> Result<(), NotKept>) {
        for reply in self.replies {
            // Whoever asked may have been stopped.
            let _ = reply.send(answer());
        }
    }
}

fn to_wire(kept: &Kept) -> v1::KeptBlob {
    v1::KeptBlob {
        blob: Some(kept.blob.into()),
        stamp: kept.stamp,
    }
}

fn with_cause(error: &KeepError) -> String {
    match error {
        KeepError::Io { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}
