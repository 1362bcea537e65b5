//! One blob's way: claimed, copied, written down, safe, and let go.

use super::{
    BLOBS_MAX, CLAIMED_WITHIN, COPIES, COPIES_AT_ONCE, COPY_MAX, COPY_PAUSE, Copying, Entry, Loss,
    Order, REACHED_WITHIN, REPORTED_WITHIN, Record, Registry, StoreId, Taking, ToKeeper,
    WRITE_PAUSE,
};
use dewar_blobs::{BlobRef, ChunkList, Digest};
use dewar_queue::WorkerId;
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// Who could keep a copy.
enum Choice {
    Worker(WorkerId, StoreId),
    /// Somebody, once other copies are through.
    Later,
    Nobody,
}

impl Registry {
    /// A worker's folder has a blob. If it is an output the worker waits for the word that it is safe.
    pub(crate) fn note_kept(
        &mut self,
        worker: WorkerId,
        list: ChunkList,
        stamp: u64,
        is_output: bool,
        now: Instant,
    ) {
        let blob = list.blob();
        // Nobody is believed who did not say which folder is meant.
        let Some(keeper) = self.workers.get(&worker) else {
            return;
        };
        let (store, site) = (keeper.store, keeper.site.clone());
        if !self.blobs.contains_key(&blob.digest) && is_output && self.blobs.len() < BLOBS_MAX {
            let entry = Entry::new(Arc::new(list), site, now);
            self.blobs.insert(blob.digest, entry);
            self.orders.push(Order::IsNear(blob));
        }
        let Some(entry) = self
            .blobs
            .get_mut(&blob.digest)
            .filter(|entry| entry.blob() == blob)
        else {
            let why = "too many blobs are kept near".into();
            let answer = match is_output {
                true => ToKeeper::NotSafe(blob, why),
                false => ToKeeper::LetGo(blob, stamp),
            };
            self.tell(worker, answer);
            return;
        };
        if is_output {
            entry.claimants.insert(worker);
            entry.claimed_at = now;
            entry.is_claimed_again |= entry.is_noted();
        }
        if entry.copy.is_some_and(|copy| copy.store == store) {
            self.end_copy(blob.digest);
        }
        self.set_keeper(store, blob.digest, stamp);
        self.step(blob.digest, now);
    }

    /// A worker was told to keep a blob, and cannot.
    pub(crate) fn note_not_kept(&mut self, worker: WorkerId, digest: Digest, now: Instant) {
        if let Some(entry) = self.blobs.get_mut(&digest)
            && let Some(copy) = entry.copy.filter(|copy| copy.worker == worker)
        {
            entry.tried.insert(copy.store);
            self.end_copy(digest);
            self.step(digest, now);
        }
    }

    /// A worker's folder has lost a blob, or never had it. Of another stamp than it has, if one is named, that is no news.
    pub(crate) fn note_gone(
        &mut self,
        worker: WorkerId,
        digest: Digest,
        stamp: Option<u64>,
        now: Instant,
    ) {
        let Some(store) = self.workers.get(&worker).map(|keeper| keeper.store) else {
            return;
        };
        let Some(entry) = self.blobs.get_mut(&digest) else {
            return;
        };
        let is_of_this = entry
            .keepers
            .get(&store)
            .is_some_and(|known| stamp.is_none() || stamp == *known);
        if is_of_this {
            entry.claimants.remove(&worker);
            self.unset_keeper(store, digest);
            self.step(digest, now);
        }
    }

    /// A write came to its end.
    pub(crate) fn note_written(
        &mut self,
        number: u64,
        digest: Digest,
        is_done: bool,
        now: Instant,
    ) {
        let Some(entry) = self.blobs.get_mut(&digest) else {
            return;
        };
        let Some((_, stores)) = entry.writing.take_if(|(writing, _)| *writing == number) else {
            return;
        };
        if is_done {
            entry.written = stores;
        } else {
            entry.write_after = Some(now + WRITE_PAUSE);
            let (blob, is_new) = (entry.blob(), entry.written.is_empty());
            for worker in std::mem::take(&mut entry.claimants) {
                let why = "the broker cannot write down who has it".into();
                self.orders
                    .push(Order::Tell(worker, ToKeeper::NotSafe(blob, why)));
            }
            if is_new && let Some(entry) = self.blobs.remove(&digest) {
                self.forget(entry);
            }
        }
        self.step(digest, now);
    }

    /// The queue has given these up. What is claimed meanwhile stays, for an outcome that will name it.
    pub(crate) fn give_up(&mut self, digests: &[Digest], now: Instant) {
        for digest in digests {
            let is_awaited = self.blobs.get(digest).is_some_and(|entry| {
                let is_fresh = now < entry.claimed_at + REPORTED_WITHIN;
                let is_computed = matches!(entry.loss, Some(Loss::Again(by)) if now < by);
                !entry.claimants.is_empty() || is_computed || entry.is_claimed_again && is_fresh
            });
            if !is_awaited && let Some(entry) = self.blobs.remove(digest) {
                self.forget(entry);
            }
        }
    }

    /// Blobs whose outcomes should be here by now.
    pub(crate) fn reported(&self, now: Instant) -> Vec<Digest> {
        let reported = self.blobs.iter().filter(|(_, entry)| {
            entry.claimants.is_empty() && now >= entry.claimed_at + REPORTED_WITHIN
        });
        reported.map(|(digest, _)| *digest).collect()
    }

    /// Does what is due.
    pub(super) fn step(&mut self, digest: Digest, now: Instant) {
        let Some(mut entry) = self.blobs.remove(&digest) else {
            self.restless.remove(&digest);
            return;
        };
        if entry.copy.is_some_and(|copy| now >= copy.since + COPY_MAX) {
            let late = self.end_copy_of(&mut entry);
            entry.tried.extend(late);
        }
        if entry.loss.is_some() && !self.here(&entry).is_empty() {
            entry.loss = None;
        }
        self.replace_long_gone(&mut entry, now);
        self.write(&mut entry, now);
        self.tell_safe(&mut entry);
        if self.provide_copy(&mut entry, now) {
            if self.is_settled(&entry) {
                entry.tried.clear();
                self.restless.remove(&digest);
            } else {
                self.restless.insert(digest);
            }
            self.blobs.insert(digest, entry);
        } else {
            self.forget(entry);
        }
    }

    fn is_settled(&self, entry: &Entry) -> bool {
        entry.claimants.is_empty()
            && entry.copy.is_none()
            && !entry.is_taken_in
            && entry.writing.is_none()
            && entry.written.iter().eq(entry.keepers.keys())
            && self.staying(entry).len() >= COPIES
    }

    /// Folders that are away for long count no more where others do as well.
    fn replace_long_gone(&mut self, entry: &mut Entry, now: Instant) {
        let here = self.here(entry);
        if here.len() < COPIES {
            return;
        }
        let gone: Vec<_> = entry
            .keepers
            .keys()
            .filter(|store| !here.contains(store) && self.is_away_for_long(**store, now))
            .copied()
            .collect();
        for store in gone {
            entry.keepers.remove(&store);
            self.note_let_go(store, entry.blob());
        }
    }

    fn is_away_for_long(&self, store: StoreId, now: Instant) -> bool {
        let since = self.stores.get(&store).map(|store| store.away_since);
        since.is_none_or(|since| {
            since
                .is_some_and(|since| now.saturating_duration_since(since) >= self.patience.away_max)
        })
    }

    fn write(&mut self, entry: &mut Entry, now: Instant) {
        let is_due = entry.writing.is_none()
            && entry.write_after.is_none_or(|after| after <= now)
            && !entry.written.iter().eq(entry.keepers.keys())
            && self.here(entry).len() >= COPIES;
        if !is_due {
            return;
        }
        self.last_write += 1;
        let name = |store: &StoreId| self.stores.get(store).map(|store| store.name.clone());
        let keepers = entry.keepers.keys();
        let record = Record {
            list: Arc::clone(&entry.list),
            site: entry.site.clone(),
            keepers: keepers
                .map(|store| (*store, name(store).unwrap_or_default()))
                .collect(),
        };
        entry.writing = Some((self.last_write, entry.keepers.keys().copied().collect()));
        self.orders.push(Order::Write(self.last_write, record));
    }

    fn tell_safe(&mut self, entry: &mut Entry) {
        let here = self.here(entry);
        if here.intersection(&entry.written).count() >= COPIES {
            for worker in std::mem::take(&mut entry.claimants) {
                self.tell(worker, ToKeeper::Safe(entry.blob()));
            }
        }
    }

    /// Sees to it that there are copies enough. False if the blob is to be forgotten.
    fn provide_copy(&mut self, entry: &mut Entry, now: Instant) -> bool {
        let (here, staying) = (self.here(entry), self.staying(entry));
        let is_claimed = !entry.claimants.is_empty();
        let is_urgent = is_claimed || staying.len() < here.len();
        let awaited = entry.keepers.keys().filter(|store| {
            !is_urgent && !here.contains(store) && !self.is_away_for_long(**store, now)
        });
        let is_on_its_way = entry.copy.is_some() || entry.is_taken_in;
        if staying.len() + awaited.count() >= COPIES || is_on_its_way {
            return true;
        }
        if !is_claimed && !entry.is_noted() {
            return now < entry.claimed_at + CLAIMED_WITHIN;
        }
        if here.is_empty() {
            if is_claimed && !self.may_be_reached(entry, now) {
                self.refuse(entry, "the broker does not reach this worker");
            }
            return is_claimed_or_noted(entry);
        }
        if entry
            .copy_after
            .is_some_and(|after| !is_claimed && now < after)
        {
            return true;
        }
        match self.choose(entry, &here) {
            Choice::Worker(worker, store) => self.begin_copy(entry, worker, store, now),
            Choice::Later => {}
            Choice::Nobody => {
                self.refuse(entry, "no other worker of its site keeps results");
                entry.tried.clear();
                // Somebody may come yet, unless somebody leaves.
                let has_waited = entry.copy_after.is_some();
                if entry.is_noted() && (has_waited || staying.len() < here.len()) {
                    entry.is_taken_in = true;
                    let is_fresh = now < entry.claimed_at + REPORTED_WITHIN;
                    self.orders.push(Order::TakeIn(Taking {
                        digest: entry.blob().digest,
                        is_awaited: entry.is_claimed_again && is_fresh,
                    }));
                }
                entry.copy_after = Some(now + COPY_PAUSE);
            }
        }
        is_claimed_or_noted(entry)
    }

    /// Whether the broker may yet reach somebody who has it.
    fn may_be_reached(&self, entry: &Entry, now: Instant) -> bool {
        let mut stores = entry.keepers.keys();
        stores.any(|store| {
            let since = self.stores.get(store).and_then(|store| store.away_since);
            since.is_some_and(|since| now < since + REACHED_WITHIN)
        })
    }

    fn begin_copy(&mut self, entry: &mut Entry, worker: WorkerId, store: StoreId, now: Instant) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.copying_count += 1;
        }
        entry.copy = Some(Copying {
            worker,
            store,
            since: now,
        });
        self.tell(worker, ToKeeper::Keep(entry.blob()));
    }

    pub(super) fn refuse(&mut self, entry: &mut Entry, why: &str) {
        for worker in std::mem::take(&mut entry.claimants) {
            self.tell(worker, ToKeeper::NotSafe(entry.blob(), why.into()));
        }
    }

    /// Another folder of the site: on another machine rather than the same, and the one with the least to do.
    fn choose(&self, entry: &Entry, here: &BTreeSet<StoreId>) -> Choice {
        let at = |store: &StoreId| self.stores.get(store).map(|store| &store.workers);
        let nodes: BTreeSet<_> = here
            .iter()
            .filter_map(at)
            .flatten()
            .map(|worker| &self.workers[worker].node)
            .collect();
        let able = self.workers.iter().filter(|(_, keeper)| {
            keeper.takes_more
                && keeper.is_reached
                && keeper.leaving.is_none()
                && keeper.site == entry.site
                && !here.contains(&keeper.store)
                && !entry.tried.contains(&keeper.store)
        });
        let best = able
            .filter_map(|(worker, keeper)| Some((worker, keeper, self.stores.get(&keeper.store)?)))
            .min_by_key(|(_, keeper, store)| {
                (
                    store.copying_count >= COPIES_AT_ONCE,
                    nodes.contains(&keeper.node),
                    store.copying_count,
                    store.kept.len(),
                )
            });
        match best {
            None => Choice::Nobody,
            Some((_, _, store)) if store.copying_count >= COPIES_AT_ONCE => Choice::Later,
            Some((worker, keeper, _)) => Choice::Worker(*worker, keeper.store),
        }
    }

    /// Whoever has it may let it go.
    pub(super) fn forget(&mut self, mut entry: Entry) {
        let blob: BlobRef = entry.blob();
        self.end_copy_of(&mut entry);
        for (id, stamp) in &entry.keepers {
            let worker = self
                .stores
                .get(id)
                .and_then(|store| store.workers.first().copied());
            if let Some((worker, stamp)) = worker.zip(*stamp) {
                self.tell(worker, ToKeeper::LetGo(blob, stamp));
            }
            self.note_let_go(*id, blob);
        }
        if entry.is_noted() {
            self.orders.push(Order::Erase(blob.digest));
        }
        self.orders.push(Order::IsNearNoMore(blob));
        self.restless.remove(&blob.digest);
    }
}

fn is_claimed_or_noted(entry: &Entry) -> bool {
    !entry.claimants.is_empty() || entry.is_noted()
}
