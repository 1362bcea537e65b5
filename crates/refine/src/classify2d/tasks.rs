//! One round's tasks, and their sums.
//!
//! The particles are cut into blocks by their number alone, and the blocks' sums added in their order.

use crate::{
    error::RefineError,
    progress::{Observer, Progress},
    tasks::{self, Images, Posed},
};
use dewar_compute::search::{ClassGrid, ClassSums, ClassTotals};
use dewar_kernels::Classify;
use dewar_proto::em::v1;
use dewar_sdk::{BlobRef, Input, Job, NewTask, Outcomes};
use std::{collections::BTreeMap, ops::Range};

/// Fewest particles of a task: less would cost more to hand out than to compute.
const BLOCK_PARTICLES_MIN: usize = 256;

/// Most tasks of a round: their sums are all read and added here.
const BLOCKS_MAX: usize = 128;

/// What a round works from.
pub struct Start<'a> {
    /// From 1; 0 where classes begin.
    pub iteration: usize,
    /// The particles and where their pixels are.
    pub images: &'a Images<'a>,
    /// The particles it is for, as positions in the particle file.
    pub particles: &'a [usize],
    /// The grid of the round.
    pub grid: &'a ClassGrid,
    /// The averages; none where classes begin.
    pub references: Option<BlobRef>,
    /// What all tasks have in common.
    pub common: v1::ClassifyParameters,
    /// Where each particle goes then; else empty.
    pub seeds: &'a [v1::ClassSeed],
}

/// What a round gives.
pub struct RoundOutput {
    /// One for each particle of the round.
    pub particles: Vec<v1::ClassifiedParticle>,
    /// Of all particles.
    pub class_weights: Vec<f64>,
    /// One for each optics group.
    pub residuals: Vec<v1::ResidualPower>,
    /// The sums of all blocks.
    pub totals: ClassTotals,
    /// Those of every other block, and of the rest.
    pub halves: [ClassTotals; 2],
    /// How long the tasks ran.
    pub task_seconds: f64,
    /// How many of them were answered from an earlier run, and how many there were.
    pub reused: [usize; 2],
}

/// The blocks of so many particles.
pub fn blocks(particle_count: usize) -> Vec<Range<usize>> {
    let length = particle_count.div_ceil(BLOCKS_MAX).max(BLOCK_PARTICLES_MIN);
    (0..particle_count)
        .step_by(length)
        .map(|start| start..particle_count.min(start + length))
        .collect()
}

/// Runs one round.
///
/// # Errors
/// If a task fails for good or the broker refuses.
pub async fn run(
    job: &Job,
    outcomes: &mut Outcomes,
    start: &Start<'_>,
    observer: &dyn Observer,
) -> Result<RoundOutput, RefineError> {
    let blocks = blocks(start.particles.len());
    let new = blocks
        .iter()
        .enumerate()
        .map(|(at, block)| task(start, at, block));
    let indices = job.submit_keyed(new.collect()).await?;
    let mut pending: BTreeMap<_, usize> = indices.into_iter().zip(0..).collect();
    let mut results: Vec<Option<(v1::ClassifyOutput, ClassSums)>> = Vec::new();
    results.resize_with(blocks.len(), || None);
    let (mut releasable, mut run_ms, mut reused, mut done) = (Vec::new(), 0, 0, 0);
    while !pending.is_empty() {
        let (outcome, block) = tasks::next_of(outcomes, &mut pending).await?;
        let output = outcome.output::<Classify>()?;
        let [blob] = output.blobs[..] else {
            return Err(wrong(format!("task {} gave no sums", outcome.index)));
        };
        check(&output.message, blocks[block].len(), &start.common)?;
        let class_count = start.common.class_count as usize;
        let sums = ClassSums::from_bytes(start.grid, class_count, &job.read_blob(&blob).await?)
            .map_err(|error| wrong(format!("task {}: {error}", outcome.index)))?;
        results[block] = Some((output.message, sums));
        releasable.extend(outcome.held());
        run_ms += outcome.run_ms;
        reused += usize::from(outcome.reused);
        done += 1;
        observer.on(Progress::Tasks {
            iteration: start.iteration,
            done,
            total: blocks.len(),
        });
    }
    job.release(&releasable).await?;
    Ok(RoundOutput {
        task_seconds: run_ms as f64 / 1e3,
        reused: [reused, blocks.len()],
        ..sum(start, results.into_iter().flatten())
    })
}

fn task(start: &Start<'_>, at: usize, block: &Range<usize>) -> NewTask {
    let first_stack = usize::from(start.references.is_some());
    let posed = |&particle: &usize| Posed {
        particle,
        modes: Vec::new(),
    };
    let particles = start.particles[block.clone()].iter().map(posed);
    let stated = start.images.state(particles, first_stack);
    let parameters = v1::ClassifyParameters {
        geometries: stated.geometries,
        particles: stated.particles,
        seeds: start.seeds.get(block.clone()).unwrap_or_default().to_vec(),
        ..start.common.clone()
    };
    let references = start.references.map(Input::whole);
    let inputs = references.into_iter().chain(stated.inputs).collect();
    let key = format!("r{} classify b{}", start.iteration, at + 1);
    NewTask::new::<Classify>(&parameters, inputs).key(key)
}

fn sum(
    start: &Start<'_>,
    results: impl Iterator<Item = (v1::ClassifyOutput, ClassSums)>,
) -> RoundOutput {
    let class_count = start.common.class_count as usize;
    let mut output = RoundOutput {
        particles: Vec::new(),
        class_weights: vec![0.0; class_count],
        residuals: Vec::new(),
        totals: ClassTotals::new(start.grid, class_count),
        halves: [(); 2].map(|()| ClassTotals::new(start.grid, class_count)),
        task_seconds: 0.0,
        reused: [0; 2],
    };
    for (block, (message, sums)) in results.enumerate() {
        output.totals.add(&sums);
        output.halves[block % 2].add(&sums);
        let weights = output.class_weights.iter_mut().zip(&message.class_weights);
        weights.for_each(|(total, weight)| *total += weight);
        output.residuals =
            tasks::sum_residuals([&output.residuals[..], &message.residuals].into_iter());
        output.particles.extend(message.particles);
    }
    output
}

fn check(
    output: &v1::ClassifyOutput,
    particle_count: usize,
    asked: &v1::ClassifyParameters,
) -> Result<(), RefineError> {
    let is_sound = |particle: &v1::ClassifiedParticle| {
        let numbers = [
            particle.psi_deg,
            particle.shift_x_angstrom,
            particle.shift_y_angstrom,
            particle.weight,
        ];
        particle.class_index < asked.class_count && numbers.iter().all(|number| number.is_finite())
    };
    let is_complete = output.particles.len() == particle_count
        && output.particles.iter().all(is_sound)
        && output.class_weights.len() == asked.class_count as usize
        && output.class_weights.iter().all(|weight| weight.is_finite())
        && output.residuals.len() == asked.noise.len();
    if is_complete {
        return Ok(());
    }
    let found = output.particles.len();
    Err(wrong(format!(
        "a classification of {particle_count} particles gave {found} places"
    )))
}

fn wrong(problem: String) -> RefineError {
    RefineError::Output(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_particle_once_and_are_not_too_many() {
        for count in [1, 255, 256, 257, 2000, 32_768, 32_769, 1_000_000] {
            let blocks = blocks(count);
            assert_eq!(blocks.first().unwrap().start, 0);
            assert_eq!(blocks.last().unwrap().end, count);
            assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(blocks.len() <= BLOCKS_MAX, "{count}");
        }
    }
}
