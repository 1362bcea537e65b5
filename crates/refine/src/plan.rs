//! How the particles are cut into tasks: by the job alone, never by who computes.
//!
//! The result of a refinement depends on these boundaries and on the order in which shards are summed, so both are
//! functions of the particles' half-sets. How many workers there are decides only when a piece is computed.

use std::ops::Range;

/// Particles of one alignment task.
pub const BLOCK_PARTICLES: usize = 256;

/// Most partial sums of one half-set: bounds what the broker must hold, whatever the number of particles.
pub const SHARDS_MAX: usize = 8;

/// Fewest particles of a shard, unless the half-set itself has fewer: below, moving the sums costs more than inserting.
pub const SHARD_PARTICLES_MIN: usize = 128;

/// The tasks of one half-set. Ranges count positions in the half-set's own list of particles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfPlan {
    /// One alignment task each.
    pub blocks: Vec<Range<usize>>,
    /// One insertion task each.
    pub shards: Vec<Range<usize>>,
}

impl HalfPlan {
    /// The plan for a half-set of `particle_count` particles.
    pub fn new(particle_count: usize) -> Self {
        let shard_count = (particle_count / SHARD_PARTICLES_MIN).clamp(1, SHARDS_MAX);
        Self {
            blocks: (0..particle_count.div_ceil(BLOCK_PARTICLES))
                .map(|i| i * BLOCK_PARTICLES..particle_count.min((i + 1) * BLOCK_PARTICLES))
                .collect(),
            shards: (0..shard_count)
                .map(|i| i * particle_count / shard_count..(i + 1) * particle_count / shard_count)
                .collect(),
        }
    }

    /// The blocks that must be aligned before shard `shard` can be inserted.
    pub fn blocks_of_shard(&self, shard: usize) -> Range<usize> {
        let particles = &self.shards[shard];
        particles.start / BLOCK_PARTICLES..particles.end.div_ceil(BLOCK_PARTICLES)
    }
}

/// The half-set, 0 or 1, of a particle whose file gives none: by a hash of its image's name, so that the order of rows
/// does not matter.
pub fn half_of(image_name: &str, seed: u64) -> usize {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .update(image_name.as_bytes());
    usize::from(hasher.finalize().as_bytes()[0] & 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_particle_once_and_keep_their_bounds() {
        for count in [1, 2, 127, 128, 255, 256, 257, 300, 1000, 1024, 1025, 50_000] {
            let plan = HalfPlan::new(count);
            for pieces in [&plan.blocks, &plan.shards] {
                assert_eq!(pieces.first().unwrap().start, 0);
                assert_eq!(pieces.last().unwrap().end, count);
                assert!(
                    pieces.windows(2).all(|pair| pair[0].end == pair[1].start),
                    "{count}"
                );
                assert!(pieces.iter().all(|piece| !piece.is_empty()), "{count}");
            }
            assert!(plan.shards.len() <= SHARDS_MAX);
            assert!(
                plan.shards.len() == 1
                    || plan
                        .shards
                        .iter()
                        .all(|shard| shard.len() >= SHARD_PARTICLES_MIN)
            );
        }
    }

    #[test]
    fn a_shard_waits_for_every_block_it_touches_and_no_other() {
        let plan = HalfPlan::new(1000);
        for (index, shard) in plan.shards.iter().enumerate() {
            let blocks = plan.blocks_of_shard(index);
            for (block_index, block) in plan.blocks.iter().enumerate() {
                let touches = block.start < shard.end && shard.start < block.end;
                assert_eq!(
                    blocks.contains(&block_index),
                    touches,
                    "shard {index}, block {block_index}"
                );
            }
        }
    }

    #[test]
    fn half_sets_are_balanced_and_reproducible() {
        let in_first = (0..10_000)
            .filter(|i| half_of(&format!("{i:06}@a.mrcs"), 1) == 0)
            .count();
        assert!((4_800..5_200).contains(&in_first), "{in_first}");
        assert_eq!(half_of("000001@a.mrcs", 7), half_of("000001@a.mrcs", 7));
    }
}
