//! The owner's part for blobs that workers keep: it has the registry, and does what that decides.

use super::{Instant, Said, ToMember, lost::rerun, owner::Owner};
use crate::{
    NearPatience,
    near::{Order, Record, Records, Registry, Scribe, Taking, Written},
};
use dewar_blobs::{BlobRef, ChunkList, ChunkSet, Digest};
use dewar_queue::WorkerId;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Between two looks for blobs that no outcome names.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What the owner starts with.
pub(crate) struct Near {
    pub(crate) records: Records,
    /// What the broker's disk said at its start.
    pub(crate) recorded: Vec<Record>,
    pub(crate) patience: NearPatience,
    /// Blobs that the queue gives up. They wait for the owner, which may wait for the engine, which waits for nobody here.
    pub(crate) given_up: mpsc::UnboundedReceiver<Vec<dewar_queue::Digest>>,
    /// Where blobs go that the broker is to fetch and keep: no more than are kept near.
    pub(crate) take_in: mpsc::UnboundedSender<Taking>,
}

/// A blob that workers keep, and where it is to be had.
#[derive(Debug, Clone)]
pub(crate) struct NearBlob {
    pub(crate) list: Arc<ChunkList>,
    /// Names and addresses of those that have it and can be reached.
    pub(crate) holders: Vec<(Arc<str>, Arc<str>)>,
    /// Names of those that kept it.
    pub(crate) keepers: Vec<Arc<str>>,
    /// Nobody who has it was there for long, and why it is not computed again.
    pub(crate) lost: Option<Arc<str>>,
}

/// What comes to the owner without a worker's saying so.
pub(super) enum News {
    Written(Written),
    GivenUp(Vec<dewar_queue::Digest>),
}

/// The registry, and who writes down what it decides.
pub(super) struct Keeping {
    pub(super) registry: Registry,
    scribe: Scribe,
    written: mpsc::UnboundedReceiver<Written>,
    given_up: mpsc::UnboundedReceiver<Vec<dewar_queue::Digest>>,
    take_in: mpsc::UnboundedSender<Taking>,
    sweep_at: Instant,
}

impl Keeping {
    pub(super) fn new(near: Near) -> Self {
        let (scribe, written) = Scribe::start(near.records);
        Self {
            registry: Registry::of_records(near.recorded, near.patience, Instant::now()),
            scribe,
            written,
            given_up: near.given_up,
            take_in: near.take_in,
            sweep_at: Instant::now() + SWEEP_EVERY,
        }
    }

    /// What comes next.
    pub(super) async fn news(&mut self) -> News {
        tokio::select! {
            Some(written) = self.written.recv() => News::Written(written),
            Some(digests) = self.given_up.recv() => News::GivenUp(digests),
            else => std::future::pending().await,
        }
    }
}

impl Owner {
    pub(super) fn note_near(&mut self, news: News) {
        let (registry, now) = (&mut self.keeping.registry, Instant::now());
        match news {
            News::Written(written) => {
                registry.note_written(written.number, written.digest, written.is_done, now);
            }
            News::GivenUp(digests) => {
                let digests: Vec<_> = digests.iter().map(|digest| Digest(digest.0)).collect();
                registry.give_up(&digests, now);
            }
        }
    }

    pub(super) fn note_said_of_near(&mut self, worker: WorkerId, said: Said, now: Instant) {
        match said {
            Said::Announces(said) => {
                let Some(member) = self.tracker.member(worker) else {
                    return;
                };
                let arrival = member.arrival().clone();
                let is_reached = member.address().is_some() && !member.is_shunned();
                self.keeping
                    .registry
                    .announce(worker, &arrival, is_reached, said, now);
            }
            Said::Keeps {
                list,
                stamp,
                is_output,
            } => {
                self.keeping
                    .registry
                    .note_kept(worker, list, stamp, is_output, now);
            }
            Said::CannotKeep { blob, message } => {
                let by = self.name(worker);
                tracing::info!(worker = %by, blob = %blob.digest, %message, "does not keep a copy");
                self.keeping
                    .registry
                    .note_not_kept(worker, blob.digest, now);
            }
            Said::KeepsNoMore { blob, stamp } => {
                self.keeping
                    .registry
                    .note_gone(worker, blob.digest, Some(stamp), now);
            }
            Said::Leaves => self.keeping.registry.note_leaving(worker, now),
            _ => {}
        }
    }

    /// The broker reached a worker; one that is shunned is not counted on all the same.
    pub(super) fn note_reached(&mut self, worker: WorkerId, now: Instant) {
        let member = self.tracker.member(worker);
        let is_good = member.is_some_and(|member| !member.is_shunned());
        self.keeping.registry.set_reached(worker, is_good, now);
    }

    /// Does what the registry decided. To tell a worker may end its session, and bring new decisions.
    pub(super) fn obey_registry(&mut self) {
        loop {
            let orders = self.keeping.registry.take_orders();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                self.obey(order);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Tell(worker, message) => self.tell(worker, ToMember::Keeper(message)),
            Order::Write(number, record) => self.keeping.scribe.write(number, record),
            Order::Erase(digest) => self.keeping.scribe.erase(digest),
            // A broker that shuts down takes nothing in, and is told again at its next start.
            Order::TakeIn(taking) => {
                let _ = self.keeping.take_in.send(taking);
            }
            Order::IsNear(blob) => self.tracker.set_near(blob, true),
            Order::IsNearNoMore(blob) => self.tracker.set_near(blob, false),
            Order::Serves(worker, blob) => {
                let (chunks, now) = (all_of(blob), Instant::now());
                self.tracker.add_holding(worker, blob, &chunks, now);
                self.note_news(worker, blob, &chunks, &ChunkSet::default());
            }
            Order::ServesNoMore(worker, blob) => {
                let chunks = all_of(blob);
                self.tracker.remove_holding(worker, blob, &chunks);
                self.note_news(worker, blob, &ChunkSet::default(), &chunks);
            }
        }
    }

    pub(super) fn find_near(&self, digest: &Digest, now: Instant) -> Option<NearBlob> {
        let found = self.keeping.registry.whereabouts(digest, now)?;
        let holders = found.workers.iter().filter_map(|worker| {
            let member = self.tracker.member(*worker)?;
            let address = member.address()?;
            Some((member.arrival().name.clone(), Arc::clone(address)))
        });
        Some(NearBlob {
            list: found.list,
            holders: holders.collect(),
            keepers: found.keepers,
            lost: found.lost,
        })
    }

    /// Blobs that were safe long ago, and that no outcome names: their tasks were cancelled, or answered by others.
    pub(super) async fn give_up_unreported(&mut self) {
        let now = Instant::now();
        if now < self.keeping.sweep_at {
            return;
        }
        self.keeping.sweep_at = now + SWEEP_EVERY;
        let reported = self.keeping.registry.reported(now);
        if reported.is_empty() {
            return;
        }
        let unheld = self.engine.query(move |view| {
            let is_held = |digest: &Digest| view.queue.is_held(&dewar_queue::Digest(digest.0));
            let reported = reported.into_iter();
            reported
                .filter(|digest| !is_held(digest))
                .collect::<Vec<_>>()
        });
        // A broker that shuts down looks again at its next start.
        if let Ok(unheld) = unheld.await {
            self.keeping.registry.give_up(&unheld, now);
        }
    }

    /// Has the tasks run again whose outputs are lost, as far as they can be.
    pub(super) async fn rerun_lost(&mut self) {
        let lost = self.keeping.registry.lost(Instant::now());
        if lost.is_empty() {
            return;
        }
        let outlooks = rerun(&self.engine, lost.clone()).await;
        for digest in lost {
            let outlook = outlooks.get(&digest).cloned();
            let outlook =
                outlook.unwrap_or_else(|| Err("no task of a job that goes on gave it".into()));
            let said = match &outlook {
                Ok(()) => "its task is run again",
                Err(why) => why,
            };
            tracing::warn!(blob = %digest, "all workers that kept a result are away for long: {said}");
            self.keeping
                .registry
                .note_lost(&digest, outlook, Instant::now());
        }
    }
}

fn all_of(blob: BlobRef) -> ChunkSet {
    (0..dewar_blobs::chunk_count(blob.size_bytes)).collect()
}
