//! How much memory a refinement takes, known before it starts: of a worker, and here.
//!
//! What counts are grids of the padded transform; all else is small beside them, and has one allowance. The tasks state
//! theirs, so that a worker takes no more of them than it has room for.

use dewar_compute::{reconstruct::GridShape, volume::padding_max};

/// Padding of references, and of the final sums.
const PADDING_MAX: f64 = 2.0;

/// (re, im, weight) of a grid point as f32, and as f64.
const POINT_BYTES: [u64; 2] = [12, 24];

/// The part of a grid that lies within the sphere that is sent: pi / 6, and some for the rim.
const SENT_PART: f64 = 0.56;

/// What everything else takes: code, a block's images, the search's own tables.
const ALLOWANCE_BYTES: u64 = 96 << 20;

/// What is known of one particle here: its row of the file, and its poses before and after a round.
const PARTICLE_BYTES: u64 = 2048;

/// Maps that stand beside the grids here: three references, both halves and what they share, and what is being written.
const MAPS_BESIDE: u64 = 7;

/// Tasks of less than this state nothing: a worker need not count them.
const STATED_BYTES_MIN: u64 = 128 << 20;

/// What one refinement takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The references of both halves, which a worker's slots share, and which stay.
    pub references: u64,
    /// Making one of them.
    pub building: u64,
    /// One alignment: a reference, built.
    pub align: u64,
    /// One insertion in a round and at the end.
    pub insert: [u64; 2],
    /// One sum in a round and at the end.
    pub sum: [u64; 2],
    /// This program, without any worker in it.
    pub customer: u64,
}

impl Memory {
    /// For images of this size and so many particles; rounds pad their sums by `padding`.
    pub fn of(box_size_px: usize, particle_count: usize, padding: f64) -> Self {
        let image = 64 * (box_size_px * box_size_px) as u64;
        let map = 4 * (box_size_px as u64).pow(3);
        let most = PADDING_MAX.min(padding_max(box_size_px));
        let [in_round, at_end] =
            [padding.min(most), most].map(|padding| points(box_size_px, padding));
        // The padded map and its transform, beside the map as it came and as it was corrected; a part of it is kept.
        let padded = (most * box_size_px as f64).powi(3) as u64;
        let (kept, building) = (8 * at_end, 8 * padded + 3 * map);
        let sent = |points: u64| (SENT_PART * (POINT_BYTES[0] * points) as f64) as u64;
        let insert = |points| POINT_BYTES[0] * points + sent(points) + image;
        let sum = |points| POINT_BYTES[1] * points + sent(points);
        // Sums of a half, and what symmetry makes of them; in a round, beside those of the other half.
        let one = POINT_BYTES[0] + POINT_BYTES[1];
        let sums = (one * at_end).max((one + POINT_BYTES[0]) * in_round);
        let particles = PARTICLE_BYTES * particle_count as u64;
        Self {
            references: 2 * kept,
            building,
            align: kept + building + image,
            insert: [insert(in_round), insert(at_end)],
            sum: [sum(in_round), sum(at_end)],
            customer: sums + MAPS_BESIDE * map + particles + ALLOWANCE_BYTES,
        }
    }

    /// What a worker needs at most with this many slots: references, and in each slot the largest task.
    pub fn of_worker(&self, slot_count: u64) -> u64 {
        // There are two halves: two references are made, or two sums, never more.
        let [of_halves, of_shards] = [slot_count.min(2), slot_count.saturating_sub(2)];
        let largest = self.building.max(self.sum[1]).max(self.insert[1]);
        ALLOWANCE_BYTES + self.references + of_halves * largest + of_shards * self.insert[1]
    }

    /// In words, for who is about to start it.
    pub fn told(&self) -> String {
        let [one, more] = [1, 8].map(|slots| mib(self.of_worker(slots)));
        format!(
            "memory: at most {one} MiB for a worker with one slot, {more} MiB with eight; {} MiB here, beside those of a worker \
             in this program",
            mib(self.customer)
        )
    }
}

/// What a task states of so many bytes.
pub fn stated(bytes: u64) -> u64 {
    if bytes < STATED_BYTES_MIN { 0 } else { bytes }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Grid points of sums over the whole transform.
fn points(box_size_px: usize, padding: f64) -> u64 {
    GridShape::new(box_size_px, box_size_px / 2 - 1, padding).map_or(0, |shape| shape.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_refinement_needs_less_than_4_gb_here() {
        let memory = Memory::of(256, 100_000, 1.5);
        assert!(memory.customer < 3_500_000_000, "{memory:?}");
        assert!(
            memory.customer > 2 << 30,
            "a box of 256 is not for nothing: {memory:?}"
        );
    }

    #[test]
    fn more_slots_and_larger_boxes_need_more_and_small_tasks_state_nothing() {
        let [small, large] = [64, 256].map(|n| Memory::of(n, 1000, 1.5));
        assert!(large.of_worker(1) > small.of_worker(1));
        assert!(large.of_worker(8) > large.of_worker(2));
        let largest = Memory::of(1024, 1000, 1.5);
        assert!(
            (30 << 30..60 << 30).contains(&largest.of_worker(1)),
            "{largest:?}"
        );
        assert_eq!(stated(small.insert[0]), 0);
        assert_eq!(stated(large.insert[1]), large.insert[1]);
    }
}
