//! Blobs the broker wants here before any task needs them, one after another.

use super::{SwarmSource, owner::Wish};
use dewar_blobs::{BlobRef, ChunkCache};
use dewar_proto::limits::CHUNK_BYTES;
use tokio::sync::mpsc;

/// Bytes fetched at a time. What is fetched is in use until it is let go, and must leave the cache room for tasks.
const AT_ONCE_BYTES: u64 = 16 * CHUNK_BYTES;

/// Fetches what comes, for as long as something may.
pub(crate) async fn precache(
    mut blobs: mpsc::Receiver<BlobRef>,
    cache: ChunkCache,
    source: SwarmSource,
    wishes: mpsc::UnboundedSender<Wish>,
) {
    while let Some(blob) = blobs.recv().await {
        if let Err(message) = fetch_all(blob, &cache, &source).await {
            tracing::warn!(blob = %blob.digest, message, "not fetched beforehand");
            // Without an owner there is nobody to tell.
            let _ = wishes.send(Wish::CannotPrecache { blob, message });
        }
    }
}

async fn fetch_all(blob: BlobRef, cache: &ChunkCache, source: &SwarmSource) -> Result<(), String> {
    if blob.size_bytes > cache.size_bytes_max() {
        return Err(format!(
            "the cache of {} bytes is smaller than the file of {}; see --cache-size",
            cache.size_bytes_max(),
            blob.size_bytes
        ));
    }
    let mut start = 0;
    while start < blob.size_bytes {
        let end = blob.size_bytes.min(start + AT_ONCE_BYTES);
        let part = start..end;
        cache
            .fetch(source, blob, std::slice::from_ref(&part))
            .await
            .map_err(|error| error.to_string())?;
        start = end;
    }
    Ok(())
}
