//! What the cache asks: names of chunks, and their bytes.

use super::owner::Wish;
use bytes::Bytes;
use dewar_blobs::{BlobClient, BlobRef, Chunk, ListError, ReadError, Source};
use std::ops::Range;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// The swarm, as a source of chunks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SwarmSource {
    /// Names of chunks come from the broker alone, who is believed.
    broker: BlobClient,
    /// Each is a chunk on its way into the cache, whose bound is theirs.
    wishes: mpsc::UnboundedSender<Wish>,
}

impl SwarmSource {
    pub(crate) fn new(broker: BlobClient, wishes: mpsc::UnboundedSender<Wish>) -> Self {
        Self { broker, wishes }
    }
}

impl Source for SwarmSource {
    async fn chunks(&self, blob: BlobRef, runs: &[Range<u64>]) -> Result<Vec<Chunk>, ListError> {
        Source::chunks(&self.broker, blob, runs).await
    }

    async fn in_place(&self, chunk: &Chunk) -> Option<Bytes> {
        Source::in_place(&self.broker, chunk).await
    }

    async fn fetch(&self, chunk: &Chunk) -> Result<Bytes, ReadError> {
        let (reply, answer) = oneshot::channel();
        let (chunk, wishes) = (*chunk, &self.wishes);
        let ended = |_| ReadError::Refused(Status::cancelled("the worker is stopping"));
        wishes
            .send(Wish::Fetch { chunk, reply })
            .map_err(|_| ReadError::Refused(Status::cancelled("the worker is stopping")))?;
        // Dropped before the answer, the owner finds nobody to give it to, and wants it no more.
        answer.await.map_err(ended)?
    }
}
