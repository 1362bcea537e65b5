//! Getting the parts of a blob a task reads: from the folder, and from a holder where it lacks them.

use super::{ChunkCache, claim::Claim, locked};
use crate::{BlobRef, Chunk, Digest, ListError, ReadError, Source};
use bytes::Bytes;
use dewar_proto::limits::CHUNK_BYTES;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{io, ops::Range, sync::Arc, time::Duration};
use tonic::Code;

/// Chunks on their way at once for one blob: enough for each of a site's workers to be given some of its own to pass on.
const CHUNKS_FETCHING_MAX: usize = 16;

/// Pauses between looks for a chunk that another process fetches.
const CLAIM_PAUSE_MIN: Duration = Duration::from_millis(5);
const CLAIM_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Who may fetch a chunk.
enum Claimed {
    /// We, until the claim is dropped. Without one nobody is kept from fetching it too.
    Ours(Option<Claim>),
    /// Another process.
    Others,
}

/// Why the parts of a blob are not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The holder did not give the chunk list.
    #[error(transparent)]
    List(#[from] ListError),
    /// The holder did not give a chunk.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A range lies outside the blob.
    #[error(
        "bytes {}..{} lie outside blob {} of {} bytes",
        range.start, range.end, blob.digest, blob.size_bytes
    )]
    Range {
        /// The blob.
        blob: BlobRef,
        /// The range.
        range: Range<u64>,
    },
    /// A thread of the cache died.
    #[error("the cache failed")]
    Cache(#[source] io::Error),
}

impl FetchError {
    /// Whether the same fetch may succeed later. Only what is said of the input itself is final: a holder that is short of
    /// memory, reads badly from its disk or fails in a way of its own may do better.
    pub fn is_transient(&self) -> bool {
        let status = match self {
            Self::Range { .. } => return false,
            Self::List(ListError::Refused(status)) | Self::Read(ReadError::Refused(status)) => {
                status
            }
            Self::List(_) | Self::Read(_) | Self::Cache(_) => return true,
        };
        !matches!(
            status.code(),
            Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument | Code::OutOfRange
        )
    }
}

impl ChunkCache {
    /// The chunks that cover `ranges`, each with its offset in the blob, ascending. No ranges means all of it.
    ///
    /// Only chunks that are not in the folder travel, each once however many slots want it; every one was checked.
    ///
    /// # Errors
    /// If a chunk does not come in the end; [`FetchError::is_transient`] says whether to try again later.
    pub async fn fetch(
        &self,
        source: &impl Source,
        blob: BlobRef,
        ranges: &[Range<u64>],
    ) -> Result<Vec<(u64, Bytes)>, FetchError> {
        let runs = chunks_covering(blob, ranges)?;
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let chunks = source.chunks(blob, &runs).await?;
        stream::iter(chunks)
            .map(|chunk| async move {
                let bytes = self.chunk(source, &chunk).await?;
                Ok((chunk.range().start, bytes))
            })
            .buffered(CHUNKS_FETCHING_MAX)
            .try_collect()
            .await
    }

    async fn chunk(&self, source: &impl Source, chunk: &Chunk) -> Result<Bytes, FetchError> {
        if let Some(bytes) = source.in_place(chunk).await {
            return Ok(bytes);
        }
        let turn = self.turn(chunk.digest);
        let guard = turn.lock().await;
        let bytes = self.find_or_fetch(source, chunk).await?;
        drop(guard);
        self.end_turn(chunk.digest, turn);
        Ok(bytes)
    }

    /// Looks, and fetches unless another process does so already: then it waits for that one.
    async fn find_or_fetch(
        &self,
        source: &impl Source,
        chunk: &Chunk,
    ) -> Result<Bytes, FetchError> {
        let mut pause = CLAIM_PAUSE_MIN;
        loop {
            if let Some(bytes) = self.look(chunk).await? {
                return Ok(bytes);
            }
            match self.claim(chunk).await? {
                Claimed::Ours(claim) => {
                    // It may have come between the look and the claim.
                    if let Some(bytes) = self.look(chunk).await? {
                        return Ok(bytes);
                    }
                    let bytes = source.fetch(chunk).await?;
                    return self.keep(chunk, bytes, claim).await;
                }
                Claimed::Others => tokio::time::sleep(pause).await,
            }
            pause = CLAIM_PAUSE_MAX.min(pause * 2);
        }
    }

    async fn claim(&self, chunk: &Chunk) -> Result<Claimed, FetchError> {
        let (cache, digest) = (self.clone(), chunk.digest);
        blocking(move || match cache.shared.claim(&digest) {
            Ok(Some(claim)) => Claimed::Ours(Some(claim)),
            Ok(None) => Claimed::Others,
            // Fetched twice is better than not at all.
            Err(error) => {
                tracing::debug!(%error, "a chunk cannot be claimed");
                Claimed::Ours(None)
            }
        })
        .await
    }

    async fn look(&self, chunk: &Chunk) -> Result<Option<Bytes>, FetchError> {
        let (cache, chunk) = (self.clone(), *chunk);
        blocking(move || cache.get(&chunk)).await
    }

    /// Writes a chunk to the folder and gives it back from there, so that slots share its memory. A disk that is full
    /// makes the cache useless, not the task: the bytes we have are as good.
    ///
    /// The claim goes along: the write goes on when whoever waits for it gives up.
    async fn keep(
        &self,
        chunk: &Chunk,
        bytes: Bytes,
        claim: Option<Claim>,
    ) -> Result<Bytes, FetchError> {
        let (cache, chunk) = (self.clone(), *chunk);
        blocking(move || {
            let _claim = claim;
            if let Err(error) = cache.put(&chunk, &bytes) {
                tracing::warn!(%error, "cannot keep a chunk in the cache");
                return bytes;
            }
            cache.get(&chunk).unwrap_or(bytes)
        })
        .await
    }

    fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = locked(&self.shared.fetching);
        // Turns whose fetch failed or was dropped stay behind; they go here, so that the map stays as small as the
        // number of fetches under way.
        fetching.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(fetching.entry(digest).or_default())
    }

    fn end_turn(&self, digest: Digest, turn: Arc<tokio::sync::Mutex<()>>) {
        let mut fetching = locked(&self.shared.fetching);
        drop(turn);
        if fetching
            .get(&digest)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            fetching.remove(&digest);
        }
    }
}

/// The chunks that cover `ranges`, as ascending disjoint runs of indices: a run costs nothing however long it is, and
/// what a task says about a blob is not to be believed before the chunk list proved it.
fn chunks_covering(blob: BlobRef, ranges: &[Range<u64>]) -> Result<Vec<Range<u64>>, FetchError> {
    let whole = 0..blob.size_bytes;
    let ranges = match ranges {
        [] => std::slice::from_ref(&whole),
        _ => ranges,
    };
    if let Some(range) = ranges
        .iter()
        .find(|range| range.start > range.end || range.end > blob.size_bytes)
    {
        let range = range.clone();
        return Err(FetchError::Range { blob, range });
    }
    let mut runs: Vec<_> = ranges
        .iter()
        .filter(|range| !range.is_empty())
        .map(|range| range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES))
        .collect();
    runs.sort_by_key(|run| run.start);
    runs.dedup_by(|later, earlier| {
        let touches = later.start <= earlier.end;
        if touches {
            earlier.end = earlier.end.max(later.end);
        }
        touches
    });
    Ok(runs)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| FetchError::Cache(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_input_is_final() {
        let refused = |code| {
            let status = tonic::Status::new(code, "no");
            FetchError::Read(ReadError::Refused(status))
        };
        for code in [
            Code::NotFound,
            Code::FailedPrecondition,
            Code::InvalidArgument,
        ] {
            assert!(!refused(code).is_transient(), "{code:?}");
        }
        for code in [
            Code::ResourceExhausted,
            Code::Internal,
            Code::DataLoss,
            Code::Unavailable,
            Code::Unknown,
        ] {
            assert!(refused(code).is_transient(), "{code:?}");
        }
        let disk = std::io::Error::other("a bad block");
        assert!(FetchError::Cache(disk).is_transient());
        let blob = BlobRef {
            digest: Digest([0; 32]),
            size_bytes: 1,
        };
        assert!(!FetchError::Range { blob, range: 0..2 }.is_transient());
    }

    #[expect(clippy::single_range_in_vec_init, reason = "one range is one range")]
    #[test]
    fn only_covering_chunks_are_wanted() {
        const C: u64 = CHUNK_BYTES;
        let check = |size_bytes, ranges: &[Range<u64>], expected: Option<&[Range<u64>]>| {
            let digest = Digest([0; 32]);
            let runs = chunks_covering(BlobRef { digest, size_bytes }, ranges).ok();
            assert_eq!(runs.as_deref(), expected, "{size_bytes} {ranges:?}");
        };
        check(5 * C, &[], Some(&[0..5]));
        check(0, &[], Some(&[]));
        check(1, &[], Some(&[0..1]));
        check(5 * C, &[0..1, C - 1..C], Some(&[0..1]));
        check(
            5 * C,
            &[C - 1..C + 1, 4 * C..4 * C + 1],
            Some(&[0..2, 4..5]),
        );
        check(5 * C, &[4 * C..5 * C, 0..1, 0..2 * C], Some(&[0..2, 4..5]));
        check(5 * C, &[7..7], Some(&[]));
        check(5 * C, &[4 * C..5 * C + 1], None);
        check(u64::MAX, &[], Some(&[0..u64::MAX.div_ceil(C)]));
    }
}
