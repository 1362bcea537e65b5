//! What a task reads: blobs, parts of blobs, and what other tasks give.

use crate::TaskIndex;
use dewar_blobs::BlobRef;
use dewar_proto::v1;
use std::ops::Range;

/// A blob, parts of one, or what another task gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input(Source);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Blob {
        blob: BlobRef,
        ranges: Vec<Range<u64>>,
    },
    Output {
        task: TaskIndex,
        part: Part,
    },
}

/// What of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Blob(u32),
    Message,
}

impl Input {
    /// All of a blob.
    #[must_use]
    pub fn whole(blob: BlobRef) -> Self {
        Self::parts(blob, [])
    }

    /// Parts of a blob, in bytes: only the chunks that cover them travel. Parts may come in any order and overlap;
    /// none at all means the whole blob.
    #[must_use]
    pub fn parts(blob: BlobRef, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        Self(Source::Blob {
            blob,
            ranges: ascending_disjoint(ranges.into_iter().collect()),
        })
    }

    /// The blob at `position` among those that an earlier task of the same job gives. The task waits for that one.
    #[must_use]
    pub fn output_blob(task: TaskIndex, position: u32) -> Self {
        let part = Part::Blob(position);
        Self(Source::Output { task, part })
    }

    /// The encoded output message of an earlier task of the same job. The task waits for that one.
    #[must_use]
    pub fn output_message(task: TaskIndex) -> Self {
        let part = Part::Message;
        Self(Source::Output { task, part })
    }

    pub(crate) fn is_output(&self) -> bool {
        matches!(self.0, Source::Output { .. })
    }
}

impl From<BlobRef> for Input {
    fn from(blob: BlobRef) -> Self {
        Self::whole(blob)
    }
}

impl From<Input> for v1::Input {
    fn from(Input(source): Input) -> Self {
        match source {
            Source::Blob { blob, ranges } => Self {
                blob: Some(blob.into()),
                ranges: ranges.into_iter().map(to_wire).collect(),
                ..Default::default()
            },
            Source::Output { task, part } => Self {
                output: Some(v1::OutputRef {
                    task_index: task.0,
                    part: Some(match part {
                        Part::Blob(position) => v1::output_ref::Part::BlobIndex(position),
                        Part::Message => v1::output_ref::Part::Message(v1::WholeMessage {}),
                    }),
                }),
                ..Default::default()
            },
        }
    }
}

fn to_wire(range: Range<u64>) -> v1::ByteRange {
    v1::ByteRange {
        offset_bytes: range.start,
        length_bytes: range.end - range.start,
    }
}

/// Sorts ranges and joins those that touch; empty ones vanish.
fn ascending_disjoint(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_put_in_order() {
        for (given, expected) in [
            (vec![], vec![]),
            (vec![5..5, 9..9], vec![]),
            (vec![8..9, 0..4], vec![0..4, 8..9]),
            (vec![0..4, 4..6, 5..8, 20..21], vec![0..8, 20..21]),
            (vec![0..10, 2..3, 12..13], vec![0..10, 12..13]),
        ] {
            assert_eq!(ascending_disjoint(given.clone()), expected, "{given:?}");
        }
    }
}
