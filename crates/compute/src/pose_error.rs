//! How far poses are from other poses, up to symmetry and a common frame.
//!
//! A refinement's map may sit rotated and shifted as a whole against the truth; that is no error of any particle. So
//! one rotation and one shift of the frame are estimated, robustly, and taken out before anything is measured.

use nalgebra::{Matrix3, Vector2, Vector3};

use crate::orientation::Rotation;
use crate::symmetry::PointGroup;

/// An orientation and a shift, to compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// The orientation.
    pub orientation: Rotation,
    /// The shift to apply to centre the particle (rlnOriginX/YAngst), in ångström.
    pub shift_angstrom: [f64; 2],
}

/// What remains between two lists of poses once their frames are aligned.
#[derive(Debug, Clone, PartialEq)]
pub struct PoseError {
    /// Geodesic error of each particle, in degrees.
    pub angles_deg: Vec<f64>,
    /// Shift error of each particle, in ångström.
    pub shifts_angstrom: Vec<f64>,
    /// Median of `angles_deg`.
    pub median_deg: f64,
    /// 90th percentile of `angles_deg`.
    pub p90_deg: f64,
    /// Share of particles within 3 degrees.
    pub within_3_deg: f64,
    /// Share of particles within 10 degrees.
    pub within_10_deg: f64,
    /// Median of `shifts_angstrom`.
    pub shift_median_angstrom: f64,
    /// The frame's rotation G: an estimated orientation is A_true S G, with S of the point group.
    pub frame: Rotation,
    /// The frame's shift c in the estimated frame: an estimated shift is the true one plus (A_0·c, A_1·c).
    pub frame_shift_angstrom: [f64; 3],
}

/// Why poses cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoseErrorError {
    /// The lists differ in length.
    #[error("{estimated} estimated poses against {truth} true ones")]
    CountsDiffer {
        /// How many were estimated.
        estimated: usize,
        /// How many are known.
        truth: usize,
    },
    /// There is nothing to compare.
    #[error("no poses to compare")]
    Empty,
}

/// How many particles propose a frame, and how many judge each proposal: plenty for a median, and quick.
const PROPOSAL_COUNT: usize = 12;
const JUDGE_COUNT: usize = 200;

/// Compares poses particle by particle.
pub fn pose_error(
    estimated: &[Pose],
    truth: &[Pose],
    group: &PointGroup,
) -> Result<PoseError, PoseErrorError> {
    if estimated.len() != truth.len() {
        return Err(PoseErrorError::CountsDiffer {
            estimated: estimated.len(),
            truth: truth.len(),
        });
    }
    if truth.is_empty() {
        return Err(PoseErrorError::Empty);
    }
    let relative: Vec<Rotation> = truth
        .iter()
        .zip(estimated)
        .map(|(t, e)| Rotation(t.orientation.0.transpose() * e.orientation.0))
        .collect();
    let operators = group.operators();
    let frame = align(&relative, &operators);
    let angles_deg: Vec<f64> = relative
        .iter()
        .map(|r| nearest(r, &frame, &operators).1)
        .collect();
    let shift = frame_shift(estimated, truth, &angles_deg);
    let shifts_angstrom: Vec<f64> = estimated
        .iter()
        .zip(truth)
        .map(|(e, t)| shift_residual(e, t, &shift).norm())
        .collect();
    let share = |limit: f64| {
        angles_deg.iter().filter(|a| **a <= limit).count() as f64 / angles_deg.len() as f64
    };
    Ok(PoseError {
        median_deg: quantile(&angles_deg, 0.5),
        p90_deg: quantile(&angles_deg, 0.9),
        within_3_deg: share(3.0),
        within_10_deg: share(10.0),
        shift_median_angstrom: quantile(&shifts_angstrom, 0.5),
        frame,
        frame_shift_angstrom: shift.into(),
        angles_deg,
        shifts_angstrom,
    })
}

/// The rotation most of `relative` agree on, up to the operators.
fn align(relative: &[Rotation], operators: &[Matrix3<f64>]) -> Rotation {
    let judges = strided(relative, JUDGE_COUNT);
    let spread = |frame: &Rotation| {
        let angles: Vec<f64> = judges
            .iter()
            .map(|r| nearest(r, frame, operators).1)
            .collect();
        quantile(&angles, 0.5)
    };
    // The frame as it is goes first: of equals, the least moved wins.
    let mut best = (spread(&Rotation::identity()), Rotation::identity());
    for proposal in strided(relative, PROPOSAL_COUNT) {
        let frame = nearest(&proposal, &Rotation::identity(), operators).0;
        let found = spread(&frame);
        if found < best.0 - 1e-9 {
            best = (found, frame);
        }
    }
    let mut frame = best.1;
    for _ in 0..30 {
        let near: Vec<(Rotation, f64)> = relative
            .iter()
            .map(|r| nearest(r, &frame, operators))
            .collect();
        let angles: Vec<f64> = near.iter().map(|n| n.1).collect();
        // Outliers beyond twice the median say nothing about the frame.
        let limit = (2.0 * quantile(&angles, 0.5)).max(1e-6);
        let kept: Vec<_> = near.iter().filter(|n| n.1 <= limit).collect();
        let mean = kept
            .iter()
            .map(|n| rotation_vector(&frame, &n.0))
            .sum::<Vector3<f64>>()
            / kept.len().max(1) as f64;
        frame = Rotation(frame.0 * Rotation::from_axis_angle(mean).0);
        if mean.norm() < 1e-10 {
            break;
        }
    }
    frame
}

/// The mate S^T R of a relative rotation that is nearest to `frame`, and how far it is in degrees.
fn nearest(relative: &Rotation, frame: &Rotation, operators: &[Matrix3<f64>]) -> (Rotation, f64) {
    let mut best = (*relative, f64::INFINITY);
    for operator in operators {
        let mate = Rotation(operator.transpose() * relative.0);
        let angle = mate.angle_to_deg(frame);
        if angle < best.1 {
            best = (mate, angle);
        }
    }
    best
}

/// The rotation vector from one orientation to another, by the arctangent: an arccosine is undefined where rounding
/// makes the trace of a near-identity exceed 3.
fn rotation_vector(from: &Rotation, to: &Rotation) -> Vector3<f64> {
    let r = from.0.transpose() * to.0;
    let twice_sine = Vector3::new(
        r[(2, 1)] - r[(1, 2)],
        r[(0, 2)] - r[(2, 0)],
        r[(1, 0)] - r[(0, 1)],
    );
    let norm = twice_sine.norm();
    if norm < 1e-12 {
        return Vector3::zeros();
    }
    twice_sine * (libm::atan2(norm, r.trace() - 1.0) / norm)
}

fn frame_shift(estimated: &[Pose], truth: &[Pose], angles_deg: &[f64]) -> Vector3<f64> {
    let mut shift = Vector3::zeros();
    for round in 0..10 {
        let residuals: Vec<f64> = estimated
            .iter()
            .zip(truth)
            .map(|(e, t)| shift_residual(e, t, &shift).norm())
            .collect();
        // The first fit takes all that are roughly turned right: nothing is known of the shifts yet.
        let limit = if round == 0 {
            f64::INFINITY
        } else {
            2.0 * quantile(&residuals, 0.5) + 1e-9
        };
        let mut normal = Matrix3::zeros();
        let mut right = Vector3::zeros();
        for (i, (e, t)) in estimated.iter().zip(truth).enumerate() {
            if angles_deg[i] > 10.0 || residuals[i] > limit {
                continue;
            }
            let rows = e.orientation.0.fixed_rows::<2>(0);
            normal += rows.transpose() * rows;
            right += rows.transpose() * shift_residual(e, t, &Vector3::zeros());
        }
        // Too few or too like-minded views determine no shift: leave it at what it was.
        let Some(inverse) = normal
            .try_inverse()
            .filter(|m| m.iter().all(|v| v.abs() < 1e6))
        else {
            break;
        };
        shift = inverse * right;
    }
    shift
}

fn shift_residual(estimated: &Pose, truth: &Pose, frame_shift: &Vector3<f64>) -> Vector2<f64> {
    let moved = estimated.orientation.0.fixed_rows::<2>(0) * frame_shift;
    Vector2::from(estimated.shift_angstrom) - Vector2::from(truth.shift_angstrom) - moved
}

fn strided(all: &[Rotation], count: usize) -> Vec<Rotation> {
    all.iter()
        .step_by(all.len().div_ceil(count).max(1))
        .copied()
        .collect()
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True poses, and the same in a drifted frame, each turned by a further `noise_deg` and every tenth thrown away.
    fn drifted(
        group: &PointGroup,
        drift_deg: f64,
        noise_deg: f64,
        outliers: bool,
    ) -> (Vec<Pose>, Vec<Pose>) {
        let operators = group.operators();
        let frame = Rotation::from_axis_angle(
            Vector3::new(0.3, -0.5, 0.8).normalize() * drift_deg.to_radians(),
        );
        let shift = Vector3::new(1.0, -2.0, 0.5);
        let mut pair = (Vec::new(), Vec::new());
        for i in 0..300_u32 {
            let x = f64::from(i);
            let orientation = Rotation::from_euler_deg(
                37.0 * x,
                libm::acos(1.0 - x / 150.0).to_degrees(),
                71.3 * x,
            );
            let axis = Vector3::new(libm::sin(x), libm::cos(1.7 * x), libm::sin(2.3 * x + 1.0))
                .normalize();
            let away = if outliers && i % 10 == 3 {
                100.0
            } else {
                noise_deg
            };
            let found = Rotation(orientation.0 * operators[i as usize % operators.len()] * frame.0)
                .then(&Rotation::from_axis_angle(axis * away.to_radians()));
            let moved = found.0.fixed_rows::<2>(0) * shift;
            pair.0.push(Pose {
                orientation: found,
                shift_angstrom: [moved.x + 3.0, moved.y - 4.0],
            });
            pair.1.push(Pose {
                orientation,
                shift_angstrom: [3.0, -4.0],
            });
        }
        pair
    }

    fn check(group: &str, drift_deg: f64, noise_deg: f64, outliers: bool) {
        let group: PointGroup = group.parse().unwrap();
        let (estimated, truth) = drifted(&group, drift_deg, noise_deg, outliers);
        let error = pose_error(&estimated, &truth, &group).unwrap();
        assert!(
            (error.median_deg - noise_deg).abs() < 0.1 * noise_deg + 1e-6,
            "{group} {}",
            error.median_deg
        );
        assert!(
            error.shift_median_angstrom < 0.02,
            "{group} {}",
            error.shift_median_angstrom
        );
        let expected = if outliers { 0.9 } else { 1.0 };
        assert!(
            (error.within_3_deg - expected).abs() < 0.02,
            "{group} {}",
            error.within_3_deg
        );
    }

    #[test]
    fn a_common_drift_is_no_error() {
        check("C1", 0.0, 0.0, false);
        check("C1", 4.0, 0.0, false);
        check("C1", 75.0, 1.0, false);
        check("D7", 2.0, 0.0, false);
        check("D7", 3.0, 1.5, true);
        check("C1", 2.0, 1.0, true);
        check("O", 5.0, 0.7, true);
    }

    #[test]
    fn random_poses_are_far_apart() {
        let (estimated, mut truth) = drifted(&PointGroup::C1, 0.0, 0.0, false);
        truth.rotate_left(77);
        let error = pose_error(&estimated, &truth, &PointGroup::C1).unwrap();
        assert!(
            error.median_deg > 60.0 && error.within_10_deg < 0.1,
            "{error:?}"
        );
    }

    #[test]
    fn lists_must_match() {
        let (estimated, truth) = drifted(&PointGroup::C1, 0.0, 0.0, false);
        assert!(pose_error(&estimated[1..], &truth, &PointGroup::C1).is_err());
        assert_eq!(
            pose_error(&[], &[], &PointGroup::C1),
            Err(PoseErrorError::Empty)
        );
        assert!(pose_error(&estimated[..1], &truth[..1], &PointGroup::C1).is_ok());
    }
}
