//! How classes begin: a few particles each, at angles that the seed chooses.

use super::{
    figures,
    rounds::{Between, Run},
    state::State,
    tasks::{self, Start},
};
use crate::{error::RefineError, input, tasks::Images};
use dewar_compute::noise::GaussianNoise;
use dewar_proto::em::v1;
use dewar_sdk::{Job, Outcomes};

/// Particles that a class begins with, each at an angle of its own: more look alike in every class, and a few classes then
/// take all particles.
const SEEDS_PER_CLASS: usize = 3;

impl Run<'_> {
    /// Classes begin with a few particles each.
    pub(super) async fn begin(
        &self,
        job: &Job,
        outcomes: &mut Outcomes,
        images: &Images<'_>,
    ) -> Result<Between, RefineError> {
        let shell_max = self.first_shell_max();
        let grid = self.grid(shell_max)?;
        let all: Vec<usize> = (0..images.set.particles.len()).collect();
        let noise = input::noise_of(images.set, &all)?;
        let (particles, seeds): (Vec<_>, Vec<_>) = self.seeds().into_iter().unzip();
        let start = Start {
            iteration: 0,
            images,
            particles: &particles,
            grid: &grid,
            references: None,
            common: self.common(shell_max, &noise),
            seeds: &seeds,
        };
        let output = tasks::run(job, outcomes, &start, self.observer.as_ref()).await?;
        let averages = self.averages(&grid, &output);
        let state = State {
            iteration: 0,
            shell_max,
            particles: Vec::new(),
            noise: noise.into_iter().map(|noise| noise.sigma2).collect(),
            classes: figures::of_classes(&averages, &output),
            rounds: Vec::new(),
        };
        Ok(Between {
            state,
            averages: averages
                .into_iter()
                .flat_map(|average| average.samples)
                .collect(),
        })
    }

    /// Particles that the seed chooses, in their order, with the class and angle of each.
    fn seeds(&self) -> Vec<(usize, v1::ClassSeed)> {
        let settings = &self.options.settings;
        let mut random = GaussianNoise::new(settings.seed, 0);
        let mut below = |count: usize| (random.uniform() * count as f64) as usize;
        let mut particles: Vec<usize> = (0..self.prepared.set.particles.len()).collect();
        let count = particles.len().min(SEEDS_PER_CLASS * settings.class_count);
        let mut seeds = Vec::new();
        for at in 0..count {
            let chosen = at + below(particles.len() - at);
            particles.swap(at, chosen);
            let seed = v1::ClassSeed {
                class_index: (at % settings.class_count) as u32,
                angle: below(1 << 16) as u32,
            };
            seeds.push((particles[at], seed));
        }
        seeds.sort_by_key(|(particle, _)| *particle);
        seeds
    }
}
