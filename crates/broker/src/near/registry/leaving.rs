//! Workers that are about to go: what only their folders have is brought elsewhere, and they hear how much is left.

use super::{COPIES, Entry, Leaving, Order, Registry, StillNeeded, StoreId, ToKeeper};
use dewar_blobs::Digest;
use dewar_queue::WorkerId;
use std::{collections::BTreeSet, time::Instant};

impl Registry {
    /// A worker is about to go. It hears at once what is still needed of its folder, also if it asks again.
    pub(crate) fn note_leaving(&mut self, worker: WorkerId, now: Instant) {
        let Some(keeper) = self.workers.get_mut(&worker) else {
            // It keeps nothing.
            let nothing = ToKeeper::StillNeeded(StillNeeded::default());
            self.tell(worker, nothing);
            return;
        };
        keeper.leaving = Some(Leaving::default());
        let store = keeper.store;
        let kept = self.stores.get(&store).map(|store| store.kept.clone());
        for digest in kept.into_iter().flatten() {
            if let Some(entry) = self.blobs.get_mut(&digest) {
                entry.copy_after = None;
            }
        }
        self.rouse(store, now);
    }

    /// The broker has fetched a blob and keeps it, or could not.
    pub(crate) fn note_taken_in(&mut self, digest: Digest, is_done: bool, now: Instant) {
        let Some(entry) = self.blobs.get_mut(&digest) else {
            return;
        };
        entry.is_taken_in = false;
        if !is_done {
            self.step(digest, now);
            return;
        }
        if let Some(mut entry) = self.blobs.remove(&digest) {
            // Written to the broker, which is no work now, it outlives whoever gives it up before its outcome comes.
            self.refuse(&mut entry, "the broker has it already");
            self.forget(entry);
        }
    }

    /// Folders that have a blob, are there, and will be.
    pub(super) fn staying(&self, entry: &Entry) -> BTreeSet<StoreId> {
        let mut here = self.here(entry);
        here.retain(|store| !self.is_leaving(*store));
        here
    }

    /// Whether all who have a folder open are about to go.
    pub(super) fn is_leaving(&self, store: StoreId) -> bool {
        let workers = self.stores.get(&store).map(|store| &store.workers);
        let is_leaving = |worker: &WorkerId| self.workers[worker].leaving.is_some();
        workers.is_some_and(|workers| !workers.is_empty() && workers.iter().all(is_leaving))
    }

    /// Tells workers that leave what is still needed of them, if that is news.
    pub(super) fn tell_leaving(&mut self) {
        let leaving = self.workers.iter();
        let leaving = leaving.filter_map(|(worker, keeper)| {
            let told = keeper.leaving.as_ref()?.told;
            let now = self.still_needed(keeper.store);
            (told != Some(now)).then_some((*worker, now))
        });
        for (worker, now) in leaving.collect::<Vec<_>>() {
            if let Some(keeper) = self.workers.get_mut(&worker) {
                keeper.leaving = Some(Leaving { told: Some(now) });
            }
            self.orders
                .push(Order::Tell(worker, ToKeeper::StillNeeded(now)));
        }
    }

    /// What a folder has and others, of which the broker's disk knows, do not.
    fn still_needed(&self, store: StoreId) -> StillNeeded {
        let mut needed = StillNeeded::default();
        if !self.is_leaving(store) {
            return needed;
        }
        let kept = self.stores.get(&store).map(|store| &store.kept);
        let entries = kept.into_iter().flatten();
        for entry in entries.filter_map(|digest| self.blobs.get(digest)) {
            let others = self.staying(entry);
            let is_needed = entry.is_noted() || !entry.claimants.is_empty();
            if is_needed && others.intersection(&entry.written).count() < COPIES {
                needed.blob_count += 1;
                needed.size_bytes += entry.blob().size_bytes;
            }
        }
        needed
    }
}
