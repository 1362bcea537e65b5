//! What each round comes to in numbers: for the rules of the schedule, for `refine.json`, and for whoever draws it.

use crate::{
    pose::PoseRecord,
    round::{StageSeconds, WorkerSeconds},
    schedule::{Poses, RoundResult},
};
use dewar_compute::{coverage, symmetry::PointGroup};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One finished round in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundFigures {
    /// From 1.
    pub iteration: usize,
    /// Last shell that was compared.
    pub shell_max: usize,
    /// The same as a length.
    pub limit_angstrom: f64,
    /// Whether poses were looked for near those of the round before only.
    pub local: bool,
    /// First shell, between integers, at which the unmasked FSC of the half-maps falls below 0.143.
    pub resolution_shell: f64,
    /// The last whole shell before it, as a length.
    pub resolution_angstrom: f64,
    /// Median turn of the orientations since the round before; none in the first.
    pub change_deg: Option<f64>,
    /// Median move of the particles' centres since the round before; none in the first.
    pub change_angstrom: Option<f64>,
    /// Median standard deviation of the best orientation about its worst axis.
    pub angle_sd_deg: f64,
    /// Median standard deviation of the best shift along its worst axis.
    pub shift_sd_angstrom: f64,
    /// Mean of the best modes' weights (RELION's rlnAveragePmax).
    pub weight_mean: f64,
    /// Mean log-likelihood of the particles.
    pub log_likelihood_mean: f64,
    /// How long it took.
    pub seconds: f64,
    /// How long its tasks of each kind ran, added up over workers.
    pub stages: StageSeconds,
    /// Who computed them.
    #[serde(default)]
    pub workers: Vec<WorkerSeconds>,
    /// Of the processors that did.
    #[serde(default)]
    pub instruction_classes: BTreeSet<String>,
    /// How many tasks it had.
    pub task_count: usize,
    /// How many of them an interrupted run had computed.
    pub reused_count: usize,
}

impl RoundFigures {
    /// What the rules of the schedule ask of it.
    pub fn result(&self) -> RoundResult {
        RoundResult {
            shell_max: self.shell_max,
            local: self.local,
            resolution_shell: self.resolution_shell,
            change: self.change_deg.zip(self.change_angstrom).map(Poses::of),
            spread: Poses::of((self.angle_sd_deg, self.shift_sd_angstrom)),
        }
    }
}

/// How evenly views cover a structure's transform ([`dewar_compute::coverage`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ViewCoverage {
    /// The part of all directions that no view shows.
    pub unseen: f64,
    /// Of the directions seen, the harmonic over the arithmetic mean of how often: 1 where all are seen alike.
    pub evenness: f64,
}

impl ViewCoverage {
    /// By the best orientations of all particles; none where there are no particles.
    pub fn of(poses: &[PoseRecord], group: &PointGroup) -> Option<Self> {
        let orientations: Vec<_> = poses.iter().map(PoseRecord::orientation).collect();
        let found = coverage::coverage(&orientations, group)?;
        Some(Self {
            unseen: found.unseen,
            evenness: found.evenness,
        })
    }
}

/// What a round's poses come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoseFigures {
    /// Median angle and shift from the poses of the round before.
    pub change: Option<(f64, f64)>,
    /// Median standard deviations of angle and shift.
    pub spread: (f64, f64),
    /// Mean weight of the best mode.
    pub weight_mean: f64,
    /// Mean log-likelihood.
    pub log_likelihood_mean: f64,
}

impl PoseFigures {
    /// Of `after`, which were `before` a round earlier. Without regard to symmetry: the search keeps to one asymmetric unit.
    pub fn of(before: &[PoseRecord], after: &[PoseRecord]) -> Self {
        let pairs = || before.iter().zip(after);
        let change = median(pairs().map(|(a, b)| a.angle_to_deg(b)))
            .zip(median(pairs().map(|(a, b)| a.shift_to_angstrom(b))));
        let spread = |of: fn(&PoseRecord) -> f64| median(after.iter().map(of)).unwrap_or(0.0);
        let mean = |of: fn(&PoseRecord) -> f64| {
            after.iter().map(of).sum::<f64>() / after.len().max(1) as f64
        };
        Self {
            change,
            spread: (
                spread(|pose| pose.angle_sd_deg),
                spread(|pose| pose.shift_sd_angstrom),
            ),
            weight_mean: mean(|pose| pose.best().weight),
            log_likelihood_mean: mean(|pose| pose.log_likelihood),
        }
    }
}

/// The middle of values; of an even number, the upper of the two.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
