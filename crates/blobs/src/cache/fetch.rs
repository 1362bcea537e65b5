//! Getting the parts of a blob a task reads: from the folder, and from a holder where it lacks them.

use super::{
    ChunkCache,
    claim::{Claim, Claimed},
    evict::{Limit, NoRoom},
    locked,
};
use crate::{BlobRef, Chunk, Digest, ListError, Pieces, ReadError, Source};
use bytes::Bytes;
use dewar_proto::limits::CHUNK_BYTES;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tonic::Code;

/// Chunks of one blob that are looked for at once: enough for each of a site's workers to be given some of its own to pass on.
const CHUNKS_AT_ONCE_MAX: usize = 16;

/// Pauses between looks for a chunk that another process fetches.
const CLAIM_PAUSE_MIN: Duration = Duration::from_millis(5);
const CLAIM_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Between two tries to find room: other tasks end, and need theirs no more.
pub(super) const ROOM_PAUSE: Duration = Duration::from_millis(500);

/// Room is waited for this often. Two tasks that wait for each other's would do so for ever.
const ROOM_PAUSES_MAX: u32 = 60;

/// What came of looking for a chunk.
enum Found {
    Here(Bytes),
    Claimed(io::Result<Claimed>),
}

/// How one try to get a chunk ended.
enum Try {
    Got(Bytes),
    /// It came between the look and the claim.
    Again,
    /// Another process fetches it.
    Others,
    NoRoom(NoRoom),
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
    /// The cache does not take it, even after what is not in use was removed, and after a while.
    #[error(
        "the cache folder {} has no room for {need_bytes} bytes of blob {}: {room_bytes} bytes are free {limit}",
        folder.display(), blob.digest
    )]
    Full {
        /// The folder.
        folder: PathBuf,
        /// The blob.
        blob: BlobRef,
        /// How many bytes of it are asked for.
        need_bytes: u64,
        /// How many there is room for.
        room_bytes: u64,
        /// Where there is no room.
        limit: Limit,
    },
    /// The folder could not be read, or a thread died.
    #[error("the cache failed")]
    Cache(#[source] io::Error),
}

impl FetchError {
    /// Whether the same fetch may succeed later. Only what is said of the input itself is final, and a cache that was too
    /// small for long: a holder that is short of memory, reads badly from its disk or fails in a way of its own may do
    /// better.
    pub fn is_transient(&self) -> bool {
        let status = match self {
            Self::Range { .. } | Self::Full { .. } => return false,
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
        let wanted = Wanted {
            blob,
            need_bytes: chunks.iter().map(Chunk::size_bytes).sum(),
        };
        stream::iter(chunks)
            .map(|chunk| async move {
                let bytes = self.chunk(source, &chunk, wanted).await?;
                Ok((chunk.range().start, bytes))
            })
            .buffered(CHUNKS_AT_ONCE_MAX)
            .try_collect()
            .await
    }

    async fn chunk(
        &self,
        source: &impl Source,
        chunk: &Chunk,
        wanted: Wanted,
    ) -> Result<Bytes, FetchError> {
        if let Some(bytes) = source.in_place(chunk).await {
            return Ok(bytes);
        }
        let turn = self.turn(chunk.digest);
        let guard = turn.lock().await;
        let bytes = self.find_or_fetch(source, chunk, wanted).await?;
        drop(guard);
        self.end_turn(chunk.digest, turn);
        Ok(bytes)
    }

    /// Looks, and fetches unless another process does so already: then it waits for that one. Waits for room, too.
    async fn find_or_fetch(
        &self,
        source: &impl Source,
        chunk: &Chunk,
        wanted: Wanted,
    ) -> Result<Bytes, FetchError> {
        let mut pause = CLAIM_PAUSE_MIN;
        let mut room_pauses = 0;
        loop {
            match self.try_once(source, chunk).await? {
                Try::Got(bytes) => return Ok(bytes),
                Try::Again => {}
                Try::Others => {
                    tokio::time::sleep(pause).await;
                    pause = CLAIM_PAUSE_MAX.min(pause * 2);
                }
                Try::NoRoom(no_room) => {
                    let can_never_fit = wanted.need_bytes > self.shared.size_bytes_max;
                    if can_never_fit || room_pauses == ROOM_PAUSES_MAX {
                        return Err(wanted.no_room(&self.shared.folder, no_room));
                    }
                    room_pauses += 1;
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
            }
        }
    }

    async fn try_once(&self, source: &impl Source, chunk: &Chunk) -> Result<Try, FetchError> {
        let claim = match self.find_or_claim(chunk).await? {
            Found::Here(bytes) => return Ok(Try::Got(bytes)),
            Found::Claimed(Ok(Claimed::Ours(claim))) => claim,
            Found::Claimed(Ok(Claimed::Others)) => return Ok(Try::Others),
            Found::Claimed(Ok(Claimed::Kept)) => return Ok(Try::Again),
            Found::Claimed(Ok(Claimed::NoRoom(no_room))) => return Ok(Try::NoRoom(no_room)),
            Found::Claimed(Err(error)) => {
                // Fetched twice, and not kept, is better than not at all.
                tracing::warn!(%error, "a chunk cannot be claimed, and is not kept");
                return Ok(Try::Got(source.fetch(chunk).await?.into_bytes()));
            }
        };
        // Who finds what he needs waits for nobody's fetches. Never closed.
        let _turn = self.shared.turns.acquire().await;
        let pieces = source.fetch(chunk).await?;
        keep(*chunk, pieces, claim).await
    }

    /// Looks, and claims what is not here, on one thread: each change of threads costs as much as a look.
    async fn find_or_claim(&self, chunk: &Chunk) -> Result<Found, FetchError> {
        let (cache, chunk) = (self.clone(), *chunk);
        let found = blocking(move || {
            Ok(match cache.get(&chunk)? {
                Some(bytes) => Found::Here(bytes),
                None => Found::Claimed(cache.shared.claim(&chunk)),
            })
        });
        found.await?.map_err(FetchError::Cache)
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

/// What a task asked for, to be named when there is no room for it.
#[derive(Clone, Copy)]
struct Wanted {
    blob: BlobRef,
    need_bytes: u64,
}

impl Wanted {
    fn no_room(self, folder: &Path, no_room: NoRoom) -> FetchError {
        FetchError::Full {
            folder: folder.to_owned(),
            blob: self.blob,
            need_bytes: self.need_bytes,
            room_bytes: no_room.room_bytes,
            limit: no_room.limit,
        }
    }
}

/// Writes a chunk to the folder. A bad disk makes the cache useless, not the task: the bytes we have are as good.
///
/// The claim goes along: the write goes on when whoever waits for it gives up.
async fn keep(chunk: Chunk, pieces: Pieces, claim: Claim) -> Result<Try, FetchError> {
    blocking(move || match claim.keep(&chunk, &pieces) {
        Ok(Ok(bytes)) => Try::Got(bytes),
        Ok(Err(no_room)) => Try::NoRoom(no_room),
        Err(error) => {
            tracing::warn!(%error, "cannot keep a chunk in the cache");
            Try::Got(pieces.into_bytes())
        }
    })
    .await
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
