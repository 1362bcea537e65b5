//! Hashing: one pass over bytes gives a blob's name and the digests of its chunks.

use crate::{ChunkList, Digest, buffer::Buffer, chunk_count, chunk_range};
use blake3::hazmat::HasherExt as _;
use bytes::BytesMut;
use dewar_proto::limits::CHUNK_BYTES;
use std::{
    fs::File,
    io::{self, Read as _},
    ops::Range,
    os::unix::fs::FileExt as _,
};

/// Bytes read from a file at a time; whole SIMD batches of BLAKE3, and small enough for the cache.
const READ_BYTES: usize = 256 << 10;

/// Names bytes as they come by. Gives exactly what plain BLAKE3 gives, and the chunk list besides.
#[derive(Debug, Clone)]
pub struct Hasher {
    /// Of the chunk that is being filled.
    chunk: blake3::Hasher,
    /// Bytes of that chunk; it is closed only when a byte follows, since a chunk that is alone is hashed as a root.
    chunk_bytes: u64,
    size_bytes: u64,
    closed: BytesMut,
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self {
            chunk: blake3::Hasher::new(),
            chunk_bytes: 0,
            size_bytes: 0,
            closed: BytesMut::new(),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.chunk_bytes == CHUNK_BYTES {
                self.close_chunk();
            }
            let room = (CHUNK_BYTES - self.chunk_bytes) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.update(now);
            self.chunk_bytes += now.len() as u64;
            self.size_bytes += now.len() as u64;
            bytes = later;
        }
    }

    /// How many bytes were taken.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The blob's chunk list, whose [`ChunkList::blob`] is its name.
    pub fn finish(mut self) -> ChunkList {
        let last = if self.closed.is_empty() {
            Digest::from(self.chunk.finalize())
        } else {
            Digest(self.chunk.finalize_non_root())
        };
        self.closed.extend_from_slice(&last.0);
        ChunkList::of_hashed(self.size_bytes, self.closed)
    }

    fn close_chunk(&mut self) {
        self.closed
            .extend_from_slice(&self.chunk.finalize_non_root());
        self.chunk = blake3::Hasher::new();
        self.chunk.set_input_offset(self.size_bytes);
        self.chunk_bytes = 0;
    }
}

/// Names bytes in memory.
pub fn hash_bytes(bytes: &[u8]) -> ChunkList {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// Names what is left to read of a file, telling now and then how many bytes are done. Blocks.
///
/// # Errors
/// If the file cannot be read.
pub fn hash_file(mut file: &File, mut progress: impl FnMut(u64)) -> io::Result<ChunkList> {
    /// Often enough for a progress bar, seldom enough for the wire.
    const PROGRESS_BYTES: u64 = 64 << 20;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut told_bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if hasher.size_bytes() - told_bytes >= PROGRESS_BYTES {
            told_bytes = hasher.size_bytes();
            progress(told_bytes);
        }
    }
    progress(hasher.size_bytes());
    Ok(hasher.finish())
}

/// The digest of one chunk of a file that is a blob of `size_bytes`. Blocks.
pub(crate) fn hash_chunk(file: &File, size_bytes: u64, index: u64) -> io::Result<Digest> {
    let Range { start, end } = chunk_range(size_bytes, index);
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start);
    let mut buffer = Buffer::new(READ_BYTES);
    let mut at = start;
    while at < end {
        let piece = &mut buffer[..((end - at) as usize).min(READ_BYTES)];
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
        at += piece.len() as u64;
    }
    if chunk_count(size_bytes) == 1 {
        return Ok(hasher.finalize().into());
    }
    Ok(Digest(hasher.finalize_non_root()))
}

#[cfg(test)]
mod tests;
