//! Chunk lists: the digests by which the parts of a blob are checked, and the proof that they belong to it.
//!
//! BLAKE3 is a binary tree whose left part always holds the largest power of two of the input that leaves something
//! for the right. 1 MiB is such a power, so every chunk is a subtree, and the list folds up to the blob's own digest.

use crate::{BlobRef, Chunk, Digest};
use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
use bytes::{Bytes, BytesMut};
use dewar_proto::limits::CHUNK_BYTES;

/// The digests of a blob's chunks, known to belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList {
    blob: BlobRef,
    /// 32 bytes a chunk; folds up to `blob.digest`.
    digests: Bytes,
}

/// A list of chunk digests that is not the blob's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkListError {
    /// Too many digests, or too few.
    #[error(
        "chunk list of {} has {length} bytes; a blob of {} bytes has {} chunks of 32 bytes each",
        blob.digest, blob.size_bytes, chunk_count(blob.size_bytes)
    )]
    Length {
        /// The blob.
        blob: BlobRef,
        /// Bytes of the list.
        length: usize,
    },
    /// The digests do not fold up to the blob's.
    #[error("chunk list of {} belongs to {actual}", blob.digest)]
    Root {
        /// The blob.
        blob: BlobRef,
        /// What the list folds up to.
        actual: Digest,
    },
}

/// Bytes that are not the chunk they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("chunk {chunk_index} of blob {blob} is corrupt")]
pub struct CorruptChunk {
    /// The blob.
    pub blob: Digest,
    /// Position of the chunk.
    pub chunk_index: u64,
}

/// How many chunks a blob has. The empty blob has one empty chunk, so that every blob has bytes to check.
pub fn chunk_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(CHUNK_BYTES).max(1)
}

impl ChunkList {
    /// Checks that `digests`, 32 bytes each, are those of `blob`.
    ///
    /// # Errors
    /// If they are not.
    pub fn new(blob: BlobRef, digests: Bytes) -> Result<Self, ChunkListError> {
        if digests.len() as u64 != chunk_count(blob.size_bytes).saturating_mul(32) {
            let length = digests.len();
            return Err(ChunkListError::Length { blob, length });
        }
        let actual = fold(&digests);
        if actual == blob.digest {
            Ok(Self { blob, digests })
        } else {
            Err(ChunkListError::Root { blob, actual })
        }
    }

    /// The list of a blob of one chunk, which needs no proof: the chunk's digest is the blob's.
    pub fn of_one_chunk(blob: BlobRef) -> Option<Self> {
        (chunk_count(blob.size_bytes) == 1).then(|| Self {
            blob,
            digests: Bytes::copy_from_slice(&blob.digest.0),
        })
    }

    /// Folds a list just made from a blob's bytes.
    pub(crate) fn of_hashed(size_bytes: u64, digests: BytesMut) -> Self {
        let digests = digests.freeze();
        let blob = BlobRef {
            digest: fold(&digests),
            size_bytes,
        };
        Self { blob, digests }
    }

    /// The blob.
    pub fn blob(&self) -> BlobRef {
        self.blob
    }

    /// The digests, 32 bytes each, as they go over the wire.
    pub fn digests(&self) -> &Bytes {
        &self.digests
    }

    /// How many chunks there are; at least one.
    pub fn chunk_count(&self) -> u64 {
        chunk_count(self.blob.size_bytes)
    }

    /// The digest of the chunk at `chunk_index`, if there is one.
    pub fn chunk_digest(&self, chunk_index: u64) -> Option<Digest> {
        let start = usize::try_from(chunk_index).ok()?.checked_mul(32)?;
        let bytes = self.digests.get(start..start.checked_add(32)?)?;
        Digest::try_from(bytes).ok()
    }

    /// The chunk at `index`, if there is one.
    pub fn chunk(&self, index: u64) -> Option<Chunk> {
        let digest = self.chunk_digest(index)?;
        Some(Chunk {
            blob: self.blob,
            index,
            digest,
        })
    }
}

/// Folds chunk digests, 32 bytes each and at least one, up to the blob's digest.
fn fold(digests: &[u8]) -> Digest {
    let count = digests.len() / 32;
    if count == 1 {
        return Digest(value_at(digests));
    }
    let (left, right) = digests.split_at(left_count(count) * 32);
    Digest(*merge_subtrees_root(&fold_subtree(left), &fold_subtree(right), Mode::Hash).as_bytes())
}

/// As [`fold`], inside the tree. As deep as the logarithm of the count.
fn fold_subtree(digests: &[u8]) -> [u8; 32] {
    let count = digests.len() / 32;
    if count == 1 {
        return value_at(digests);
    }
    let (left, right) = digests.split_at(left_count(count) * 32);
    merge_subtrees_non_root(&fold_subtree(left), &fold_subtree(right), Mode::Hash)
}

/// The largest power of two below `count`, which is at least 2.
fn left_count(count: usize) -> usize {
    count.div_ceil(2).next_power_of_two()
}

fn value_at(digests: &[u8]) -> [u8; 32] {
    digests[..32]
        .try_into()
        .expect("a slice of 32 bytes fits an array of 32")
}
