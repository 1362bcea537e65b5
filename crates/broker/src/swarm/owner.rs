//! The one owner of the tracker: hears workers, and tells them from whom to fetch.

use super::{
    Holder, Instant, Miss, Near, Said, SwarmHandle, ToMember, Tracker, handle::Message,
    near::Keeping, precache::Precache,
};
use crate::engine::EngineHandle;
use dewar_blobs::{BlobRef, ChunkSet};
use dewar_queue::{Chunks, HoldingChange, WorkerId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

/// Messages that wait for the owner. Those who send them wait when it is full.
const INBOX_MAX: usize = 4096;

/// Messages that may wait for one worker's socket: each order answers a chunk it wants, so more come from no honest one.
pub(crate) const OUTBOX_MAX: usize = 4096;

/// Between two looks for what takes too long, two tellings of how far precaching is, and two of who holds what.
const TICK: Duration = Duration::from_millis(200);

/// Starts the owner. It tells the engine who holds what, and ends with `stop`.
pub(crate) fn start(engine: EngineHandle, near: Near, stop: CancellationToken) -> SwarmHandle {
    let (sender, inbox) = mpsc::channel(INBOX_MAX);
    tokio::spawn(async move {
        let mut owner = Owner::new(engine, near);
        tokio::select! {
            () = owner.run(inbox) => {}
            () = stop.cancelled() => {}
        }
    });
    SwarmHandle { sender }
}

pub(super) struct Owner {
    pub(super) engine: EngineHandle,
    pub(super) tracker: Tracker,
    pub(super) keeping: Keeping,
    sessions: HashMap<WorkerId, Session>,
    last_session: u64,
    precaches: Vec<Precache>,
    /// What the engine has not been told of who holds what.
    news: News,
}

/// Chunks that came to workers and went, by worker and blob.
type News = BTreeMap<WorkerId, HashMap<BlobRef, (ChunkSet, ChunkSet)>>;

struct Session {
    number: u64,
    outbox: mpsc::Sender<ToMember>,
}

impl Owner {
    fn new(engine: EngineHandle, near: Near) -> Self {
        Self {
            engine,
            tracker: Tracker::default(),
            keeping: Keeping::new(near),
            sessions: HashMap::new(),
            last_session: 0,
            precaches: Vec::new(),
            news: News::new(),
        }
    }

    async fn run(&mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                news = self.keeping.news() => self.note_near(news),
                _ = tick.tick() => {
                    self.tick();
                    self.rerun_lost().await;
                    self.give_up_unreported().await;
                    self.tell_engine().await;
                }
            }
            self.obey_registry();
            for order in self.tracker.take_orders() {
                self.tell(order.to, ToMember::Fetch(order));
            }
        }
    }

    fn hear(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Join {
                worker,
                arrival,
                outbox,
                reply,
            } => {
                self.last_session += 1;
                let number = self.last_session;
                self.keeping.registry.leave(worker, now);
                self.tracker.join(worker, arrival, now);
                self.sessions.insert(worker, Session { number, outbox });
                for blob in self.precaches_for(worker) {
                    self.tell(worker, ToMember::Precache(blob));
                }
                // Whoever joined may have gone; it leaves then.
                let _ = reply.send(number);
            }
            Message::Reached {
                worker,
                session,
                address,
            } if self.is_current(worker, session) => {
                self.tracker.set_address(worker, address, now);
                self.note_reached(worker, now);
            }
            Message::Unreached {
                worker,
                session,
                unreached,
            } if self.is_current(worker, session) => self.tracker.set_unreached(worker, unreached),
            Message::Said {
                worker,
                session,
                said,
            } if self.is_current(worker, session) => self.note(worker, said, now),
            Message::Leave { worker, session } if self.is_current(worker, session) => {
                self.sessions.remove(&worker);
                self.tracker.leave(worker, now);
                self.keeping.registry.leave(worker, now);
            }
            Message::Reached { .. }
            | Message::Unreached { .. }
            | Message::Said { .. }
            | Message::Leave { .. } => {}
            Message::Look(look) => look(&self.tracker, &self.keeping.registry),
            Message::FindNear { digest, reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.find_near(&digest, now));
            }
            Message::TakenIn { digest, is_done } => {
                self.keeping.registry.note_taken_in(digest, is_done, now);
            }
            Message::Precache {
                blobs,
                site,
                progress,
            } => self.precache(Precache {
                blobs,
                site,
                progress,
                failed: BTreeMap::new(),
                told: BTreeSet::new(),
            }),
        }
    }

    fn note(&mut self, worker: WorkerId, said: Said, now: Instant) {
        match said {
            Said::Holds { blob, chunks } => {
                self.tracker.add_holding(worker, blob, &chunks, now);
                self.note_news(worker, blob, &chunks, &ChunkSet::default());
            }
            // Its cache has lost them, and not the folder of results.
            Said::HoldsNoMore { blob, .. }
                if self.keeping.registry.is_kept_by(worker, &blob.digest) => {}
            Said::HoldsNoMore { blob, chunks } => {
                self.tracker.remove_holding(worker, blob, &chunks);
                self.note_news(worker, blob, &ChunkSet::default(), &chunks);
            }
            Said::Wants { blob, chunks } => self.tracker.want(worker, blob, chunks, now),
            Said::WantsNoMore { blob, chunks } => self.tracker.unwant(worker, blob, chunks, now),
            Said::Got {
                blob,
                chunk,
                from,
                size_bytes,
            } => {
                self.tracker.got(worker, blob, chunk, from, size_bytes, now);
                let chunks = [chunk].into_iter().collect();
                self.note_news(worker, blob, &chunks, &ChunkSet::default());
            }
            Said::Missed {
                blob,
                chunk,
                from,
                miss,
                message,
            } => {
                let is_shunned = self.tracker.missed(worker, blob, chunk, (from, miss), now);
                let (by, source) = (self.name(worker), self.holder_name(from));
                if miss == Miss::Corrupt {
                    tracing::warn!(by = %by, from = %source, blob = %blob.digest, chunk, %message, "a chunk came corrupt");
                } else {
                    tracing::debug!(by = %by, from = %source, blob = %blob.digest, chunk, ?miss, %message, "a chunk did not come");
                }
                if let (true, Holder::Worker(source)) = (is_shunned, from) {
                    self.keeping.registry.set_reached(source, false, now);
                    let source = self.name(source);
                    tracing::warn!(worker = %source, "gives corrupt chunks; nobody fetches from it any more");
                }
            }
            Said::CannotPrecache { blob, message } => {
                let text = format!("{}: {message}", self.name(worker));
                for precache in &mut self.precaches {
                    precache.fail(worker, blob, &text);
                }
            }
            Said::Announces(_)
            | Said::Keeps { .. }
            | Said::CannotKeep { .. }
            | Said::KeepsNoMore { .. }
            | Said::Leaves => self.note_said_of_near(worker, said, now),
        }
    }

    /// The last word on a chunk counts.
    pub(super) fn note_news(
        &mut self,
        worker: WorkerId,
        blob: BlobRef,
        came: &ChunkSet,
        went: &ChunkSet,
    ) {
        let blobs = self.news.entry(worker).or_default();
        let (added, removed) = blobs.entry(blob).or_default();
        added.remove_all(went);
        added.insert_all(came);
        removed.remove_all(came);
        removed.insert_all(went);
    }

    /// Has dispatch know who holds what.
    async fn tell_engine(&mut self) {
        for (worker, blobs) in std::mem::take(&mut self.news) {
            let changes = blobs
                .into_iter()
                .map(|(blob, (added, removed))| HoldingChange {
                    digest: dewar_queue::Digest(blob.digest.0),
                    added: Chunks::from_bitmap(&added.to_bitmap()),
                    removed: Chunks::from_bitmap(&removed.to_bitmap()),
                });
            // A broker that shuts down gives out nothing any more.
            let _ = self.engine.note_holdings(worker, changes.collect()).await;
        }
    }

    fn precache(&mut self, mut precache: Precache) {
        let workers: Vec<_> = self.sessions.keys().copied().collect();
        for worker in workers {
            if precache.is_for(&self.tracker, worker) {
                for blob in precache.blobs.clone() {
                    self.tell(worker, ToMember::Precache(blob));
                }
            }
        }
        if precache.tell(&self.tracker) {
            self.precaches.push(precache);
        }
    }

    fn precaches_for(&self, worker: WorkerId) -> Vec<BlobRef> {
        let precaches = self.precaches.iter();
        precaches
            .filter(|precache| precache.is_for(&self.tracker, worker))
            .flat_map(|precache| precache.blobs.clone())
            .collect()
    }

    fn tick(&mut self) {
        self.tracker.tick(Instant::now());
        self.keeping.registry.tick(Instant::now());
        let tracker = &self.tracker;
        self.precaches.retain_mut(|precache| precache.tell(tracker));
    }

    /// A worker whose socket takes nothing is cut off, and may come back.
    pub(super) fn tell(&mut self, worker: WorkerId, message: ToMember) {
        let Some(session) = self.sessions.get(&worker) else {
            return;
        };
        if session.outbox.try_send(message).is_err() {
            self.sessions.remove(&worker);
            self.tracker.leave(worker, Instant::now());
            self.keeping.registry.leave(worker, Instant::now());
        }
    }

    fn is_current(&self, worker: WorkerId, session: u64) -> bool {
        let current = self.sessions.get(&worker);
        current.is_some_and(|current| current.number == session)
    }

    pub(super) fn name(&self, worker: WorkerId) -> Arc<str> {
        let member = self.tracker.member(worker);
        member.map_or_else(|| "a worker".into(), |member| member.arrival().name.clone())
    }

    fn holder_name(&self, holder: Holder) -> Arc<str> {
        match holder {
            Holder::Broker => "the broker".into(),
            Holder::Worker(worker) => self.name(worker),
        }
    }
}
