//! Workers that come with a folder, and go.

use super::{Announcement, COPIES, Entry, Keeper, Order, Registry, Store, StoreId, ToKeeper};
use crate::swarm::Arrival;
use dewar_blobs::{BlobRef, Digest};
use dewar_queue::WorkerId;
use std::{collections::BTreeSet, time::Instant};

impl Registry {
    /// A worker says what its folder has. What nobody needs it is told to let go.
    pub(crate) fn announce(
        &mut self,
        worker: WorkerId,
        arrival: &Arrival,
        is_reached: bool,
        said: Announcement,
        now: Instant,
    ) {
        let Announcement {
            store: id,
            kept,
            takes_more,
        } = said;
        let store = self.stores.entry(id).or_insert_with(|| Store {
            away_since: Some(now),
            ..Store::default()
        });
        let is_first = store.workers.is_empty();
        store.workers.insert(worker);
        store.name = arrival.name.clone();
        let keeper = Keeper {
            store: id,
            site: arrival.site.clone(),
            node: arrival.node.clone(),
            takes_more,
            is_reached,
            leaving: None,
        };
        self.workers.insert(worker, keeper);
        self.look_whether_away(id, now);
        let mut here = BTreeSet::new();
        for (blob, stamp) in kept {
            here.insert(blob.digest);
            self.take_up(worker, (id, is_first), blob, stamp);
        }
        if is_first {
            // Somebody removed them. While others have the folder open, they may have come after it was looked at.
            let store = &self.stores[&id];
            for digest in store.kept.difference(&here).copied().collect::<Vec<_>>() {
                self.unset_keeper(id, digest);
            }
        }
        self.note_taker(worker);
        self.rouse(id, now);
    }

    /// The broker has reached a worker, or shuns it.
    pub(crate) fn set_reached(&mut self, worker: WorkerId, is_reached: bool, now: Instant) {
        if let Some(keeper) = self.workers.get_mut(&worker) {
            keeper.is_reached = is_reached;
            let store = keeper.store;
            self.look_whether_away(store, now);
            self.note_taker(worker);
            self.rouse(store, now);
        }
    }

    /// A worker is gone. Its folder may be open in another.
    pub(crate) fn leave(&mut self, worker: WorkerId, now: Instant) {
        let Some(keeper) = self.workers.remove(&worker) else {
            return;
        };
        if let Some(store) = self.stores.get_mut(&keeper.store) {
            store.workers.remove(&worker);
        }
        for digest in self.restless.clone() {
            let Some(entry) = self.blobs.get_mut(&digest) else {
                continue;
            };
            // It says anew what waits when it comes back.
            entry.claimants.remove(&worker);
            if entry.copy.is_some_and(|copy| copy.worker == worker) {
                self.end_copy(digest);
            }
        }
        self.look_whether_away(keeper.store, now);
        self.rouse(keeper.store, now);
    }

    /// Blobs that nobody took a copy of wait no longer, if this worker could.
    fn note_taker(&mut self, worker: WorkerId) {
        let keeper = self.workers.get(&worker);
        let Some(keeper) = keeper.filter(|keeper| keeper.takes_more && keeper.is_reached) else {
            return;
        };
        for digest in &self.restless {
            let entry = self.blobs.get_mut(digest);
            if let Some(entry) = entry.filter(|entry| entry.site == keeper.site) {
                entry.copy_after = None;
            }
        }
    }

    /// A blob that a folder has: it counts if it is known there, or is short of copies. While others have the folder open,
    /// what they said is newer: one of them may be about to let the blob go.
    fn take_up(
        &mut self,
        worker: WorkerId,
        (store, is_first): (StoreId, bool),
        blob: BlobRef,
        stamp: u64,
    ) {
        let entry = self.blobs.get(&blob.digest);
        let Some(entry) = entry.filter(|entry| entry.blob() == blob) else {
            self.tell(worker, ToKeeper::LetGo(blob, stamp));
            return;
        };
        match entry.keepers.get(&store) {
            Some(Some(_)) if !is_first => self.orders.push(Order::Serves(worker, blob)),
            Some(_) => self.set_keeper(store, blob.digest, stamp),
            None if is_first && self.here(entry).len() < COPIES => {
                self.set_keeper(store, blob.digest, stamp);
            }
            None => self.tell(worker, ToKeeper::LetGo(blob, stamp)),
        }
    }

    /// A folder has a blob under this stamp.
    pub(super) fn set_keeper(&mut self, id: StoreId, digest: Digest, stamp: u64) {
        let entry = self.blobs.get_mut(&digest);
        let (Some(entry), Some(store)) = (entry, self.stores.get_mut(&id)) else {
            return;
        };
        entry.keepers.insert(id, Some(stamp));
        store.kept.insert(digest);
        let blob = entry.blob();
        let serving = store.workers.iter();
        let serving = serving.map(|worker| Order::Serves(*worker, blob));
        self.orders.extend(serving);
        self.restless.insert(digest);
    }

    /// A folder does not have a blob, or is not counted on.
    pub(super) fn unset_keeper(&mut self, id: StoreId, digest: Digest) {
        if let Some(entry) = self.blobs.get_mut(&digest) {
            entry.keepers.remove(&id);
            let blob = entry.blob();
            self.note_let_go(id, blob);
            self.restless.insert(digest);
        }
    }

    /// The workers of a folder serve a blob no more.
    pub(super) fn note_let_go(&mut self, id: StoreId, blob: BlobRef) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.kept.remove(&blob.digest);
            let serving = store.workers.iter();
            let serving = serving.map(|worker| Order::ServesNoMore(*worker, blob));
            self.orders.extend(serving);
            self.forget_store_if_empty(id);
        }
    }

    /// For [`Entry`]s that are not among the blobs just now, as well as for those that are.
    pub(super) fn end_copy_of(&mut self, entry: &mut Entry) -> Option<StoreId> {
        let copy = entry.copy.take()?;
        if let Some(store) = self.stores.get_mut(&copy.store) {
            store.copying_count = store.copying_count.saturating_sub(1);
        }
        Some(copy.store)
    }

    pub(super) fn end_copy(&mut self, digest: Digest) {
        if let Some(mut entry) = self.blobs.remove(&digest) {
            self.end_copy_of(&mut entry);
            self.blobs.insert(digest, entry);
        }
    }

    fn look_whether_away(&mut self, id: StoreId, now: Instant) {
        let Some(store) = self.stores.get_mut(&id) else {
            return;
        };
        let mut workers = store.workers.iter();
        if workers.any(|worker| self.workers[worker].is_reached) {
            store.away_since = None;
        } else {
            store.away_since.get_or_insert(now);
        }
        self.forget_store_if_empty(id);
    }

    /// A folder that has nothing, and that nobody has open, is nothing to remember.
    fn forget_store_if_empty(&mut self, id: StoreId) {
        let store = self.stores.get(&id);
        if store.is_some_and(|store| store.workers.is_empty() && store.kept.is_empty()) {
            self.stores.remove(&id);
        }
    }

    /// Looks at all that has to do with a folder.
    pub(super) fn rouse(&mut self, id: StoreId, now: Instant) {
        if let Some(store) = self.stores.get(&id) {
            self.restless.extend(&store.kept);
        }
        self.tick(now);
    }
}
