//! What is said of blobs that workers keep.

use super::{convert, said::blob};
use crate::{
    near::{Announcement, StoreId, ToKeeper},
    swarm::Said,
};
use dewar_blobs::{BlobRef, ChunkList};
use dewar_proto::v1;
use tonic::Status;
use v1::share_response::Message;

/// Blobs in a worker's folder of results: what fits a message.
const KEPT_MAX: usize = 65_536;

pub(super) fn announcement(keeping: v1::Keeping) -> Result<Said, Status> {
    let store = keeping.store_id.as_slice().try_into();
    let store = store.map_err(|_| convert::invalid("keeping.store_id", "must have 16 bytes"))?;
    let count = keeping.kept.len();
    if count > KEPT_MAX {
        let problem = format!("names {count} blobs, at most {KEPT_MAX}");
        return Err(convert::invalid("keeping.kept", problem));
    }
    let all = keeping.kept.iter().enumerate();
    let all = all.map(|(index, one)| kept(&format!("keeping.kept[{index}]"), Some(one)));
    Ok(Said::Announces(Announcement {
        store: StoreId(store),
        kept: all.collect::<Result<_, _>>()?,
        takes_more: keeping.takes_more,
    }))
}

pub(super) fn keeps(keeps: v1::Keeps) -> Result<Said, Status> {
    let (blob, stamp) = kept("keeps.kept", keeps.kept.as_ref())?;
    let list = ChunkList::new(blob, keeps.chunk_digests);
    let list = list.map_err(|error| convert::invalid("keeps.chunk_digests", error))?;
    Ok(Said::Keeps {
        list,
        stamp,
        is_output: keeps.is_output,
    })
}

pub(super) fn kept(field: &str, kept: Option<&v1::KeptBlob>) -> Result<(BlobRef, u64), Status> {
    let named = kept.and_then(|kept| kept.blob.as_ref());
    let stamp = kept.map_or(0, |kept| kept.stamp);
    Ok((blob(field, named)?, stamp))
}

pub(super) fn to_wire(message: ToKeeper) -> Message {
    match message {
        ToKeeper::Keep(blob) => Message::Keep(v1::Keep {
            blob: Some(blob.into()),
        }),
        ToKeeper::Safe(blob) => Message::Safe(v1::Safe {
            blob: Some(blob.into()),
        }),
        ToKeeper::NotSafe(blob, why) => Message::NotSafe(v1::NotSafe {
            blob: Some(blob.into()),
            message: why.to_string(),
        }),
        ToKeeper::StillNeeded(needed) => Message::StillNeeded(v1::StillNeeded {
            blob_count: needed.blob_count,
            size_bytes: needed.size_bytes,
        }),
        ToKeeper::LetGo(blob, stamp) => Message::LetGo(v1::LetGo {
            kept: Some(v1::KeptBlob {
                blob: Some(blob.into()),
                stamp,
            }),
        }),
    }
}
