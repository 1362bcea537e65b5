//! Blobs the broker wants here before any task needs them, one after another.

use super::{SwarmSource, owner::Wish};
use dewar_blobs::{BlobRef, ChunkCache, ChunkSet, Source as _};
use dewar_proto::limits::CHUNK_BYTES;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{collections::HashSet, ops::Range};
use tokio::sync::mpsc;

/// Chunks fetched together, and how many such lots at a time: while one ends the next is under way. What is fetched is in
/// use until it is let go, and must leave the cache room for tasks.
const LOT_COUNT: u64 = 8;
const LOTS_AT_ONCE: usize = 2;

/// Fetches what comes, for as long as something may.
pub(crate) async fn precache(
    mut blobs: mpsc::Receiver<BlobRef>,
    cache: ChunkCache,
    source: SwarmSource,
    wishes: mpsc::UnboundedSender<Wish>,
) {
    let mut room = Room::of(&cache);
    while let Some(blob) = blobs.recv().await {
        let fetched = match room.take(blob) {
            Ok(()) => fetch_all(blob, &cache, &source, &wishes).await,
            Err(message) => Err(message),
        };
        if let Err(message) = fetched {
            tracing::warn!(blob = %blob.digest, message, "not fetched beforehand");
            // Without an owner there is nobody to tell.
            let _ = wishes.send(Wish::CannotPrecache { blob, message });
        }
        if blobs.is_empty() {
            room = Room::of(&cache);
        }
    }
}

async fn fetch_all(
    blob: BlobRef,
    cache: &ChunkCache,
    source: &SwarmSource,
    wishes: &mpsc::UnboundedSender<Wish>,
) -> Result<(), String> {
    let chunk_count = blob.size_bytes.div_ceil(CHUNK_BYTES);
    let starts = stream::iter((0..chunk_count).step_by(LOT_COUNT as usize));
    starts
        .map(|start| {
            fetch_lot(
                blob,
                start..chunk_count.min(start + LOT_COUNT),
                cache,
                source,
            )
        })
        .buffered(LOTS_AT_ONCE)
        .try_for_each(|chunks| {
            // Without an owner there is nobody to tell.
            let _ = wishes.send(Wish::Precached { blob, chunks });
            std::future::ready(Ok(()))
        })
        .await
}

/// Fetches a run of chunks, and says which of them are here.
async fn fetch_lot(
    blob: BlobRef,
    run: Range<u64>,
    cache: &ChunkCache,
    source: &SwarmSource,
) -> Result<ChunkSet, String> {
    let bytes = run.start * CHUNK_BYTES..blob.size_bytes.min(run.end * CHUNK_BYTES);
    cache
        .fetch(source, blob, std::slice::from_ref(&bytes))
        .await
        .map_err(|error| error.to_string())?;
    // Nobody was asked for those that were here, so nobody knows that they are.
    let chunks = source
        .chunks(blob, std::slice::from_ref(&run))
        .await
        .map_err(|error| error.to_string())?;
    let cache = cache.clone();
    let held = tokio::task::spawn_blocking(move || cache.note_held(&chunks)).await;
    held.map_err(|error| error.to_string())
}

/// Room in the cache for what is asked for together: more would push out what just came.
struct Room {
    cache_bytes: u64,
    free_bytes: u64,
    taken: HashSet<BlobRef>,
}

impl Room {
    fn of(cache: &ChunkCache) -> Self {
        Self::of_bytes(cache.size_bytes_max())
    }

    fn of_bytes(cache_bytes: u64) -> Self {
        Self {
            cache_bytes,
            // A cache that is full is emptied by a tenth.
            free_bytes: cache_bytes - cache_bytes / 10,
            taken: HashSet::new(),
        }
    }

    fn take(&mut self, blob: BlobRef) -> Result<(), String> {
        if self.taken.contains(&blob) {
            return Ok(());
        }
        match self.free_bytes.checked_sub(blob.size_bytes) {
            Some(free_bytes) => {
                self.free_bytes = free_bytes;
                self.taken.insert(blob);
                Ok(())
            }
            None => Err(format!(
                "the cache of {} bytes has no room for a file of {}, with the others; see --cache-size",
                self.cache_bytes, blob.size_bytes
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_blobs::Digest;

    #[test]
    fn nothing_is_fetched_that_would_push_out_what_just_came() {
        let blob = |n, size_bytes| BlobRef {
            digest: Digest([n; 32]),
            size_bytes,
        };
        let mut room = Room::of_bytes(100);
        assert_eq!(room.take(blob(1, 60)), Ok(()));
        assert_eq!(room.take(blob(1, 60)), Ok(()), "asked for twice");
        let refused = room.take(blob(2, 31)).unwrap_err();
        assert!(refused.contains("100") && refused.contains("31"));
        assert_eq!(room.take(blob(3, 30)), Ok(()), "a smaller one fits");
        assert!(Room::of_bytes(100).take(blob(4, 91)).is_err());
    }
}
