//! One chunk of a blob: where it lies, and what its bytes must be.

use crate::{BlobRef, CorruptChunk, Digest, chunk_count};
use blake3::hazmat::HasherExt as _;
use bytes::Bytes;
use dewar_proto::limits::{CHUNK_BYTES, STREAM_DATA_BYTES};
use std::{iter, ops::Range};

/// One chunk of a blob, and the digest its bytes must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// The blob.
    pub blob: BlobRef,
    /// Position of the chunk in it.
    pub index: u64,
    /// Subtree value of the blob's hash; the hash itself if there is no other chunk.
    pub digest: Digest,
}

impl Chunk {
    /// Where in the blob it lies.
    pub fn range(&self) -> Range<u64> {
        chunk_range(self.blob.size_bytes, self.index)
    }

    /// How many bytes it has.
    pub fn size_bytes(&self) -> u64 {
        let range = self.range();
        range.end.saturating_sub(range.start)
    }

    /// Whether its blob has such a chunk.
    fn is_inside(&self) -> bool {
        self.index < chunk_count(self.blob.size_bytes)
    }

    /// Checks that `bytes` are the chunk.
    ///
    /// # Errors
    /// If they are not.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), CorruptChunk> {
        let mut check = self.check();
        check.update(bytes);
        check.finish()
    }

    /// Begins to check bytes that come piece by piece.
    pub fn check(&self) -> ChunkCheck {
        let mut hasher = blake3::Hasher::new();
        if self.is_inside() {
            hasher.set_input_offset(self.range().start);
        }
        ChunkCheck {
            chunk: *self,
            hasher,
            size_bytes: 0,
        }
    }
}

/// Whether bytes that come piece by piece are a chunk.
#[derive(Debug)]
pub struct ChunkCheck {
    chunk: Chunk,
    hasher: blake3::Hasher,
    size_bytes: u64,
}

impl ChunkCheck {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        // More are wrong whatever they are, and at its place inside a blob the hash takes no more than a chunk.
        if self.size_bytes <= CHUNK_BYTES {
            self.hasher.update(bytes);
        }
    }

    /// Says whether they were the chunk, and all of it.
    ///
    /// # Errors
    /// If they were not.
    pub fn finish(self) -> Result<(), CorruptChunk> {
        let Self {
            chunk,
            hasher,
            size_bytes,
        } = self;
        let digest = || match chunk_count(chunk.blob.size_bytes) {
            1 => hasher.finalize().into(),
            _ => Digest(hasher.finalize_non_root()),
        };
        let is_whole = chunk.is_inside() && size_bytes == chunk.size_bytes();
        let is_right = is_whole && digest() == chunk.digest;
        is_right.then_some(()).ok_or(CorruptChunk {
            blob: chunk.blob.digest,
            chunk_index: chunk.index,
        })
    }
}

/// Where in a blob of `size_bytes` the chunk at `index` lies.
pub fn chunk_range(size_bytes: u64, index: u64) -> Range<u64> {
    let start = index.saturating_mul(CHUNK_BYTES);
    start..size_bytes.min(start.saturating_add(CHUNK_BYTES))
}

/// The digest of the chunk at `index` of a blob of `size_bytes`, if `bytes` are its bytes.
pub fn chunk_digest(size_bytes: u64, index: u64, bytes: &[u8]) -> Digest {
    if chunk_count(size_bytes) == 1 {
        return blake3::hash(bytes).into();
    }
    let mut hasher = blake3::Hasher::new();
    hasher
        .set_input_offset(index.saturating_mul(CHUNK_BYTES))
        .update(bytes);
    Digest(hasher.finalize_non_root())
}

/// Bytes cut into what one message of a stream carries.
pub fn pieces_of(mut bytes: Bytes) -> impl Iterator<Item = Bytes> + Send {
    iter::from_fn(move || {
        (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(STREAM_DATA_BYTES)))
    })
}
