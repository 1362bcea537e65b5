//! A range of bytes on its way to whoever reads: cut out of chunks, in messages, at the pace that traffic may have.

use super::Messages;
use crate::rpc::{convert, traffic::Traffic};
use bytes::Bytes;
use dewar_blobs::pieces_of;
use dewar_proto::v1::{self, ReadResponse};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use std::ops::Range;
use tonic::Status;

/// The bytes asked for; all if nothing is said.
pub(super) fn range(range: Option<v1::ByteRange>, size_bytes: u64) -> Result<Range<u64>, Status> {
    let Some(range) = range else {
        return Ok(0..size_bytes);
    };
    let (start, length) = (range.offset_bytes, range.length_bytes);
    match start.checked_add(length) {
        Some(end) if end <= size_bytes => Ok(start..end),
        _ => Err(convert::invalid(
            "range",
            format!("{length} bytes from {start} are not inside the blob's {size_bytes}"),
        )),
    }
}

/// What of a chunk at `offset` lies in the range.
pub(super) fn within(mut bytes: Bytes, offset: u64, range: &Range<u64>) -> Bytes {
    let end = (range.end - offset).min(bytes.len() as u64);
    bytes.truncate(end as usize);
    bytes.split_off(range.start.saturating_sub(offset).min(end) as usize)
}

/// Messages no faster than they may go out, and counted.
pub(super) fn paced(
    traffic: Traffic,
    messages: impl Stream<Item = Result<ReadResponse, Status>> + Send + 'static,
) -> Messages<ReadResponse> {
    let paced = messages.and_then(move |message: ReadResponse| {
        let traffic = traffic.clone();
        async move {
            traffic.send(message.data.len()).await;
            Ok(message)
        }
    });
    paced.boxed()
}

pub(super) fn messages_of(
    bytes: Bytes,
) -> impl Iterator<Item = Result<ReadResponse, Status>> + Send {
    pieces_of(bytes).map(|data| Ok(ReadResponse { data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_inside_the_blob() {
        let check = |offset_bytes, length_bytes, size_bytes| {
            let asked = v1::ByteRange {
                offset_bytes,
                length_bytes,
            };
            range(Some(asked), size_bytes).ok()
        };
        assert_eq!(range(None, 7).unwrap(), 0..7);
        assert_eq!(check(2, 5, 7), Some(2..7));
        assert_eq!(check(7, 0, 7), Some(7..7));
        assert_eq!(check(2, 6, 7), None);
        assert_eq!(check(8, 0, 7), None);
        assert_eq!(check(u64::MAX, 2, 7), None);
    }

    #[test]
    fn chunks_are_cut_to_the_range() {
        let chunk = Bytes::from_static(b"0123456789");
        let check = |offset, range: Range<u64>| within(chunk.clone(), offset, &range);
        assert_eq!(check(100, 103..107), "3456");
        assert_eq!(check(100, 0..200), "0123456789");
        assert_eq!(check(100, 90..101), "0");
        assert_eq!(check(100, 109..120), "9");
    }
}
