//! Which folders keep which blobs: a state machine without clock, network or disk of its own.
//!
//! A blob is safe when two folders have it and the broker's disk names both. Until then its task has no outcome; if nobody
//! can be found for a second copy the worker is told so, and writes the blob to the broker. A folder is there while the
//! broker can reach a worker that has it open. One that is away for long is replaced by another, and so is one whose workers
//! are all about to leave; where there is no other the broker takes the blob.

mod blob;
mod fleet;
mod leaving;

use super::Record;
use crate::{NearPatience, swarm::SiteName};
use dewar_blobs::{BlobRef, ChunkList, Digest};
use dewar_queue::WorkerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// Folders that must have a blob before it is safe.
const COPIES: usize = 2;

/// How long the task of a lost blob may take to give it again. Whoever needs the blob waits so long.
const AGAIN_WITHIN: Duration = Duration::from_secs(3600);

/// How long one copy may take before another worker is asked: a gigabyte over 100 Mbit/s.
const COPY_MAX: Duration = Duration::from_secs(90);

/// Between two looks for a worker that could keep a copy, after none could.
const COPY_PAUSE: Duration = Duration::from_secs(60);

/// Between two tries to write down who has a blob, after the disk did not take it.
const WRITE_PAUSE: Duration = Duration::from_secs(10);

/// Copies on their way to one folder. More would each be slower, and none of them safe.
const COPIES_AT_ONCE: usize = 4;

/// The broker reaches a worker that comes within this time, or will not soon.
const REACHED_WITHIN: Duration = Duration::from_secs(10);

/// A worker that said it has an output says so again within this time, if its connection broke.
const CLAIMED_WITHIN: Duration = Duration::from_secs(60);

/// The outcome that names a safe blob comes within this time: workers report within seconds, and say anew what they have
/// when they come back.
const REPORTED_WITHIN: Duration = Duration::from_secs(600);

/// Blobs kept near. Each is a chunk list, a file on the broker's disk and a line in each worker's hello.
const BLOBS_MAX: usize = 1 << 18;

/// A folder of results, at whichever worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StoreId(pub(crate) [u8; 16]);

/// What a worker says of its folder when it comes.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) store: StoreId,
    /// All that it keeps, each with its stamp.
    pub(crate) kept: Vec<(BlobRef, u64)>,
    pub(crate) takes_more: bool,
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToKeeper {
    Keep(BlobRef),
    Safe(BlobRef),
    NotSafe(BlobRef, Arc<str>),
    LetGo(BlobRef, u64),
    StillNeeded(StillNeeded),
}

/// What a worker that leaves has, and others do not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StillNeeded {
    pub(crate) blob_count: u64,
    pub(crate) size_bytes: u64,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Tell(WorkerId, ToKeeper),
    /// To be written down, and answered with [`Registry::note_written`].
    Write(u64, Record),
    Erase(Digest),
    /// A blob is at workers, and not at the broker; or that is over.
    IsNear(BlobRef),
    IsNearNoMore(BlobRef),
    /// A worker can serve all of a blob, or cannot any more.
    Serves(WorkerId, BlobRef),
    ServesNoMore(WorkerId, BlobRef),
    /// The broker is to fetch a blob and keep it, which is answered with [`Registry::note_taken_in`].
    TakeIn(Taking),
}

/// A blob that the broker is to fetch from workers and keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taking {
    pub(crate) digest: Digest,
    /// An outcome that names it is on its way, whoever gives it up meanwhile.
    pub(crate) is_awaited: bool,
}

/// Where a blob is.
#[derive(Debug, Clone)]
pub(crate) struct Whereabouts {
    pub(crate) list: Arc<ChunkList>,
    /// Whoever can serve it now, and can be reached.
    pub(crate) workers: Vec<WorkerId>,
    /// Who kept it, for people.
    pub(crate) keepers: Vec<Arc<str>>,
    /// Nobody who has it was there for long, and it is not computed again.
    pub(crate) lost: Option<Arc<str>>,
}

/// The state.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    patience: NearPatience,
    blobs: BTreeMap<Digest, Entry>,
    stores: BTreeMap<StoreId, Store>,
    workers: BTreeMap<WorkerId, Keeper>,
    /// Blobs about which there is something to do, or will be.
    restless: BTreeSet<Digest>,
    last_write: u64,
    orders: Vec<Order>,
}

#[derive(Debug)]
struct Entry {
    list: Arc<ChunkList>,
    site: SiteName,
    /// Folders that have it, with the stamp it has there: none until a worker said so since the broker's start.
    keepers: BTreeMap<StoreId, Option<u64>>,
    /// The folders that the broker's disk names.
    written: BTreeSet<StoreId>,
    /// Those that it will, and the number of that write.
    writing: Option<(u64, BTreeSet<StoreId>)>,
    /// Workers whose outcomes wait until it is safe.
    claimants: BTreeSet<WorkerId>,
    claimed_at: Instant,
    /// Somebody gave it once more after it was written down: an outcome that names it is on its way, whoever gave it up.
    is_claimed_again: bool,
    copy: Option<Copying>,
    /// The broker fetches it.
    is_taken_in: bool,
    /// Folders that did not take a copy.
    tried: BTreeSet<StoreId>,
    /// Nobody took one; looked for again after this.
    copy_after: Option<Instant>,
    /// The disk did not take it; tried again after this.
    write_after: Option<Instant>,
    /// Nobody who has it was there for long.
    loss: Option<Loss>,
}

/// What is done about a blob that is lost, until somebody has it again.
#[derive(Debug, Clone)]
enum Loss {
    /// Its task gives it again, by then.
    Again(Instant),
    /// Nothing, and why.
    Final(Arc<str>),
}

/// A copy on its way.
#[derive(Debug, Clone, Copy)]
struct Copying {
    worker: WorkerId,
    store: StoreId,
    since: Instant,
}

#[derive(Debug, Default)]
struct Store {
    /// Who has it open.
    workers: BTreeSet<WorkerId>,
    /// The last of them, for people.
    name: Arc<str>,
    kept: BTreeSet<Digest>,
    copying_count: usize,
    /// Since when nobody who has it open can be reached; none if somebody can.
    away_since: Option<Instant>,
}

/// A worker that has a folder open.
#[derive(Debug)]
struct Keeper {
    store: StoreId,
    site: SiteName,
    node: Arc<str>,
    takes_more: bool,
    is_reached: bool,
    leaving: Option<Leaving>,
}

/// A worker that is about to go.
#[derive(Debug, Default)]
struct Leaving {
    /// What it was told last.
    told: Option<StillNeeded>,
}

impl Registry {
    /// What the broker's disk says; nobody has come yet.
    pub(crate) fn of_records(records: Vec<Record>, patience: NearPatience, now: Instant) -> Self {
        let mut registry = Self {
            patience,
            ..Self::default()
        };
        for record in records {
            let digest = record.list.blob().digest;
            let stores: BTreeSet<_> = record.keepers.iter().map(|(store, _)| *store).collect();
            for (store, name) in record.keepers {
                let store = registry.stores.entry(store).or_default();
                store.name = name;
                store.away_since = Some(now);
                store.kept.insert(digest);
            }
            let entry = Entry {
                keepers: stores.iter().map(|store| (*store, None)).collect(),
                written: stores,
                ..Entry::new(record.list, record.site, now)
            };
            registry.orders.push(Order::IsNear(entry.blob()));
            registry.blobs.insert(digest, entry);
            registry.restless.insert(digest);
        }
        registry
    }

    /// What is to be done since the last call.
    pub(crate) fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Looks at what waits. To be called every second or so.
    pub(crate) fn tick(&mut self, now: Instant) {
        for digest in self.restless.clone() {
            self.step(digest, now);
        }
        self.tell_leaving();
    }

    /// Where a blob is, if it is kept near.
    pub(crate) fn whereabouts(&self, digest: &Digest, now: Instant) -> Option<Whereabouts> {
        let entry = self.blobs.get(digest)?;
        let here = self.here(entry).into_iter();
        let workers = here
            .filter_map(|store| self.stores.get(&store))
            .flat_map(|store| &store.workers)
            .filter(|worker| self.workers[worker].is_reached);
        let workers: Vec<_> = workers.copied().collect();
        let stores = entry.keepers.keys();
        let stores: Vec<_> = stores.filter_map(|store| self.stores.get(store)).collect();
        let lost = entry.loss.as_ref().and_then(|loss| match loss {
            Loss::Final(why) => Some(Arc::clone(why)),
            Loss::Again(by) => {
                (*by <= now).then(|| "its task has not given it again in time".into())
            }
        });
        Some(Whereabouts {
            list: Arc::clone(&entry.list),
            lost: lost.filter(|_| workers.is_empty()),
            workers,
            keepers: stores.iter().map(|store| store.name.clone()).collect(),
        })
    }

    /// Blobs nobody has had for long, about which nothing was done yet.
    pub(crate) fn lost(&self, now: Instant) -> Vec<Digest> {
        let lost = self.restless.iter().filter(|digest| {
            let entry = self.blobs.get(digest);
            entry.is_some_and(|entry| entry.loss.is_none() && self.is_lost(entry, now))
        });
        lost.copied().collect()
    }

    /// Its task is run again, or why it is not.
    pub(crate) fn note_lost(
        &mut self,
        digest: &Digest,
        outlook: Result<(), Arc<str>>,
        now: Instant,
    ) {
        if let Some(entry) = self.blobs.get_mut(digest) {
            entry.loss = Some(match outlook {
                Ok(()) => Loss::Again(now + AGAIN_WITHIN),
                Err(why) => Loss::Final(why),
            });
        }
    }

    fn is_lost(&self, entry: &Entry, now: Instant) -> bool {
        let mut stores = entry.keepers.keys();
        let is_gone = |store: &StoreId| {
            let since = self.stores.get(store).map(|store| store.away_since);
            since.is_none_or(|since| {
                let away = since.map(|since| now.saturating_duration_since(since));
                away.is_some_and(|away| away >= self.patience.lost_after)
            })
        };
        !entry.written.is_empty() && entry.claimants.is_empty() && stores.all(is_gone)
    }

    /// Whether a worker's folder has a blob.
    pub(crate) fn is_kept_by(&self, worker: WorkerId, digest: &Digest) -> bool {
        let keeper = self.workers.get(&worker).zip(self.blobs.get(digest));
        keeper.is_some_and(|(keeper, entry)| entry.keepers.contains_key(&keeper.store))
    }

    /// Bytes that a worker's folder keeps; none if it takes no more.
    pub(crate) fn kept_bytes_of(&self, worker: WorkerId) -> Option<u64> {
        let keeper = self
            .workers
            .get(&worker)
            .filter(|keeper| keeper.takes_more)?;
        let kept = self.stores.get(&keeper.store)?.kept.iter();
        let entries = kept.filter_map(|digest| self.blobs.get(digest));
        Some(entries.map(|entry| entry.blob().size_bytes).sum())
    }

    /// Folders that have a blob and are there.
    fn here(&self, entry: &Entry) -> BTreeSet<StoreId> {
        let stamped = entry.keepers.iter().filter(|(_, stamp)| stamp.is_some());
        let here = stamped.filter(|(store, _)| {
            let store = self.stores.get(store);
            store.is_some_and(|store| store.away_since.is_none())
        });
        here.map(|(store, _)| *store).collect()
    }

    fn tell(&mut self, worker: WorkerId, message: ToKeeper) {
        self.orders.push(Order::Tell(worker, message));
    }
}

impl Entry {
    fn new(list: Arc<ChunkList>, site: SiteName, now: Instant) -> Self {
        Self {
            list,
            site,
            keepers: BTreeMap::new(),
            written: BTreeSet::new(),
            writing: None,
            claimants: BTreeSet::new(),
            claimed_at: now,
            is_claimed_again: false,
            copy: None,
            is_taken_in: false,
            tried: BTreeSet::new(),
            copy_after: None,
            write_after: None,
            loss: None,
        }
    }

    fn blob(&self) -> BlobRef {
        self.list.blob()
    }

    /// Whether the broker's disk has it, or is about to.
    fn is_noted(&self) -> bool {
        !self.written.is_empty() || self.writing.is_some()
    }
}

#[cfg(test)]
mod tests;
