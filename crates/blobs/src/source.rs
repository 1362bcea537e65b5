//! Where a cache gets what it lacks.

use crate::{BlobClient, BlobRef, Chunk, ListError, Pieces, ReadError};
use bytes::Bytes;
use std::ops::Range;

/// Whoever can name the chunks of blobs and give their bytes: one holder, or many.
pub trait Source: Send + Sync {
    /// The chunks of a blob in `runs` of indices, which are ascending, disjoint and inside the blob.
    fn chunks(
        &self,
        blob: BlobRef,
        runs: &[Range<u64>],
    ) -> impl Future<Output = Result<Vec<Chunk>, ListError>> + Send;

    /// A chunk's bytes, checked, if they are on this machine already, outside the cache, which then keeps no copy.
    fn in_place(&self, chunk: &Chunk) -> impl Future<Output = Option<Bytes>> + Send;

    /// A chunk's bytes, checked, from wherever they are to be had.
    fn fetch(&self, chunk: &Chunk) -> impl Future<Output = Result<Pieces, ReadError>> + Send;
}

/// One holder, and no other.
impl Source for BlobClient {
    async fn chunks(&self, blob: BlobRef, runs: &[Range<u64>]) -> Result<Vec<Chunk>, ListError> {
        let named = BlobClient::chunks(self, blob, runs).await?;
        self.note_place(blob, named.local);
        Ok(named.chunks)
    }

    async fn in_place(&self, chunk: &Chunk) -> Option<Bytes> {
        self.read_in_place(chunk).await
    }

    async fn fetch(&self, chunk: &Chunk) -> Result<Pieces, ReadError> {
        // Never closed.
        let _turn = self.fetches.acquire().await;
        self.read_chunk(chunk).await
    }
}
