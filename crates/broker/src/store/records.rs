//! Durable events as bytes: a record is some events of one job, a frame what of it fits into one value.
//!
//! Frames carry a checksum over key and value, so that bytes that changed, or came under another key, are noticed.
//! An event larger than a value is spread over frames that follow one another.

mod from_stored;
mod to_stored;

use dewar_proto::store::v1 as stored;
use dewar_queue::{Event, JobNumber};
use prost::Message as _;

/// Bytes of one value of the store. sled writes larger pages into files that it never syncs.
pub(super) const VALUE_BYTES_MAX: usize = 4096;

/// Checksum and flag in front of a frame's bytes.
const FRAME_HEADER_BYTES: usize = 5;
const FRAME_BYTES_MAX: usize = VALUE_BYTES_MAX - FRAME_HEADER_BYTES;

/// Some events of one job, encoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EncodedRecord {
    pub(super) job: JobNumber,
    pub(super) bytes: Vec<u8>,
}

/// A value taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Whether the record goes on in the next value.
    pub(super) continues: bool,
    pub(super) bytes: &'a [u8],
}

/// Packs events into records, in order, as many into one as fit into a value.
pub(super) fn encode<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<EncodedRecord> {
    let mut records: Vec<EncodedRecord> = Vec::new();
    for event in events {
        let Some((job, event)) = to_stored::event(event) else {
            continue;
        };
        let record = stored::Record {
            job: job.0,
            events: vec![event],
        };
        let bytes = record.encode_to_vec();
        match records.last_mut() {
            Some(last) if last.job == job && last.bytes.len() + bytes.len() <= FRAME_BYTES_MAX => {
                // Encoded messages of one type, joined, decode as the message with the lists of both.
                last.bytes.extend_from_slice(&bytes);
            }
            _ => records.push(EncodedRecord { job, bytes }),
        }
    }
    records
}

/// The events of a record; `None` if the bytes are no record of `job`.
pub(super) fn decode(job: JobNumber, bytes: &[u8]) -> Option<Vec<Event>> {
    let record = stored::Record::decode(bytes).ok()?;
    if record.job != job.0 {
        return None;
    }
    record
        .events
        .into_iter()
        .map(|event| from_stored::event(job, event))
        .collect()
}

/// Cuts a record into the bytes of frames; all but the last continue.
pub(super) fn frames(record: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let count = record.len().div_ceil(FRAME_BYTES_MAX);
    record
        .chunks(FRAME_BYTES_MAX)
        .enumerate()
        .map(move |(index, bytes)| Frame {
            continues: index + 1 < count,
            bytes,
        })
}

/// A frame as the value of `key`.
pub(super) fn seal(key: &[u8], frame: &Frame<'_>) -> Vec<u8> {
    let mut value = Vec::with_capacity(FRAME_HEADER_BYTES + frame.bytes.len());
    value.extend_from_slice(&[0; 4]);
    value.push(frame.continues.into());
    value.extend_from_slice(frame.bytes);
    let checksum = checksum(key, &value[4..]);
    value[..4].copy_from_slice(&checksum.to_le_bytes());
    value
}

/// The frame in the value of `key`; `None` if it is not what was written there.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<Frame<'a>> {
    let (sum, content) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != checksum(key, content) {
        return None;
    }
    let (flag, bytes) = content.split_first()?;
    Some(Frame {
        continues: *flag != 0,
        bytes,
    })
}

fn checksum(key: &[u8], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), content)
}

#[cfg(test)]
mod tests;
