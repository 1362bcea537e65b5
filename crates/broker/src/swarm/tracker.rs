//! Who fetches which chunk from whom: a state machine without clock, network or tasks of its own.
//!
//! A chunk comes from a worker of the same site if one has it. If none has it one of them gets it from the broker, one chunk
//! each in turn, and the rest wait for that one. So the broker's link carries every chunk once a site, and within the site
//! each worker gives what it was first to get. When that link has all it can carry, another site's worker is asked.

mod assign;

use super::{
    Instant, SiteName,
    avoided::Avoided,
    member::{Arrival, Counters, Member, Unreached},
};
use assign::{SITE_GRANTS_MAX, STALLED_TRIED_MAX};
use dewar_blobs::{BlobRef, ChunkSet};
use dewar_proto::limits::CHUNK_BYTES;
use dewar_queue::WorkerId;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Chunks one worker may want at a time. Workers ask for less than a hundred.
const WANTED_MAX: usize = 4096;

/// Blobs of which one worker may hold chunks; what it holds of others is not offered.
const BLOBS_HELD_MAX: usize = 65_536;

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

    /// A worker holds these chunks besides those it said before.
    pub(crate) fn add_holding(
        &mut self,
        worker: WorkerId,
        blob: BlobRef,
        chunks: &ChunkSet,
        now: Instant,
    ) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        if !member.held.contains(&blob) && member.held.len() >= BLOBS_HELD_MAX {
            return;
        }
        member.held.insert(blob);
        let site = member.arrival.site.clone();
        let entry = self.blobs.entry(blob).or_default();
        let holders = entry.holders.entry(site).or_default();
        holders.entry(worker).or_default().insert_all(chunks);
        let wanted: Vec<_> = entry.wanted.keys().copied().collect();
        for chunk in wanted.into_iter().filter(|chunk| chunks.contains(*chunk)) {
            self.assign(blob, chunk, now);
        }
    }

    /// A worker holds these chunks no more.
    pub(crate) fn remove_holding(&mut self, worker: WorkerId, blob: BlobRef, chunks: &ChunkSet) {
        let Some(member) = self.members.get(&worker) else {
            return;
        };
        let site = member.arrival.site.clone();
        let held = self.blobs.get_mut(&blob).and_then(|entry| {
            let holders = entry.holders.get_mut(&site)?;
            holders.get_mut(&worker)
        });
        if let Some(held) = held {
            held.remove_all(chunks);
            if held.is_empty() {
                self.drop_holder(worker, &site, blob);
                if let Some(member) = self.members.get_mut(&worker) {
                    member.held.remove(&blob);
                }
            }
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

    /// A chunk did not come from `from`. Says whether that shuns `from` from now on.
    pub(crate) fn missed(
        &mut self,
        worker: WorkerId,
        blob: BlobRef,
        chunk: u64,
        (from, miss): (Holder, Miss),
        now: Instant,
    ) -> bool {
        self.end_fetch(worker, blob, chunk);
        let entry = self.blobs.get_mut(&blob);
        let wanted = entry.and_then(|entry| entry.wanted.get_mut(&chunk));
        if let Some(wanted) = wanted.filter(|wanted| !wanted.waiting.contains(&worker))
            && self
                .members
                .get(&worker)
                .is_some_and(|member| member.wanted.contains(&(blob, chunk)))
        {
            wanted.missed.push((worker, from));
            wanted.waiting.push(worker);
        }
        let is_shunned = match from {
            Holder::Broker => false,
            Holder::Worker(source) => self.blame(worker, source, blob, chunk, miss, now),
        };
        self.assign(blob, chunk, now);
        self.retry(now);
        is_shunned
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

    fn held(&self, worker: WorkerId, blob: BlobRef) -> Option<&ChunkSet> {
        let site = &self.members.get(&worker)?.arrival.site;
        self.blobs.get(&blob)?.holders.get(site)?.get(&worker)
    }

    /// Bytes of a blob's chunks that a worker holds.
    pub(crate) fn held_bytes_of(&self, worker: WorkerId, blob: BlobRef) -> u64 {
        let chunk_count = self.held(worker, blob).map_or(0, ChunkSet::len);
        (chunk_count * CHUNK_BYTES).min(blob.size_bytes)
    }

    /// Bytes of all chunks that a worker holds.
    pub(crate) fn held_bytes(&self, worker: WorkerId) -> u64 {
        let held = self.members.get(&worker).map(|member| &member.held);
        let blobs = held.into_iter().flatten();
        blobs.map(|blob| self.held_bytes_of(worker, *blob)).sum()
    }

    /// Notes why a source did not give a chunk. Says whether it is shunned from now on.
    fn blame(
        &mut self,
        worker: WorkerId,
        source: WorkerId,
        blob: BlobRef,
        chunk: u64,
        miss: Miss,
        now: Instant,
    ) -> bool {
        let Some(member) = self.members.get_mut(&worker) else {
            return false;
        };
        let site = member.arrival.site.clone();
        let is_believed = miss != Miss::Corrupt || member.accuse(source);
        let Some(blamed) = self.members.get_mut(&source) else {
            return false;
        };
        match miss {
            Miss::Unreachable | Miss::Slow => {
                blamed.avoided_by.note_trouble(&site, now);
                let theirs = blamed.arrival.site.clone();
                // More likely there is a wall between the two than that each has to be tried.
                if let Some(site) = self.sites.get_mut(&site).filter(|_| theirs != site) {
                    site.avoids.note_trouble(&theirs, now);
                }
            }
            Miss::Corrupt if is_believed => {
                let was_shunned = blamed.is_shunned();
                blamed.counters.corrupt_count += 1;
                self.moved.corrupt_count += 1;
                return !was_shunned;
            }
            Miss::Corrupt => {}
            Miss::Lacking => self.remove_holding(source, blob, &[chunk].into_iter().collect()),
        }
        false
    }

    /// A source served somebody of a site well.
    fn trust(&mut self, source: WorkerId, site: &SiteName) {
        let Some(source) = self.members.get_mut(&source) else {
            return;
        };
        source.avoided_by.forget(site);
        if let Some(site) = self.sites.get_mut(site) {
            site.avoids.forget(&source.arrival.site);
        }
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

    fn drop_holder(&mut self, worker: WorkerId, site: &SiteName, blob: BlobRef) {
        let Some(entry) = self.blobs.get_mut(&blob) else {
            return;
        };
        if let Some(holders) = entry.holders.get_mut(site) {
            holders.remove(&worker);
            if holders.is_empty() {
                entry.holders.remove(site);
            }
        }
        if entry.wanted.is_empty() && entry.holders.is_empty() {
            self.blobs.remove(&blob);
        }
    }

    fn wanted_mut(&mut self, blob: BlobRef, chunk: u64) -> Option<&mut Wanted> {
        self.blobs.get_mut(&blob)?.wanted.get_mut(&chunk)
    }
}

#[cfg(test)]
mod tests;
