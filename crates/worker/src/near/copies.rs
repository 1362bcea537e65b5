//! Second copies: blobs that another worker has, and that this one is to keep as well.

use super::{
    Near,
    store::{Kept, NearStore},
};
use crate::swarm::SwarmSource;
use bytes::BytesMut;
use dewar_blobs::{BlobRef, ChunkCache, ChunkList, Source as _, chunk_count};
use dewar_proto::limits::CHUNK_BYTES;
use futures::StreamExt as _;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;

/// Copies fetched at once.
const AT_ONCE: usize = 4;

/// Chunks of one that are fetched together. They are in use until they are written, and must leave the cache room.
const LOT_COUNT: u64 = 8;

/// Keeps what comes, for as long as something may.
pub(crate) async fn copy(
    blobs: mpsc::Receiver<BlobRef>,
    cache: ChunkCache,
    source: SwarmSource,
    store: NearStore,
    near: Near,
) {
    let blobs = ReceiverStream::new(blobs);
    blobs
        .for_each_concurrent(AT_ONCE, async |blob| {
            let copied = one(blob, &cache, &source, &store).await;
            if let Err(message) = &copied {
                tracing::warn!(blob = %blob.digest, message, "no copy is kept");
            }
            near.copied(blob, copied);
        })
        .await;
}

async fn one(
    blob: BlobRef,
    cache: &ChunkCache,
    source: &SwarmSource,
    store: &NearStore,
) -> Result<(Kept, ChunkList), String> {
    let list = list_of(blob, source).await?;
    let in_store = store.clone();
    let part = blocking(move || in_store.begin(blob).map_err(|error| error.to_string())).await?;
    let mut part = part;
    for start in (0..chunk_count(blob.size_bytes)).step_by(LOT_COUNT as usize) {
        let end = blob.size_bytes.min((start + LOT_COUNT) * CHUNK_BYTES);
        let range = start * CHUNK_BYTES..end;
        let parts = cache
            .fetch(source, blob, std::slice::from_ref(&range))
            .await;
        let parts = parts.map_err(|error| error.to_string())?;
        part = blocking(move || {
            for (offset, bytes) in parts {
                let written = part.write_at(offset, &bytes);
                written.map_err(|error| error.to_string())?;
            }
            Ok(part)
        })
        .await?;
    }
    let store = store.clone();
    blocking(move || {
        let kept = store.finish(part, &list);
        kept.map(|kept| (kept, list))
            .map_err(|error| error.to_string())
    })
    .await
}

async fn list_of(blob: BlobRef, source: &SwarmSource) -> Result<ChunkList, String> {
    let all = 0..chunk_count(blob.size_bytes);
    let chunks = source.chunks(blob, std::slice::from_ref(&all)).await;
    let chunks = chunks.map_err(|error| error.to_string())?;
    let mut digests = BytesMut::new();
    for chunk in chunks {
        digests.extend_from_slice(&chunk.digest.0);
    }
    ChunkList::new(blob, digests.freeze()).map_err(|error| error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?
}
