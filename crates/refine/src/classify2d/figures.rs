//! What a round comes to in numbers, and what is said of it.

use super::{
    rounds::{Between, Run},
    state::{ClassFigures, Placed, RoundFigures, State},
    tasks::RoundOutput,
};
use crate::maps;
use dewar_compute::search::{ClassAverage, ClassGrid};
use dewar_proto::em::v1;

/// A particle lies otherwise if it moved by more than this many steps of the grid: by one alone it may have wavered.
const STEPS: f64 = 1.5;

impl Run<'_> {
    /// What is known after a round.
    pub(super) fn state(
        &self,
        before: &Between,
        grid: &ClassGrid,
        averages: &[ClassAverage],
        output: &RoundOutput,
        noise: &[v1::NoiseSpectrum],
    ) -> State {
        let particles: Vec<Placed> = output.particles.iter().map(placed).collect();
        let classes = of_classes(averages, output);
        let mut counts = vec![0_usize; classes.len()];
        for placed in &particles {
            counts[placed.class] += 1;
        }
        let shell_max = grid.settings().k_max;
        let resolved_rings = best_rings(&classes);
        let pairs = || before.state.particles.iter().zip(&particles);
        let lies_otherwise = self.lies_otherwise(grid);
        let round = RoundFigures {
            limit_angstrom: self.resolution_angstrom(shell_max),
            resolution_angstrom: self.resolution_angstrom(resolved_rings),
            resolved_rings,
            moved: part(pairs().map(|(a, b)| a.class != b.class)),
            changed: part(pairs().map(|(a, b)| a.class != b.class || lies_otherwise(a, b))),
            mean_weight: particles.iter().map(|placed| placed.weight).sum::<f64>()
                / particles.len().max(1) as f64,
            empty_classes: counts.iter().filter(|count| **count == 0).count(),
            split_count: 0,
            seconds: 0.0,
            task_seconds: output.task_seconds,
        };
        State {
            iteration: before.state.iteration + 1,
            shell_max,
            noise: maps::noise_from_residuals(&output.residuals, noise),
            particles,
            classes,
            rounds: [&before.state.rounds[..], &[round]].concat(),
        }
    }

    fn lies_otherwise(&self, grid: &ClassGrid) -> impl Fn(&Placed, &Placed) -> bool + use<> {
        let turn_deg = STEPS * grid.psi_step_deg();
        let move_angstrom = STEPS * grid.shift_step_px() * self.prepared.set.pixel_size_angstrom;
        move |a, b| {
            let turned = (a.psi_deg - b.psi_deg).rem_euclid(360.0);
            let moved = |axis: usize| (a.shift_angstrom[axis] - b.shift_angstrom[axis]).abs();
            turned.min(360.0 - turned) > turn_deg || moved(0).max(moved(1)) > move_angstrom
        }
    }

    /// Says how the last round went.
    pub(super) fn tell(&self, state: &State) {
        let Some(round) = state.rounds.last() else {
            return;
        };
        let empty = match round.empty_classes {
            0 => String::new(),
            1 => ", 1 class is empty".to_owned(),
            count => format!(", {count} classes are empty"),
        };
        let changes = match round.moved.zip(round.changed) {
            None => "every particle has a class".to_owned(),
            Some((moved, changed)) => format!(
                "{:.1} % of the particles changed class, {:.1} % class or pose",
                100.0 * moved,
                100.0 * changed
            ),
        };
        self.note(&format!(
            "round {}: {changes}, the best class shows {:.1} A{empty}, {:.1} s",
            state.iteration, round.resolution_angstrom, round.seconds
        ));
    }
}

/// The rings of the best class that at least one particle is in.
pub(super) fn best_rings(classes: &[ClassFigures]) -> usize {
    let inhabited = classes.iter().filter(|class| class.weight >= 1.0);
    inhabited
        .map(|class| class.resolved_rings)
        .max()
        .unwrap_or(0)
}

/// What is known of each class.
pub(super) fn of_classes(averages: &[ClassAverage], output: &RoundOutput) -> Vec<ClassFigures> {
    let pairs = averages.iter().zip(&output.class_weights);
    pairs
        .map(|(average, weight)| ClassFigures {
            weight: *weight,
            resolved_rings: average.resolved_rings(),
        })
        .collect()
}

fn placed(particle: &v1::ClassifiedParticle) -> Placed {
    Placed {
        class: particle.class_index as usize,
        psi_deg: particle.psi_deg,
        shift_angstrom: [particle.shift_x_angstrom, particle.shift_y_angstrom],
        weight: particle.weight,
    }
}

/// What part is true; none of nothing.
fn part(values: impl ExactSizeIterator<Item = bool>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.filter(|value| *value).count() as f64 / count as f64)
}
