//! What the cache asks: names of chunks, and their bytes.

use super::owner::Wish;
use crate::near::NearStore;
use bytes::Bytes;
use dewar_blobs::{BlobClient, BlobRef, Chunk, ListError, Pieces, ReadError, Source};
use std::ops::Range;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use tonic::Status;

/// The swarm, as a source of chunks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SwarmSource {
    /// Names of chunks come from the broker alone, who is believed.
    broker: BlobClient,
    /// Each is a chunk on its way into the cache, whose bound is theirs.
    wishes: mpsc::UnboundedSender<Wish>,
    /// Results that are kept on this machine.
    near: NearStore,
}

impl SwarmSource {
    pub(crate) fn new(
        broker: BlobClient,
        wishes: mpsc::UnboundedSender<Wish>,
        near: NearStore,
    ) -> Self {
        Self {
            broker,
            wishes,
            near,
        }
    }

    async fn kept(&self, chunk: &Chunk) -> Option<Bytes> {
        if !self.near.has(&chunk.blob.digest) {
            return None;
        }
        let (near, digest) = (self.near.clone(), chunk.digest);
        let opened = spawn_blocking(move || near.open_chunk(&digest)).await;
        // What cannot be read here others have.
        opened.ok()?.ok()?
    }
}

impl Source for SwarmSource {
    async fn chunks(&self, blob: BlobRef, runs: &[Range<u64>]) -> Result<Vec<Chunk>, ListError> {
        Source::chunks(&self.broker, blob, runs).await
    }

    async fn in_place(&self, chunk: &Chunk) -> Option<Bytes> {
        if let Some(bytes) = self.kept(chunk).await {
            return Some(bytes);
        }
        Source::in_place(&self.broker, chunk).await
    }

    async fn fetch(&self, chunk: &Chunk) -> Result<Pieces, ReadError> {
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
