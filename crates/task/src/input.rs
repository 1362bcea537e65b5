//! What a kernel reads: parts of blobs, already fetched and checked.

use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// The fetched parts of one blob.
///
/// Parts are kept as they arrived, so that a read inside one part copies nothing.
#[derive(Debug, Clone, Default)]
pub struct InputBytes {
    size_bytes: u64,
    /// Disjoint, by offset.
    parts: BTreeMap<u64, Bytes>,
}

/// A read of bytes the task did not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes {offset}..{} of a blob of {size_bytes} bytes are not among the task's inputs", offset + length)]
pub struct MissingInput {
    /// Where the read began.
    pub offset: u64,
    /// How many bytes it wanted.
    pub length: u64,
    /// The whole blob.
    pub size_bytes: u64,
}

impl InputBytes {
    /// An input of which nothing is there yet.
    pub fn new(size_bytes: u64) -> Self {
        Self {
            size_bytes,
            parts: BTreeMap::new(),
        }
    }

    /// An input that is all there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let mut input = Self::new(bytes.len() as u64);
        input.insert(0, bytes);
        input
    }

    /// Adds a fetched part. Parts must not overlap.
    pub fn insert(&mut self, offset: u64, bytes: Bytes) {
        self.parts.insert(offset, bytes);
    }

    /// Size of the whole blob.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes at `offset..offset + length`; copied only when they span parts.
    ///
    /// # Errors
    /// [`MissingInput`] if any of them were not fetched.
    pub fn read(&self, offset: u64, length: u64) -> Result<Bytes, MissingInput> {
        let missing = MissingInput {
            offset,
            length,
            size_bytes: self.size_bytes,
        };
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= self.size_bytes)
            .ok_or(missing)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let (&first_offset, first) = self.parts.range(..=offset).next_back().ok_or(missing)?;
        let skip = offset - first_offset;
        if skip + length <= first.len() as u64 {
            return Ok(first.slice(skip as usize..(skip + length) as usize));
        }
        let mut joined = BytesMut::with_capacity(length as usize);
        let mut at = offset;
        for (&part_offset, part) in self.parts.range(first_offset..end) {
            let part_end = part_offset + part.len() as u64;
            if part_offset > at || part_end <= at {
                return Err(missing);
            }
            joined.extend_from_slice(
                &part[(at - part_offset) as usize..(part_end.min(end) - part_offset) as usize],
            );
            at = part_end.min(end);
        }
        if at == end {
            Ok(joined.freeze())
        } else {
            Err(missing)
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// [`MissingInput`] if any of it was not fetched.
    pub fn read_all(&self) -> Result<Bytes, MissingInput> {
        self.read(0, self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> InputBytes {
        let mut input = InputBytes::new(12);
        input.insert(0, Bytes::from_static(b"abcd"));
        input.insert(4, Bytes::from_static(b"efgh"));
        input.insert(10, Bytes::from_static(b"kl"));
        input
    }

    #[test]
    fn reads_within_and_across_parts() {
        let input = sample();
        assert_eq!(input.read(1, 2).unwrap(), "bc");
        assert_eq!(input.read(2, 4).unwrap(), "cdef");
        assert_eq!(input.read(0, 8).unwrap(), "abcdefgh");
        assert_eq!(input.read(10, 2).unwrap(), "kl");
        assert_eq!(input.read(12, 0).unwrap(), "");
    }

    #[test]
    fn refuses_what_was_not_fetched() {
        let input = sample();
        for (offset, length) in [
            (7, 2),
            (8, 1),
            (8, 4),
            (9, 2),
            (11, 2),
            (13, 0),
            (u64::MAX, 2),
        ] {
            assert!(input.read(offset, length).is_err(), "{offset}+{length}");
        }
        assert!(input.read_all().is_err());
    }
}
