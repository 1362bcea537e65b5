//! Who holds what.

use super::Tracker;
use crate::swarm::{Instant, SiteName};
use dewar_blobs::{BlobRef, ChunkSet};
use dewar_proto::limits::CHUNK_BYTES;
use dewar_queue::WorkerId;

/// Blobs of which one worker may hold chunks; what it holds of others is not offered.
const BLOBS_HELD_MAX: usize = 65_536;

impl Tracker {
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

    /// Whether the broker would have to fetch a blob from workers itself.
    pub(crate) fn set_near(&mut self, blob: BlobRef, is_near: bool) {
        match is_near {
            true => self.near.insert(blob),
            false => self.near.remove(&blob),
        };
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

    pub(super) fn drop_holder(&mut self, worker: WorkerId, site: &SiteName, blob: BlobRef) {
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
}
