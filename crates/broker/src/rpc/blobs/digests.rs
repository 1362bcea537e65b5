//! Chunk digests by runs: what is asked is checked, and what is not known yet is hashed a piece at a time.

#![allow(clippy::single_range_in_vec_init, reason = "one run is one run")]

use super::{BlobsService, convert, from_load, on_disk};
use bytes::{Bytes, BytesMut};
use dewar_blobs::{LoadedBlob, chunk_count};
use dewar_proto::v1::{ChunkDigestsResponse, ChunkRun};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{ops::Range, sync::Arc};
use tonic::Status;

/// Runs in one request. A list of all is shorter than more of them.
const RUNS_MAX: usize = 65_536;

/// Chunks whose digests one disk access computes: tens of milliseconds from a fast disk.
const CHUNKS_AT_ONCE: u64 = 16;

/// Such accesses of one request at a time.
const PIECES_AHEAD: usize = 4;

impl BlobsService {
    /// The digests of runs of a blob's chunks.
    pub(super) async fn digests_of(
        &self,
        loaded: &LoadedBlob,
        runs: &[ChunkRun],
        is_same_machine: bool,
    ) -> Result<ChunkDigestsResponse, Status> {
        let runs = runs_of(runs, chunk_count(loaded.size_bytes()))?;
        let digests = stream::iter(pieces_of(runs))
            .map(|piece| {
                let (loaded, accesses) = (loaded.clone(), Arc::clone(&self.accesses));
                async move {
                    let digests = on_disk(&accesses, move || loaded.digests(piece)).await?;
                    digests.map_err(|error| from_load(&error))
                }
            })
            .buffered(PIECES_AHEAD)
            .try_fold(BytesMut::new(), async |mut all, piece: Bytes| {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await?;
        let local_file = if is_same_machine {
            let file = loaded.local_file().map_err(|error| from_load(&error))?;
            Some(file.to_wire())
        } else {
            None
        };
        Ok(ChunkDigestsResponse {
            size_bytes: loaded.size_bytes(),
            digests: digests.freeze(),
            by_reference: loaded.is_by_reference(),
            local_file,
        })
    }
}

/// The runs asked for; all chunks if none are.
pub(super) fn runs_of(asked: &[ChunkRun], chunk_count: u64) -> Result<Vec<Range<u64>>, Status> {
    if asked.is_empty() {
        return Ok(vec![0..chunk_count]);
    }
    if asked.len() > RUNS_MAX {
        let problem = format!("has {} runs; at most {RUNS_MAX} are taken", asked.len());
        return Err(convert::invalid("runs", problem));
    }
    let mut runs: Vec<Range<u64>> = Vec::with_capacity(asked.len());
    for (at, run) in asked.iter().enumerate() {
        let earlier = runs.last().map_or(0, |run| run.end);
        let end = run.first_index.checked_add(run.count);
        let end = end.filter(|end| *end <= chunk_count && run.count > 0);
        let Some(end) = end.filter(|_| run.first_index >= earlier) else {
            let ChunkRun { first_index, count } = run;
            return Err(convert::invalid(
                &format!("runs[{at}]"),
                format!(
                    "{count} chunks from {first_index} are not after {earlier} and inside the blob's {chunk_count}"
                ),
            ));
        };
        runs.push(run.first_index..end);
    }
    Ok(runs)
}

/// The same chunks in runs that are short enough for one disk access.
fn pieces_of(runs: Vec<Range<u64>>) -> impl Iterator<Item = Range<u64>> {
    runs.into_iter().flat_map(|run| {
        let starts = run.clone().step_by(CHUNKS_AT_ONCE as usize);
        starts.map(move |start| start..run.end.min(start + CHUNKS_AT_ONCE))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_ascending_disjoint_and_inside() {
        let check = |asked: &[(u64, u64)]| {
            let asked: Vec<_> = asked
                .iter()
                .map(|&(first_index, count)| ChunkRun { first_index, count })
                .collect();
            runs_of(&asked, 10).map_err(|status| status.message().to_owned())
        };
        assert_eq!(check(&[]).unwrap(), [0..10]);
        assert_eq!(
            check(&[(0, 2), (2, 1), (9, 1)]).unwrap(),
            [0..2, 2..3, 9..10]
        );
        for wrong in [
            &[(0, 0)][..],
            &[(0, 2), (1, 1)],
            &[(5, 1), (0, 1)],
            &[(9, 2)],
            &[(u64::MAX, 2)],
            &[(0, 1), (0, u64::MAX)],
        ] {
            let text = check(wrong).unwrap_err();
            assert!(text.starts_with("runs["), "{text}");
        }
        assert!(
            check(&vec![(0, 1); RUNS_MAX + 1])
                .unwrap_err()
                .starts_with("runs")
        );
    }

    #[test]
    fn pieces_are_short_and_miss_nothing() {
        let pieces: Vec<_> = pieces_of(vec![0..17, 20..21, 100..132]).collect();
        assert_eq!(pieces, [0..16, 16..17, 20..21, 100..116, 116..132]);
    }
}
