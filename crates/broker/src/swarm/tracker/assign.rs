//! Choosing: who of those that wait for a chunk gets it now, and from whom.

use super::{Blob, Fetching, Holder, Order, Site, Tracker, Wanted};
use crate::swarm::{Instant, SiteName, member::Member};
use dewar_blobs::{BlobRef, ChunkSet};
use dewar_queue::WorkerId;

/// Chunks on their way from the broker to one site. Enough to fill a link of 1 Gbit/s with a delay of 60 ms; few enough that
/// the first are there, and can be passed on, while the last have not begun.
pub(super) const SITE_GRANTS_MAX: usize = 8;

/// Of them, those to one worker if others want some too: each should have something that the others lack.
pub(super) const WORKER_GRANTS_MAX: usize = 4;

/// Chunks on their way from one worker to others. More would each be slower, and could not be passed on until late.
const UPLOADS_MAX: usize = 4;

/// Chunks on their way to one site from others. They come beside what the broker's link carries; a wall between the sites, or
/// a way slower than that link, holds up no more than these.
pub(super) const CROSSINGS_MAX: usize = 2;

/// Holders in other sites that are looked at for one chunk. One that is busy means a wait, and no more.
const FAR_HOLDERS_MAX: usize = 64;

/// Chunks that found nobody and are tried again with each event.
pub(super) const STALLED_TRIED_MAX: usize = 64;

impl Tracker {
    /// Gives each that waits for a chunk a source, if there is one.
    pub(super) fn assign(&mut self, blob: BlobRef, chunk: u64, now: Instant) {
        let Some(wanted) = self.wanted_mut(blob, chunk) else {
            return;
        };
        let mut waiting = std::mem::take(&mut wanted.waiting);
        // Those that can pass it on come first, since the others may take it from them; and of them those that had the
        // least from the broker, so that each is the first to have something.
        waiting.sort_by_key(|worker| {
            self.members.get(worker).map(|member| {
                let is_taker = !member.serves(&member.arrival.site, now);
                (
                    is_taker,
                    member.grant_count,
                    member.counters.from_broker_bytes,
                )
            })
        });
        let mut still = Vec::new();
        for worker in waiting {
            match self.choose(worker, blob, chunk, now) {
                Some(Holder::Broker) if self.may_leave_it_to(&still, worker, now) => {
                    still.push(worker);
                }
                Some(from) => self.order(worker, blob, chunk, from, now),
                None => still.push(worker),
            }
        }
        let Some(wanted) = self.wanted_mut(blob, chunk) else {
            return;
        };
        let waits = !still.is_empty();
        wanted.waiting = still;
        if waits && !wanted.is_stalled {
            wanted.is_stalled = true;
            self.stalled.push_back((blob, chunk));
        }
    }

    /// Whether one that waits, and can pass on what it gets, will have it for a worker that cannot.
    fn may_leave_it_to(&self, waiting: &[WorkerId], worker: WorkerId, now: Instant) -> bool {
        let Some(member) = self.members.get(&worker) else {
            return false;
        };
        let site = &member.arrival.site;
        let gives = |other: &WorkerId| {
            let other = self.members.get(other);
            other.is_some_and(|other| other.arrival.site == *site && other.serves(site, now))
        };
        !member.serves(site, now) && waiting.iter().any(gives)
    }

    /// From whom a worker is to fetch a chunk. None while somebody will have it, or have room, soon.
    fn choose(&self, worker: WorkerId, blob: BlobRef, chunk: u64, now: Instant) -> Option<Holder> {
        let entry = self.blobs.get(&blob)?;
        let asked = Asked {
            worker,
            member: self.members.get(&worker)?,
            chunk,
            wanted: entry.wanted.get(&chunk)?,
            now,
        };
        if let Some((id, holder)) = self.near_holder(entry, &asked) {
            return holder.has_room().then_some(Holder::Worker(id));
        }
        if self.will_be_had(&asked) {
            return None;
        }
        let site = self.sites.get(asked.site())?;
        // Passed on by the broker it would cross its link twice.
        if self.near.contains(&blob)
            && let Some((id, holder)) = self.far_holder(entry, site, &asked)
        {
            let has_room = holder.has_room() && site.crossing_count < SITE_GRANTS_MAX;
            return has_room.then_some(Holder::Worker(id));
        }
        if site.grant_count < SITE_GRANTS_MAX && asked.member.grant_count < WORKER_GRANTS_MAX {
            return Some(Holder::Broker);
        }
        let may_cross = site.crossing_count < CROSSINGS_MAX;
        let far = may_cross.then(|| self.far_holder(entry, site, &asked))?;
        let free = far.filter(|(_, holder)| holder.has_room());
        free.map(|(id, _)| Holder::Worker(id))
    }

    /// Who of its own site is to give a chunk, busy or not: whoever is nearest, and of them the least busy.
    fn near_holder(&self, entry: &Blob, asked: &Asked) -> Option<(WorkerId, &Member)> {
        let holders = entry.holders.get(asked.site()).into_iter().flatten();
        let able = holders.filter_map(|(id, held)| self.able(*id, held, asked));
        able.min_by_key(|(_, holder)| {
            (
                !holder.has_room(),
                holder.arrival.node != asked.member.arrival.node,
                holder.upload_count,
            )
        })
    }

    /// Who of another site is to give a chunk, busy or not: whoever is the least busy.
    fn far_holder(&self, entry: &Blob, site: &Site, asked: &Asked) -> Option<(WorkerId, &Member)> {
        let sites = entry.holders.iter().filter(|(theirs, _)| {
            *theirs != asked.site() && !site.avoids.contains(theirs, asked.now)
        });
        let holders = sites.flat_map(|(_, holders)| holders).take(FAR_HOLDERS_MAX);
        let able = holders.filter_map(|(id, held)| self.able(*id, held, asked));
        able.min_by_key(|(id, holder)| (holder.upload_count, *id))
    }

    /// A holder, if it has the chunk, and can be asked for it.
    fn able(&self, id: WorkerId, held: &ChunkSet, asked: &Asked) -> Option<(WorkerId, &Member)> {
        let is_to_be_asked =
            id != asked.worker && held.contains(asked.chunk) && !asked.has_missed(id);
        let holder = is_to_be_asked.then(|| self.members.get(&id))??;
        let serves = holder.serves(asked.site(), asked.now);
        serves.then_some((id, holder))
    }

    /// Whether another of its site is about to have the chunk, and can pass it on.
    fn will_be_had(&self, asked: &Asked) -> bool {
        asked.wanted.fetching.iter().any(|fetching| {
            let other = fetching.worker;
            let is_to_be_asked = !fetching.is_overdue && other != asked.worker;
            let member = self.members.get(&other);
            is_to_be_asked
                && !asked.has_missed(other)
                && member.is_some_and(|member| {
                    member.arrival.site == *asked.site() && member.serves(asked.site(), asked.now)
                })
        })
    }

    /// Notes that a fetch begins, and tells the worker.
    fn order(&mut self, worker: WorkerId, blob: BlobRef, chunk: u64, from: Holder, now: Instant) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let site = member.arrival.site.clone();
        if from == Holder::Broker {
            member.grant_count += 1;
        }
        let (mut address, mut is_crossing) = (None, false);
        if let Holder::Worker(source) = from
            && let Some(source) = self.members.get_mut(&source)
        {
            source.upload_count += 1;
            address = source.address.clone();
            is_crossing = source.arrival.site != site;
        }
        let site = self.sites.entry(site).or_default();
        site.grant_count += usize::from(from == Holder::Broker);
        site.crossing_count += usize::from(is_crossing);
        let done_before = site.done_count;
        let Some(wanted) = self.wanted_mut(blob, chunk) else {
            return;
        };
        wanted.fetching.push(Fetching {
            worker,
            from,
            since: now,
            done_before,
            is_overdue: false,
            is_crossing,
        });
        self.orders.push(Order {
            to: worker,
            blob,
            chunk,
            from,
            address,
        });
    }

    /// Tries again for the chunks that have waited longest.
    pub(super) fn retry(&mut self, now: Instant) {
        for _ in 0..self.stalled.len().min(STALLED_TRIED_MAX) {
            let Some((blob, chunk)) = self.stalled.pop_front() else {
                return;
            };
            if let Some(wanted) = self.wanted_mut(blob, chunk) {
                wanted.is_stalled = false;
                self.assign(blob, chunk, now);
            }
        }
    }

    /// A fetch takes up nobody's room any more.
    pub(super) fn free(&mut self, fetching: &Fetching) {
        let member = self.members.get_mut(&fetching.worker);
        let is_grant = fetching.from == Holder::Broker;
        if let Some(member) = member {
            let site = self.sites.get_mut(&member.arrival.site);
            lessen(&mut member.grant_count, is_grant);
            if let Some(site) = site {
                lessen(&mut site.grant_count, is_grant);
                lessen(&mut site.crossing_count, fetching.is_crossing);
            }
        }
        if let Holder::Worker(source) = fetching.from
            && let Some(source) = self.members.get_mut(&source)
        {
            lessen(&mut source.upload_count, true);
        }
    }
}

/// A chunk that a worker wants, when it is chosen for it.
struct Asked<'a> {
    worker: WorkerId,
    member: &'a Member,
    chunk: u64,
    wanted: &'a Wanted,
    now: Instant,
}

impl Asked<'_> {
    fn site(&self) -> &SiteName {
        &self.member.arrival.site
    }

    fn has_missed(&self, holder: WorkerId) -> bool {
        let missed = (self.worker, Holder::Worker(holder));
        self.wanted.missed.contains(&missed)
    }
}

impl Member {
    /// Whether it may give one chunk more.
    fn has_room(&self) -> bool {
        self.upload_count < UPLOADS_MAX
    }
}

/// One less, if it was one of these.
fn lessen(count: &mut usize, is_one: bool) {
    *count = count.saturating_sub(usize::from(is_one));
}
