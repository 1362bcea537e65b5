//! Choosing: who of those that wait for a chunk gets it now, and from whom.

use super::{Fetching, Holder, Order, Tracker};
use crate::swarm::Instant;
use dewar_blobs::BlobRef;
use dewar_queue::WorkerId;

/// Chunks on their way from the broker to one site. Enough to fill a link of 1 Gbit/s with a delay of 60 ms; few enough that
/// the first are there, and can be passed on, while the last have not begun.
pub(super) const SITE_GRANTS_MAX: usize = 8;

/// Of them, those to one worker if others want some too: each should have something that the others lack.
pub(super) const WORKER_GRANTS_MAX: usize = 4;

/// Chunks on their way from one worker to others. More would each be slower, and could not be passed on until late.
const UPLOADS_MAX: usize = 4;

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
        let (member, entry) = (self.members.get(&worker)?, self.blobs.get(&blob)?);
        let site = &member.arrival.site;
        let wanted = entry.wanted.get(&chunk)?;
        let has_missed = |from| wanted.missed.contains(&(worker, from));
        let holders = entry.holders.get(site).into_iter().flatten();
        let able = holders
            .filter(|(holder, held)| **holder != worker && held.contains(chunk))
            .filter(|(holder, _)| !has_missed(Holder::Worker(**holder)))
            .filter_map(|(holder, _)| Some((*holder, self.members.get(holder)?)))
            .filter(|(_, holder)| holder.serves(site, now));
        let best = able.min_by_key(|(_, holder)| {
            (
                holder.upload_count >= UPLOADS_MAX,
                holder.arrival.node != member.arrival.node,
                holder.upload_count,
            )
        });
        if let Some((id, holder)) = best {
            let has_room = holder.upload_count < UPLOADS_MAX;
            return has_room.then_some(Holder::Worker(id));
        }
        let will_have_it = wanted.fetching.iter().any(|fetching| {
            !fetching.is_overdue
                && fetching.worker != worker
                && !has_missed(Holder::Worker(fetching.worker))
                && self
                    .members
                    .get(&fetching.worker)
                    .is_some_and(|other| other.arrival.site == *site && other.serves(site, now))
        });
        let granted = self.sites.get(site).map_or(0, |site| site.grant_count);
        let has_room = granted < SITE_GRANTS_MAX && member.grant_count < WORKER_GRANTS_MAX;
        (has_room && !will_have_it).then_some(Holder::Broker)
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
        let mut address = None;
        if let Holder::Worker(source) = from
            && let Some(source) = self.members.get_mut(&source)
        {
            source.upload_count += 1;
            address = source.address.clone();
        }
        let site = self.sites.entry(site).or_default();
        if from == Holder::Broker {
            site.grant_count += 1;
        }
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
    pub(super) fn free(&mut self, worker: WorkerId, from: Holder) {
        if let Holder::Worker(source) = from {
            if let Some(source) = self.members.get_mut(&source) {
                source.upload_count = source.upload_count.saturating_sub(1);
            }
        } else if let Some(member) = self.members.get_mut(&worker) {
            member.grant_count = member.grant_count.saturating_sub(1);
            if let Some(site) = self.sites.get_mut(&member.arrival.site) {
                site.grant_count = site.grant_count.saturating_sub(1);
            }
        }
    }
}
