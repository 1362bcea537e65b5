//! Who fetches which chunk from whom: a state machine without clock, network or tasks of its own.
//!
//! A chunk comes from a worker of the same site if one has it. If none has it one of them gets it from the broker, one chunk
//! each in turn, and the rest wait for that one. So the broker's link carries every chunk once a site, and within the site
//! each worker gives what it was first to get. When that link has all it can carry, another site's worker is asked.

mod assign;
mod blame;
mod holdings;

use super::{
    Instant, SiteName,
    avoided::Avoided,
    member::{Arrival, Counters, Member, Unreached},
};
use assign::{SITE_GRANTS_MAX, STALLED_TRIED_MAX};
use dewar_blobs::{BlobRef, ChunkSet};
use dewar_queue::WorkerId;
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Chunks one worker may want at a time. Workers ask for less than a hundred.
const WANTED_MAX: usize = 4096;

/// A fetch is overtaken when so many that began later at its site are done.
const OVERTAKEN_BY: u64 = 2 * SITE_GRANTS_MAX as u64;

/// Nothing is overtaken before this.
const OVERDUE_MIN: Duration = Duration::from_secs(5);

/// A fetch that takes longer than this is not waited for by others, and takes up nobody's room.
const OVERDUE_MAX: Duration = Duration::from_secs(30);

/// From whom a chunk is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Broker,
    Worker(WorkerId),
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) to: WorkerId,
    pub(crate) blob: BlobRef,
    pub(crate) chunk: u64,
    pub(crate) from: Holder,
    /// Where that worker is reached; nothing for the broker.
    pub(crate) address: Option<Arc<str>>,
}

/// Why a chunk did not come from where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    Unreachable,
    Slow,
    Lacking,
    Corrupt,
}

/// The state.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    members: BTreeMap<WorkerId, Member>,
    sites: HashMap<SiteName, Site>,
    blobs: HashMap<BlobRef, Blob>,
    /// Chunks that wait for somebody to have room, the longest waiting first.
    stalled: VecDeque<(BlobRef, u64)>,
    orders: Vec<Order>,
    /// Blobs that workers keep and the broker does not have: what it gives of them it fetches first.
    near: HashSet<BlobRef>,
    /// Workers that gave corrupt chunks and left: a bad disk does not mend by connecting again.
    corrupt: BTreeMap<WorkerId, Counters>,
    /// What all that ever came moved.
    moved: Counters,
}

#[derive(Debug, Default)]
struct Site {
    member_count: usize,
    /// Chunks on their way to it from the broker.
    grant_count: usize,
    /// Chunks on their way to it from other sites.
    crossing_count: usize,
    /// Sites from which they did not come.
    avoids: Avoided,
    /// Fetches that ended well, ever.
    done_count: u64,
}

#[derive(Debug, Default)]
struct Blob {
    holders: HashMap<SiteName, BTreeMap<WorkerId, ChunkSet>>,
    wanted: BTreeMap<u64, Wanted>,
}

/// A chunk that somebody wants.
#[derive(Debug, Default)]
struct Wanted {
    waiting: Vec<WorkerId>,
    fetching: Vec<Fetching>,
    /// From whom it did not come, and to whom.
    missed: Vec<(WorkerId, Holder)>,
    is_stalled: bool,
}

#[derive(Debug, Clone)]
struct Fetching {
    worker: WorkerId,
    from: Holder,
    since: Instant,
    /// `done_count` of its site when it began.
    done_before: u64,
    is_overdue: bool,
    /// It comes from another site.
    is_crossing: bool,
}

impl Tracker {
    /// A worker takes part from now on; one that did before is as new.
    pub(crate) fn join(&mut self, worker: WorkerId, arrival: Arrival, now: Instant) {
        self.leave(worker, now);
        let site = self.sites.entry(arrival.site.clone()).or_default();
        site.member_count += 1;
        let mut member = Member::new(arrival);
        member.counters = self.corrupt.get(&worker).copied().unwrap_or_default();
        self.members.insert(worker, member);
    }

    /// A worker takes part no more: what it wanted goes to others, and what it held is not offered.
    pub(crate) fn leave(&mut self, worker: WorkerId, now: Instant) {
        let Some(member) = self.members.get(&worker) else {
            return;
        };
        let (held, wanted) = (member.held.clone(), member.wanted.clone());
        let site = member.arrival.site.clone();
        if member.counters.corrupt_count > 0 {
            self.corrupt.insert(worker, member.counters);
        }
        for (blob, chunk) in &wanted {
            self.end_want(worker, *blob, *chunk);
        }
        self.members.remove(&worker);
        for blob in held {
            self.drop_holder(worker, &site, blob);
        }
        if let Some(gone) = self.sites.get_mut(&site) {
            gone.member_count -= 1;
            if gone.member_count == 0 {
                self.sites.remove(&site);
            }
        }
        for (blob, chunk) in wanted {
            self.assign(blob, chunk, now);
        }
        self.retry(now);
    }

    /// Others can reach a worker at this address.
    pub(crate) fn set_address(&mut self, worker: WorkerId, address: Arc<str>, now: Instant) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.address = Some(address);
            member.unreached = None;
        }
        self.retry(now);
    }

    /// The broker has not reached a worker so far, and nobody is sent there.
    pub(crate) fn set_unreached(&mut self, worker: WorkerId, unreached: Unreached) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.unreached = Some(unreached);
        }
    }

    /// A worker wants chunks of a blob.
    pub(crate) fn want(
        &mut self,
        worker: WorkerId,
        blob: BlobRef,
        chunks: impl IntoIterator<Item = u64>,
        now: Instant,
    ) {
        for chunk in chunks {
            let Some(member) = self.members.get_mut(&worker) else {
                return;
            };
            if member.wanted.len() < WANTED_MAX && member.wanted.insert((blob, chunk)) {
                let entry = self.blobs.entry(blob).or_default();
                entry.wanted.entry(chunk).or_default().waiting.push(worker);
                self.assign(blob, chunk, now);
            }
        }
    }

    /// It wants them no more.
    pub(crate) fn unwant(
        &mut self,
        worker: WorkerId,
        blob: BlobRef,
        chunks: impl IntoIterator<Item = u64>,
        now: Instant,
    ) {
        for chunk in chunks {
            self.end_want(worker, blob, chunk);
            self.assign(blob, chunk, now);
        }
        self.retry(now);
    }

    /// A chunk came, from `from`, and is held from now on.
    pub(crate) fn got(
        &mut self,
        worker: WorkerId,
        blob: BlobRef,
        chunk: u64,
        from: Holder,
        size_bytes: u64,
        now: Instant,
    ) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let site = member.arrival.site.clone();
        match from {
            Holder::Broker => {
                member.counters.from_broker_bytes += size_bytes;
                self.moved.from_broker_bytes += size_bytes;
            }
            Holder::Worker(_) => {
                member.counters.from_peers_bytes += size_bytes;
                self.moved.from_peers_bytes += size_bytes;
            }
        }
        if let Some(done) = self.sites.get_mut(&site) {
            done.done_count += 1;
        }
        if let Holder::Worker(source) = from {
            self.trust(source, &site);
        }
        self.end_want(worker, blob, chunk);
        self.add_holding(worker, blob, &[chunk].into_iter().collect(), now);
        self.retry(now);
    }

    /// Finds out what takes too long. To be called every second or so.
    pub(crate) fn tick(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (blob, entry) in &mut self.blobs {
            for (chunk, wanted) in &mut entry.wanted {
                for fetching in &mut wanted.fetching {
                    let done = self
                        .members
                        .get(&fetching.worker)
                        .and_then(|member| self.sites.get(&member.arrival.site))
                        .map_or(0, |site| site.done_count - fetching.done_before);
                    let taken = now.saturating_duration_since(fetching.since);
                    let is_overtaken = taken > OVERDUE_MIN && done >= OVERTAKEN_BY;
                    if !fetching.is_overdue && (is_overtaken || taken > OVERDUE_MAX) {
                        fetching.is_overdue = true;
                        late.push((*blob, *chunk, fetching.clone()));
                    }
                }
            }
        }
        for (blob, chunk, fetching) in late {
            self.free(&fetching);
            self.assign(blob, chunk, now);
        }
        for _ in 0..self.stalled.len().div_ceil(STALLED_TRIED_MAX) {
            self.retry(now);
        }
    }

    /// What is to be said to workers since the last call.
    pub(crate) fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// A member.
    pub(crate) fn member(&self, worker: WorkerId) -> Option<&Member> {
        self.members.get(&worker)
    }

    /// What all that ever came moved, those that left included.
    pub(crate) fn moved(&self) -> Counters {
        self.moved
    }

    /// All members, by id.
    pub(crate) fn members(&self) -> impl Iterator<Item = (WorkerId, &Member)> {
        self.members
            .iter()
            .map(|(worker, member)| (*worker, member))
    }

    /// A worker's want of a chunk is over, however it ended.
    fn end_want(&mut self, worker: WorkerId, blob: BlobRef, chunk: u64) {
        self.end_fetch(worker, blob, chunk);
        if let Some(member) = self.members.get_mut(&worker) {
            member.wanted.remove(&(blob, chunk));
        }
        let Some(entry) = self.blobs.get_mut(&blob) else {
            return;
        };
        if let Some(wanted) = entry.wanted.get_mut(&chunk) {
            wanted.waiting.retain(|waiting| *waiting != worker);
            wanted.missed.retain(|(by, _)| *by != worker);
            if wanted.waiting.is_empty() && wanted.fetching.is_empty() {
                entry.wanted.remove(&chunk);
            }
        }
        if entry.wanted.is_empty() && entry.holders.is_empty() {
            self.blobs.remove(&blob);
        }
    }

    /// A worker no longer fetches a chunk; whoever gave it has room again.
    fn end_fetch(&mut self, worker: WorkerId, blob: BlobRef, chunk: u64) {
        let Some(wanted) = self.wanted_mut(blob, chunk) else {
            return;
        };
        let position = wanted
            .fetching
            .iter()
            .position(|fetching| fetching.worker == worker);
        let Some(ended) = position.map(|position| wanted.fetching.swap_remove(position)) else {
            return;
        };
        if !ended.is_overdue {
            self.free(&ended);
        }
    }

    fn wanted_mut(&mut self, blob: BlobRef, chunk: u64) -> Option<&mut Wanted> {
        self.blobs.get_mut(&blob)?.wanted.get_mut(&chunk)
    }
}

#[cfg(test)]
mod tests;
