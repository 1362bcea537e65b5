//! What a worker says in the swarm, checked field by field.

use super::{convert, keeping};
use crate::swarm::{Holder, Miss, Said};
use dewar_blobs::{BlobRef, ChunkSet, chunk_count, chunk_range};
use dewar_proto::v1;
use std::sync::Arc;
use tonic::Status;
use v1::share_request::Message;

/// Chunks in one message of wants.
const CHUNKS_IN_WANT_MAX: usize = 4096;

/// Blobs in one message of holdings.
const HOLDINGS_MAX: usize = 4096;

/// Characters of what a worker says for people.
const MESSAGE_CHARS_MAX: usize = 256;

pub(super) fn from_wire(request: v1::ShareRequest) -> Result<Vec<Said>, Status> {
    let said = match request.message {
        // A later minor may say things that this broker does not know.
        None => return Ok(Vec::new()),
        Some(Message::Hello(_)) => return Err(convert::invalid("hello", "was said already")),
        Some(Message::Holdings(holdings)) => return from_holdings(holdings),
        Some(Message::Want(want)) => {
            let (blob, chunks) = chunks("want", want.blob.as_ref(), want.chunks)?;
            Said::Wants { blob, chunks }
        }
        Some(Message::Unwant(unwant)) => {
            let (blob, chunks) = chunks("unwant", unwant.blob.as_ref(), unwant.chunks)?;
            Said::WantsNoMore { blob, chunks }
        }
        Some(Message::Got(got)) => {
            let (blob, chunk) = chunk("got", got.blob.as_ref(), got.chunk)?;
            let range = chunk_range(blob.size_bytes, chunk);
            Said::Got {
                blob,
                chunk,
                from: holder("got.source_worker_id", &got.source_worker_id)?,
                size_bytes: range.end - range.start,
            }
        }
        Some(Message::Missed(missed)) => {
            let (blob, chunk) = chunk("missed", missed.blob.as_ref(), missed.chunk)?;
            Said::Missed {
                blob,
                chunk,
                from: holder("missed.source_worker_id", &missed.source_worker_id)?,
                miss: miss(missed.reason()),
                message: one_line(&missed.message),
            }
        }
        Some(Message::PrecacheFailed(failed)) => Said::CannotPrecache {
            blob: blob("precache_failed", failed.blob.as_ref())?,
            message: one_line(&failed.message),
        },
        Some(Message::Keeping(keeping)) => keeping::announcement(keeping)?,
        Some(Message::Keeps(keeps)) => keeping::keeps(keeps)?,
        Some(Message::CannotKeep(cannot)) => Said::CannotKeep {
            blob: blob("cannot_keep", cannot.blob.as_ref())?,
            message: one_line(&cannot.message),
        },
        Some(Message::Leaving(v1::Leaving {})) => Said::Leaves,
        Some(Message::KeepsNoMore(gone)) => {
            let (blob, stamp) = keeping::kept("keeps_no_more.kept", gone.kept.as_ref())?;
            Said::KeepsNoMore { blob, stamp }
        }
    };
    Ok(vec![said])
}

fn from_holdings(holdings: v1::Holdings) -> Result<Vec<Said>, Status> {
    let count = holdings.added.len() + holdings.removed.len();
    if count > HOLDINGS_MAX {
        let problem = format!("name {count} blobs, at most {HOLDINGS_MAX} a message");
        return Err(convert::invalid("holdings", problem));
    }
    let added = holdings.added.into_iter().enumerate().map(|(index, held)| {
        let (blob, chunks) = holding(&format!("holdings.added[{index}]"), &held)?;
        Ok(Said::Holds { blob, chunks })
    });
    let removed = holdings
        .removed
        .into_iter()
        .enumerate()
        .map(|(index, held)| {
            let (blob, chunks) = holding(&format!("holdings.removed[{index}]"), &held)?;
            Ok(Said::HoldsNoMore { blob, chunks })
        });
    added.chain(removed).collect()
}

fn holding(field: &str, held: &v1::Holding) -> Result<(BlobRef, ChunkSet), Status> {
    let blob = blob(field, held.blob.as_ref())?;
    let chunks = ChunkSet::from_bitmap(&held.chunks);
    if chunks
        .max()
        .is_some_and(|last| last >= chunk_count(blob.size_bytes))
    {
        let problem = "holds chunks that the blob does not have";
        return Err(convert::invalid(&format!("{field}.chunks"), problem));
    }
    Ok((blob, chunks))
}

fn chunks(
    field: &str,
    named: Option<&v1::BlobRef>,
    chunks: Vec<u64>,
) -> Result<(BlobRef, Vec<u64>), Status> {
    let blob = blob(field, named)?;
    if chunks.len() > CHUNKS_IN_WANT_MAX {
        let problem = format!("has {}, at most {CHUNKS_IN_WANT_MAX}", chunks.len());
        return Err(convert::invalid(&format!("{field}.chunks"), problem));
    }
    for index in &chunks {
        chunk(field, named, *index)?;
    }
    Ok((blob, chunks))
}

fn chunk(field: &str, named: Option<&v1::BlobRef>, index: u64) -> Result<(BlobRef, u64), Status> {
    let blob = blob(field, named)?;
    if index >= chunk_count(blob.size_bytes) {
        let problem = format!(
            "is {index}, but the blob has {} chunks",
            chunk_count(blob.size_bytes)
        );
        return Err(convert::invalid(&format!("{field}.chunk"), problem));
    }
    Ok((blob, index))
}

pub(super) fn blob(field: &str, blob: Option<&v1::BlobRef>) -> Result<BlobRef, Status> {
    BlobRef::from_wire(blob, &format!("{field}.blob"))
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Whoever a chunk came from; nobody named is the broker.
fn holder(field: &str, worker_id: &[u8]) -> Result<Holder, Status> {
    if worker_id.is_empty() {
        return Ok(Holder::Broker);
    }
    convert::worker_id(field, worker_id).map(Holder::Worker)
}

fn miss(reason: v1::MissReason) -> Miss {
    match reason {
        v1::MissReason::Corrupt => Miss::Corrupt,
        v1::MissReason::Lacking => Miss::Lacking,
        v1::MissReason::Slow => Miss::Slow,
        v1::MissReason::Unreachable | v1::MissReason::Unspecified => Miss::Unreachable,
    }
}

/// What a worker says for people, cut to what people read: a long word from its system is no reason to leave it.
fn one_line(text: &str) -> Arc<str> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars()
        .take(MESSAGE_CHARS_MAX)
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_proto::limits::CHUNK_BYTES;

    #[test]
    fn what_is_said_for_people_is_cut_and_not_refused() {
        let missed = v1::Missed {
            blob: Some(v1::BlobRef {
                digest: vec![7; 32],
                size_bytes: 1,
            }),
            message: "no\nroute ".repeat(1000),
            ..Default::default()
        };
        let request = v1::ShareRequest {
            message: Some(Message::Missed(missed)),
        };
        let said = from_wire(request).unwrap();
        let [Said::Missed { message, .. }] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX);
        assert!(message.starts_with("no route no"), "{message}");
    }

    #[test]
    fn what_a_blob_does_not_have_is_refused_by_name() {
        let named = v1::BlobRef {
            digest: vec![7; 32],
            size_bytes: 3 * CHUNK_BYTES,
        };
        let refused = chunk("got", Some(&named), 3).unwrap_err();
        assert!(refused.message().contains("got.chunk"), "{refused}");
        let held = v1::Holding {
            blob: Some(named.clone()),
            chunks: vec![0b1000],
        };
        assert!(holding("holdings.added[0]", &held).is_err());
        let held = v1::Holding {
            blob: Some(named),
            chunks: vec![0b0101],
        };
        assert_eq!(holding("holdings.added[0]", &held).unwrap().1.len(), 2);
    }
}
