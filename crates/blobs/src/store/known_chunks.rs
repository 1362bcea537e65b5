//! Which blob of ours has a chunk, so that it need not be sent again. A chunk's digest depends on where in its blob it
//! lies, so only chunks at the same place are found.

use crate::{BlobRef, ChunkList, Digest};
use std::collections::{HashMap, HashSet};

/// Chunks that are remembered: those of 512 GiB, in about 50 MB. Beyond that, chunks are sent that need not be.
const CHUNKS_MAX: usize = 512 << 10;

/// Holders of chunks, learned when they are first needed. What it says may be out of date.
#[derive(Debug, Default)]
pub(super) struct KnownChunks {
    learned: HashSet<Digest>,
    /// By the first half of a chunk's digest: whoever uses this checks the bytes.
    holders: HashMap<u128, u32>,
    blobs: Vec<Digest>,
}

impl KnownChunks {
    /// Learns the lists of blobs that are new. One that was given up stays until there is no room, and then all go.
    pub(super) fn learn(
        &mut self,
        blobs: &[BlobRef],
        read_list: impl Fn(BlobRef) -> Option<ChunkList>,
    ) {
        if self.holders.len() >= CHUNKS_MAX {
            *self = Self::default();
        }
        for blob in blobs {
            if self.holders.len() >= CHUNKS_MAX || !self.learned.insert(blob.digest) {
                continue;
            }
            let Some(list) = read_list(*blob) else {
                continue;
            };
            let place = self.blobs.len() as u32;
            self.blobs.push(blob.digest);
            let room = CHUNKS_MAX - self.holders.len();
            for digest in list.digests().chunks_exact(32).take(room) {
                self.holders.insert(key(digest), place);
            }
        }
    }

    /// A blob that had the chunk.
    pub(super) fn holder(&self, chunk: &Digest) -> Option<Digest> {
        let place = self.holders.get(&key(&chunk.0))?;
        self.blobs.get(*place as usize).copied()
    }
}

fn key(digest: &[u8]) -> u128 {
    digest[..16]
        .iter()
        .fold(0, |key, byte| key << 8 | u128::from(*byte))
}
