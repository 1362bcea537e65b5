//! A particle's posterior as the hills that were climbed: where each one's top is, how wide it is, and what part it has.
//!
//! About its top a hill is taken for a Gaussian (Laplace's approximation), so its part is its height times its width.

use nalgebra::SMatrix;

use super::ScoreMode;
use super::normal_equations::POSE_PARAMETERS;
use super::polish::Scored;
use crate::orientation::Rotation;
use crate::symmetry::AsymmetricUnit;

/// A mode less likely than this, against the most likely, is not told of.
const WEIGHT_MIN: f64 = 1e-3;

type Covariance = SMatrix<f64, POSE_PARAMETERS, POSE_PARAMETERS>;

/// One hill of a particle's posterior.
#[derive(Debug, Clone, PartialEq)]
pub struct Mode {
    /// Its top: an orientation in the asymmetric unit.
    pub orientation: Rotation,
    /// The shift there.
    pub shift_px: [f64; 2],
    /// Its part of the posterior.
    pub weight: f64,
    /// Of a small rotation about the image's x, y and view, in radians, and of the shift, in pixels.
    pub covariance: SMatrix<f64, 5, 5>,
}

impl Mode {
    /// Standard deviations of the orientation about the worst of the image's axes, in radians, and of the shift along the
    /// worse, in pixels.
    pub fn worst_deviations(&self) -> (f64, f64) {
        let variance = |axis: usize| self.covariance[(axis, axis)].max(0.0);
        let worst =
            |axes: std::ops::Range<usize>| libm::sqrt(axes.map(variance).fold(0.0, f64::max));
        (worst(0..3), worst(3..5))
    }
}

/// The modes of `found`, in its order, best first. Log-likelihoods count `trust` times: so much of the noise a mask leaves, and
/// so many of a masked image's Fourier pixels are independent. None where the image says nothing of its pose.
pub(super) fn modes(
    found: &[Scored],
    unit: &AsymmetricUnit,
    score_mode: ScoreMode,
    trust: f64,
) -> Vec<Mode> {
    let top = found.first().map_or(0.0, |best| f64::from(best.pose.score));
    let of_hill = |scored: &Scored| {
        let covariance = covariance(scored, score_mode, trust)?;
        let height = libm::exp(trust * (f64::from(scored.pose.score) - top));
        Some(Mode {
            orientation: unit.reduce(&scored.pose.orientation),
            shift_px: scored.pose.shift_px,
            weight: height * libm::sqrt(covariance.determinant().max(0.0)),
            covariance,
        })
    };
    let mut modes: Vec<Mode> = found.iter().filter_map(of_hill).collect();
    let most = modes.iter().map(|mode| mode.weight).fold(0.0, f64::max);
    modes.retain(|mode| mode.weight > 0.0 && mode.weight >= WEIGHT_MIN * most);
    let sum: f64 = modes.iter().map(|mode| mode.weight).sum();
    modes.iter_mut().for_each(|mode| mode.weight /= sum);
    modes
}

/// The inverse of the curvature. None where nothing holds the pose.
fn covariance(scored: &Scored, score_mode: ScoreMode, trust: f64) -> Option<Covariance> {
    let curvature = scored.curvature * trust;
    let pose = match score_mode {
        // The scale is unknown too, and loosens the pose.
        ScoreMode::ScaleFree => curvature
            .try_inverse()?
            .fixed_view::<POSE_PARAMETERS, POSE_PARAMETERS>(0, 0)
            .into_owned(),
        ScoreMode::Likelihood => curvature
            .fixed_view::<POSE_PARAMETERS, POSE_PARAMETERS>(0, 0)
            .into_owned()
            .try_inverse()?,
    };
    pose.iter().all(|value| value.is_finite()).then_some(pose)
}
