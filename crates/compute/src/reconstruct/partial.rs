//! A shard's sums as bytes, for the way between machines.
//!
//! Little-endian: eight bytes of magic and version, then box, padded box and limit as u32, then (re, im, weight) as f32 of
//! every grid point that insertion can touch, row by row. What lies outside the sphere is not written.

use std::ops::Range;

use thiserror::Error;

use super::{Accumulator, GridShape, ShapeError, Sums};

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

/// Partial sums that are still bytes, of the right length for the shape they say they have.
#[derive(Debug, Clone, Copy)]
pub struct Partial<'a> {
    shape: GridShape,
    points: &'a [u8],
}

impl<'a> Partial<'a> {
    /// What [`Accumulator::to_bytes`] or [`Sums::to_bytes`] wrote.
    pub fn of(bytes: &'a [u8]) -> Result<Self, PartialError> {
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
        let points = &bytes[HEADER_BYTES..];
        Ok(Self { shape, points })
    }

    /// The grid's shape.
    pub fn shape(&self) -> GridShape {
        self.shape
    }

    /// The rows that are written: which points of the grid they are, and re, im and weight of each in turn.
    pub(super) fn rows(
        &self,
    ) -> impl Iterator<Item = (Range<usize>, impl Iterator<Item = f32> + use<'a>)> + use<'a> {
        let (shape, mut rest) = (self.shape, self.points);
        shape.touched_rows().map(move |(y, z, count)| {
            let (row, after) = rest.split_at(count * POINT_BYTES);
            rest = after;
            let start = shape.row_start(y, z);
            let (values, _) = row.as_chunks::<4>();
            let values = values.iter().map(|value| f32::from_le_bytes(*value));
            (start..start + count, values)
        })
    }
}

impl Accumulator {
    /// The sums as bytes: the same sums give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoded(&self.shape, |points, bytes| {
            let values = &self.values[3 * points.start..3 * points.end];
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        })
    }

    /// The sums that [`Accumulator::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PartialError> {
        let partial = Partial::of(bytes)?;
        let mut sums = Self::new(partial.shape());
        for (points, row) in partial.rows() {
            for (value, read) in sums.values[3 * points.start..].iter_mut().zip(row) {
                *value = read;
            }
        }
        Ok(sums)
    }
}

impl Sums {
    /// The sums so far as f32, for the way to another machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoded(&self.shape, |points, bytes| {
            let values = self.values[points].iter().flatten();
            bytes.extend(values.flat_map(|value| (*value as f32).to_le_bytes()));
        })
    }
}

/// The header, then what `write` makes of each row of points.
fn encoded(shape: &GridShape, write: impl Fn(Range<usize>, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(encoded_len(shape));
    bytes.extend(MAGIC);
    for size in [shape.n(), shape.padded_n(), shape.r_max()] {
        bytes.extend((size as u32).to_le_bytes());
    }
    for (y, z, count) in shape.touched_rows() {
        let start = shape.row_start(y, z);
        write(start..start + count, &mut bytes);
    }
    bytes
}

fn encoded_len(shape: &GridShape) -> usize {
    HEADER_BYTES
        + shape
            .touched_rows()
            .map(|(_, _, count)| count * POINT_BYTES)
            .sum::<usize>()
}
