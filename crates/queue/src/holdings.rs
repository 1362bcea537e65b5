//! Which chunks of which blobs each worker holds, as far as it said.
//!
//! A hint to dispatch and no more: a task that is given to another worker fetches what it lacks. So what goes beyond the
//! bounds is not noted, nothing of it is written, and it is forgotten with the worker.

use crate::{BlobRef, Digest, WorkerId};
use roaring::RoaringBitmap;
use std::collections::HashMap;

/// Blobs noted for one worker: thousands of stacks; a worker that holds more keeps them, but is not preferred for them.
pub(crate) const BLOB_COUNT_PER_WORKER_MAX: usize = 16_384;

/// Ranges of one task that are looked at: dispatch compares many tasks, and the first ranges tell where it reads.
const RANGE_COUNT_MAX: usize = 64;

/// Bytes of a chunk: what the wire counts in, so that workers and queue mean the same by an index.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Indices of a blob's chunks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chunks(RoaringBitmap);

/// What a worker holds of a blob since it last said, and holds no more.
#[derive(Debug, Clone, PartialEq)]
pub struct HoldingChange {
    /// The blob.
    pub digest: Digest,
    /// Chunks that came.
    pub added: Chunks,
    /// Chunks that went. One that is in both is held no more.
    pub removed: Chunks,
}

/// All that workers hold.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// No worker without blobs, and no blob without chunks.
    workers: HashMap<WorkerId, HashMap<Digest, RoaringBitmap>>,
}

/// A part of a blob, as a task reads it: no ranges means all of it.
pub(crate) type Part<'a> = (&'a BlobRef, &'a [(u64, u64)]);

impl Chunks {
    /// The chunks of a bitmap, bit i of which is bit `i % 8` of byte `i / 8`.
    pub fn from_bitmap(bitmap: &[u8]) -> Self {
        Self(RoaringBitmap::from_lsb0_bytes(0, bitmap))
    }
}

impl FromIterator<u32> for Chunks {
    fn from_iter<I: IntoIterator<Item = u32>>(indices: I) -> Self {
        Self(indices.into_iter().collect())
    }
}

impl Holdings {
    pub(crate) fn note(&mut self, worker: WorkerId, changes: &[HoldingChange]) {
        let blobs = self.workers.entry(worker).or_default();
        for change in changes {
            if blobs.len() >= BLOB_COUNT_PER_WORKER_MAX && !blobs.contains_key(&change.digest) {
                continue;
            }
            let held = blobs.entry(change.digest).or_default();
            *held |= &change.added.0;
            *held -= &change.removed.0;
            if held.is_empty() {
                blobs.remove(&change.digest);
            }
        }
        if blobs.is_empty() {
            self.workers.remove(&worker);
        }
    }

    pub(crate) fn forget(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    /// Whether a worker holds anything at all.
    pub(crate) fn has_any(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Bytes of these parts that a worker holds, in whole chunks.
    pub(crate) fn held_bytes<'a>(
        &self,
        worker: WorkerId,
        parts: impl Iterator<Item = Part<'a>>,
    ) -> u64 {
        let Some(blobs) = self.workers.get(&worker) else {
            return 0;
        };
        covering(parts)
            .filter_map(|(blob, first, last)| {
                Some(held_of(blobs.get(&blob.digest)?, blob, first, last))
            })
            .fold(0, u64::saturating_add)
    }

    /// What is wrong, if anything. For checks.
    pub(crate) fn disorder(&self, known: impl Fn(WorkerId) -> bool) -> Option<&'static str> {
        self.workers.iter().find_map(|(worker, blobs)| {
            if !known(*worker) {
                Some("somebody holds blobs who is not there")
            } else if blobs.is_empty() || blobs.values().any(RoaringBitmap::is_empty) {
                Some("nothing is noted as held")
            } else if blobs.len() > BLOB_COUNT_PER_WORKER_MAX {
                Some("a worker has too many blobs noted")
            } else {
                None
            }
        })
    }
}

/// Bytes of these parts, counted as [`Holdings::held_bytes`] counts them.
pub(crate) fn wanted_bytes<'a>(parts: impl Iterator<Item = Part<'a>>) -> u64 {
    covering(parts)
        .map(|(blob, first, last)| span_bytes(blob, first, last))
        .fold(0, u64::saturating_add)
}

/// First and last chunk of each range.
fn covering<'a>(
    parts: impl Iterator<Item = Part<'a>>,
) -> impl Iterator<Item = (&'a BlobRef, u32, u32)> {
    let whole = |blob: &BlobRef| (0, blob.size_bytes);
    let ranges = parts.flat_map(move |(blob, ranges)| {
        let all = ranges.is_empty().then(|| whole(blob));
        let ranges = ranges.iter().copied().chain(all);
        ranges.map(move |range| (blob, range))
    });
    ranges
        .take(RANGE_COUNT_MAX)
        .filter_map(|(blob, (offset, length))| {
            let end = offset.saturating_add(length).min(blob.size_bytes);
            let last = end.checked_sub(1).filter(|last| *last >= offset)?;
            // Blobs of more than 4 PiB are not noted.
            let first = u32::try_from(offset / CHUNK_BYTES).ok()?;
            Some((blob, first, u32::try_from(last / CHUNK_BYTES).ok()?))
        })
}

fn held_of(held: &RoaringBitmap, blob: &BlobRef, first: u32, last: u32) -> u64 {
    let full = held.range_cardinality(first..last) * CHUNK_BYTES;
    if held.contains(last) {
        full + span_bytes(blob, last, last)
    } else {
        full
    }
}

/// Bytes from the first byte of one chunk to the last of another; a blob's last chunk may be short.
fn span_bytes(blob: &BlobRef, first: u32, last: u32) -> u64 {
    let end = (u64::from(last) + 1) * CHUNK_BYTES;
    end.min(blob.size_bytes) - u64::from(first) * CHUNK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: WorkerId = WorkerId([1; 16]);
    /// Two chunks and a half.
    const BLOB: BlobRef = BlobRef {
        digest: Digest([7; 32]),
        size_bytes: 5 * CHUNK_BYTES / 2,
    };

    fn noted(added: &[u32]) -> Holdings {
        let mut holdings = Holdings::default();
        holdings.note(WORKER, &[change(BLOB.digest, added, &[])]);
        holdings
    }

    fn change(digest: Digest, added: &[u32], removed: &[u32]) -> HoldingChange {
        HoldingChange {
            digest,
            added: added.iter().copied().collect(),
            removed: removed.iter().copied().collect(),
        }
    }

    #[track_caller]
    fn check(added: &[u32], ranges: &[(u64, u64)], held: u64, wanted: u64) {
        let part = || std::iter::once((&BLOB, ranges));
        assert_eq!(noted(added).held_bytes(WORKER, part()), held);
        assert_eq!(wanted_bytes(part()), wanted);
    }

    #[test]
    fn bytes_are_those_of_the_chunks_that_cover_a_range() {
        let (chunk, half) = (CHUNK_BYTES, CHUNK_BYTES / 2);
        check(&[0, 2], &[], chunk + half, BLOB.size_bytes);
        check(&[0, 1, 2], &[], BLOB.size_bytes, BLOB.size_bytes);
        check(&[1], &[(chunk - 1, 2)], chunk, 2 * chunk);
        check(&[1], &[(0, 1), (chunk, 1)], chunk, 2 * chunk);
        check(&[2, 3, 9], &[(2 * chunk, u64::MAX)], half, half);
        check(&[0], &[(0, 0), (u64::MAX, 1), (u64::MAX, u64::MAX)], 0, 0);
    }

    #[test]
    fn what_went_is_held_no_more() {
        let mut holdings = noted(&[0, 1]);
        holdings.note(WORKER, &[change(BLOB.digest, &[2], &[0, 1, 2])]);
        assert!(!holdings.has_any(WORKER));
        assert_eq!(holdings.disorder(|_| true), None);
    }

    #[test]
    fn no_more_blobs_are_noted_than_the_bound() {
        let mut holdings = Holdings::default();
        for n in 0..BLOB_COUNT_PER_WORKER_MAX + 10 {
            let mut digest = Digest([0; 32]);
            digest.0[..8].copy_from_slice(&n.to_le_bytes());
            holdings.note(WORKER, &[change(digest, &[0], &[])]);
        }
        assert_eq!(holdings.workers[&WORKER].len(), BLOB_COUNT_PER_WORKER_MAX);
        assert_eq!(holdings.disorder(|_| true), None);
    }
}
