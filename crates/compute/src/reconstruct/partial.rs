//! A shard's sums as bytes, for the way between machines.
//!
//! Little-endian: eight bytes of magic and version, then box, padded box and limit as u32, then (re, im, weight) as f32 of
//! every grid point that insertion can touch, row by row. What lies outside the sphere is not written.

use thiserror::Error;

use super::{Accumulator, GridShape, ShapeError};

const MAGIC: [u8; 8] = *b"DWRSUM\x01\0";
const HEADER_BYTES: usize = 20;
const POINT_BYTES: usize = 12;

/// Why bytes are no partial sums.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PartialError {
    /// They do not start as partial sums of this version do.
    #[error("not partial sums of this version")]
    Magic,
    /// Fewer or more than the header says.
    #[error("partial sums of {found} bytes where {expected} were expected")]
    Length {
        /// By the header.
        expected: usize,
        /// There.
        found: usize,
    },
    /// The header's sizes make no grid.
    #[error("partial sums of no valid shape")]
    Shape(#[source] ShapeError),
}

impl Accumulator {
    /// The sums as bytes: the same sums give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let shape = self.shape;
        let mut bytes = Vec::with_capacity(encoded_len(&shape));
        bytes.extend(MAGIC);
        for size in [shape.n(), shape.padded_n(), shape.r_max()] {
            bytes.extend((size as u32).to_le_bytes());
        }
        for (y, z, count) in shape.touched_rows() {
            let start = 3 * shape.row_start(y, z);
            bytes.extend(
                self.values[start..start + 3 * count]
                    .iter()
                    .flat_map(|value| value.to_le_bytes()),
            );
        }
        bytes
    }

    /// The sums that [`Accumulator::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PartialError> {
        if bytes.len() < HEADER_BYTES {
            return Err(PartialError::Length {
                expected: HEADER_BYTES,
                found: bytes.len(),
            });
        }
        if bytes[..8] != MAGIC {
            return Err(PartialError::Magic);
        }
        let size = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        };
        let shape =
            GridShape::from_sizes(size(8), size(12), size(16)).map_err(PartialError::Shape)?;
        // Before anything of that size is allocated.
        let expected = encoded_len(&shape);
        if bytes.len() != expected {
            return Err(PartialError::Length {
                expected,
                found: bytes.len(),
            });
        }
        let mut sums = Self::new(shape);
        let mut rest = &bytes[HEADER_BYTES..];
        for (y, z, count) in shape.touched_rows() {
            let (row, after) = rest.split_at(count * POINT_BYTES);
            let start = 3 * shape.row_start(y, z);
            for (value, bytes) in sums.values[start..].iter_mut().zip(row.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            rest = after;
        }
        Ok(sums)
    }
}

fn encoded_len(shape: &GridShape) -> usize {
    HEADER_BYTES
        + shape
            .touched_rows()
            .map(|(_, _, count)| count * POINT_BYTES)
            .sum::<usize>()
}
