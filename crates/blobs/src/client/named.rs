//! Chunks as their holder names them.

use crate::{
    BlobRef, Chunk, ChunkList, ChunkListError, CorruptChunk, Digest, LocalFile, ReadError,
};
use bytes::Bytes;
use dewar_proto::{limits::CHUNK_BYTES, v1::ChunkDigestsResponse};
use std::ops::Range;
use tonic::Status;

/// Some chunks of a blob, in order.
#[derive(Debug, Clone)]
pub struct NamedChunks {
    /// The chunks asked for.
    pub chunks: Vec<Chunk>,
    /// Whether the blob is a file used by reference, whose name proves nothing of its bytes.
    pub by_reference: bool,
    /// The file the bytes are in, if the holder seems to be on this machine.
    pub local: Option<LocalFile>,
}

impl NamedChunks {
    /// Chunks of a list that is known to be the blob's.
    pub(super) fn proven(list: &ChunkList, runs: &[Range<u64>], local: Option<LocalFile>) -> Self {
        let indices = runs.iter().cloned().flatten();
        // What is outside has no chunks, however long the run.
        let inside = indices.take_while(|index| *index < list.chunk_count());
        Self {
            chunks: inside.filter_map(|index| list.chunk(index)).collect(),
            by_reference: false,
            local,
        }
    }

    /// Chunks as they were said to be.
    pub(super) fn believed(
        blob: BlobRef,
        runs: &[Range<u64>],
        reply: ChunkDigestsResponse,
    ) -> Result<Self, ChunkListError> {
        let count = runs.iter().fold(0_u64, |count, run| {
            count.saturating_add(run.end.saturating_sub(run.start))
        });
        let length = reply.digests.len();
        if reply.size_bytes != blob.size_bytes || length as u64 != count.saturating_mul(32) {
            return Err(ChunkListError::Length { blob, length });
        }
        let digests = reply.digests.chunks_exact(32).map(Digest::try_from);
        let named = runs.iter().cloned().flatten().zip(digests);
        let chunks = named.filter_map(|(index, digest)| {
            let digest = digest.ok()?;
            Some(Chunk {
                blob,
                index,
                digest,
            })
        });
        Ok(Self {
            chunks: chunks.collect(),
            by_reference: true,
            local: reply.local_file.as_ref().map(LocalFile::from_wire),
        })
    }

    /// Checks a whole blob's bytes, a chunk at a time.
    pub(super) async fn verify_all(self, bytes: Bytes) -> Result<Bytes, ReadError> {
        let verifying = tokio::task::spawn_blocking(move || {
            let pieces = bytes.chunks(CHUNK_BYTES as usize);
            pieces
                .zip(&self.chunks)
                .try_for_each(|(piece, chunk)| chunk.verify(piece))?;
            Ok::<_, CorruptChunk>(bytes)
        });
        let verified = verifying
            .await
            .map_err(|error| ReadError::Refused(Status::internal(error.to_string())))?;
        Ok(verified?)
    }
}
