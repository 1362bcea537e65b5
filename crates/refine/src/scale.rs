//! How strong the particles of each group are: micrographs differ in thickness of ice and in dose, and a particle of weak
//! contrast must not be taken for a badly placed one (Scheres 2012, doi 10.1016/j.jsb.2012.09.006).
//!
//! A group is what `rlnGroupName` says, else a micrograph. Each half-set has estimates of its own. A scale multiplies the
//! particles' CTF, in alignment and insertion alike. Only ratios are determined: the mean over particles is kept at 1.

use crate::{figures::median, pose::PoseRecord};
use dewar_formats::particles::ParticleSet;
use std::collections::HashMap;

/// No group is taken for stronger than this, nor for weaker than its inverse: beyond, poses are wrong, not the ice thick.
const SCALE_MAX: f64 = 3.0;

/// The standard error of a median of values of standard deviation 1: sqrt(pi / 2).
const MEDIAN_ERROR: f64 = 1.2533;

/// The standard deviation of normal values whose median absolute deviation is 1.
const SD_OF_MAD: f64 = 1.4826;

/// The groups of a particle file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Their names, in the order of their first particles.
    pub names: Vec<String>,
    /// The group of each particle.
    pub of: Vec<usize>,
}

impl Groups {
    /// What the file says.
    pub fn of(set: &ParticleSet) -> Self {
        let columns = ["rlnGroupName", "rlnGroupNumber"];
        let named = columns
            .iter()
            .find_map(|column| Self::by_column(set, column));
        named.unwrap_or_else(|| Self {
            names: match set.micrographs.as_slice() {
                [] => vec!["all".to_owned()],
                names => names.to_vec(),
            },
            of: set
                .particles
                .iter()
                .map(|particle| particle.micrograph_index.unwrap_or(0))
                .collect(),
        })
    }

    fn by_column(set: &ParticleSet, column: &str) -> Option<Self> {
        let blocks = set.document().blocks.iter();
        let table = blocks
            .filter_map(|block| block.table())
            .find(|table| table.column("rlnImageName").is_some())?;
        let column = table.column(column)?;
        if table.row_count() != set.particles.len() {
            return None;
        }
        let mut groups = Self {
            names: Vec::new(),
            of: Vec::with_capacity(table.row_count()),
        };
        let mut known: HashMap<&str, usize> = HashMap::new();
        for row in 0..table.row_count() {
            let name = table.value(row, column);
            let group = *known.entry(name).or_insert_with(|| {
                groups.names.push(name.to_owned());
                groups.names.len() - 1
            });
            groups.of.push(group);
        }
        Some(groups)
    }

    /// How many of `particles` each group has.
    pub fn counts(&self, particles: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.names.len()];
        for particle in particles {
            counts[self.of[*particle]] += 1;
        }
        counts
    }
}

/// The scales of a half-set's groups after a round in which `before` were applied and its `particles` found at `poses`
/// (of the whole file).
///
/// Each group's is the median over its particles of the best scale of the reference: a few badly placed particles do not
/// move it. What groups differ by is shrunk by the part of it that chance explains, so that small groups of one strength
/// come out alike.
pub fn updated(
    groups: &Groups,
    before: &[f64],
    particles: &[usize],
    poses: &[PoseRecord],
) -> Vec<f64> {
    let mut members: Vec<Vec<f64>> = vec![Vec::new(); groups.names.len()];
    for &particle in particles {
        let group = groups.of[particle];
        members[group].push(poses[particle].scale * before[group]);
    }
    let Some(all) = median(members.iter().flatten().copied()).filter(|all| *all > 0.0) else {
        return before.to_vec();
    };
    let found: Vec<Option<(f64, f64)>> = members.iter().map(|own| strength(own, all)).collect();
    let kept = share_of_groups(&found);
    let mut scales: Vec<f64> = found
        .iter()
        .map(|found| {
            let (log, error2) = found.unwrap_or((0.0, 1.0));
            (log * kept / (kept + error2).max(f64::MIN_POSITIVE)).exp()
        })
        .map(|scale| scale.clamp(1.0 / SCALE_MAX, SCALE_MAX))
        .collect();
    let mean = particles
        .iter()
        .map(|particle| scales[groups.of[*particle]])
        .sum::<f64>()
        / particles.len().max(1) as f64;
    scales.iter_mut().for_each(|scale| *scale /= mean);
    scales
}

/// The logarithm of a group's strength relative to all particles', and the square of its standard error. None for a group
/// that is empty or fits its reference upside down.
fn strength(own: &[f64], all: f64) -> Option<(f64, f64)> {
    let middle = median(own.iter().copied()).filter(|middle| *middle > 0.0)?;
    // Alone, a particle says nothing of how much particles differ; take it for as much as they are strong.
    let sd = match own.len() {
        1 => middle,
        _ => SD_OF_MAD * median(own.iter().map(|value| (value - middle).abs()))?,
    };
    let error = MEDIAN_ERROR * sd / (own.len() as f64).sqrt() / middle;
    Some(((middle / all).ln(), error * error))
}

/// The variance of groups' strengths beyond what chance makes of them.
fn share_of_groups(found: &[Option<(f64, f64)>]) -> f64 {
    let known: Vec<(f64, f64)> = found.iter().copied().flatten().collect();
    if known.len() < 2 {
        return 0.0;
    }
    let count = known.len() as f64;
    let mean = known.iter().map(|(log, _)| log).sum::<f64>() / count;
    let spread = known
        .iter()
        .map(|(log, _)| (log - mean).powi(2))
        .sum::<f64>()
        / (count - 1.0);
    let chance = known.iter().map(|(_, error2)| error2).sum::<f64>() / count;
    (spread - chance).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_compute::noise::GaussianNoise;

    /// Particles of so many groups in turn, whose best scales are these with noise.
    fn found(truth: &[f64], count: usize, noise: f64) -> (Groups, Vec<usize>, Vec<PoseRecord>) {
        let mut random = GaussianNoise::new(3, 0);
        let particles: Vec<usize> = (0..count).collect();
        let groups = Groups {
            names: truth.iter().map(ToString::to_string).collect(),
            of: particles.iter().map(|at| at % truth.len()).collect(),
        };
        let poses = particles.iter().map(|at| PoseRecord {
            modes: Vec::new(),
            log_likelihood: 0.0,
            scale: truth[at % truth.len()] * 1.7 + noise * f64::from(random.next() as f32),
            angle_sd_deg: 0.0,
            shift_sd_angstrom: 0.0,
            covariance: None,
        });
        let poses = poses.collect();
        (groups, particles, poses)
    }

    #[test]
    fn groups_of_known_strength_are_told_apart() {
        let truth = [0.7, 1.0, 1.3];
        let (groups, particles, mut poses) = found(&truth, 600, 0.3);
        // Misplaced ones.
        poses
            .iter_mut()
            .step_by(20)
            .for_each(|pose| pose.scale = 0.0);
        let scales = updated(&groups, &[1.0; 3], &particles, &poses);
        for (found, truth) in scales.iter().zip(truth) {
            assert!((found / truth - 1.0).abs() < 0.04, "{scales:?}");
        }
        // They are ratios to what was applied: applied, nothing is left to correct.
        let again: Vec<PoseRecord> = poses
            .iter()
            .zip(&groups.of)
            .map(|(pose, group)| PoseRecord {
                scale: pose.scale / scales[*group],
                ..pose.clone()
            })
            .collect();
        let twice = updated(&groups, &scales, &particles, &again);
        for (a, b) in twice.iter().zip(&scales) {
            assert!((a / b - 1.0).abs() < 0.01, "{twice:?} after {scales:?}");
        }
    }

    #[test]
    fn small_groups_of_one_strength_come_out_alike() {
        let (groups, particles, poses) = found(&[1.0; 50], 300, 0.8);
        let scales = updated(&groups, &[1.0; 50], &particles, &poses);
        let most = scales
            .iter()
            .map(|scale| (scale - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(most < 0.1, "{most}");
    }

    #[test]
    fn one_group_and_groups_without_particles_keep_the_scale_1() {
        let (groups, particles, poses) = found(&[1.0], 20, 0.1);
        assert_eq!(updated(&groups, &[1.0], &particles, &poses), [1.0]);
        let (mut groups, particles, poses) = found(&[0.8, 1.2], 200, 0.1);
        groups.names.push("empty".to_owned());
        let scales = updated(&groups, &[1.0; 3], &particles, &poses);
        assert!((scales[2] - 1.0).abs() < 0.05, "{scales:?}");
    }
}
