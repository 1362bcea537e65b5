//! Whether poses in a message can be computed with: asked by the kernels of what they are given, and by the refinement of
//! what it gets back.

use crate::em::v1::{AlignedPose, Pose, PoseMode};

/// The upper triangle of five by five numbers.
const COVARIANCE_COUNT: usize = 15;

impl Pose {
    /// Whether all of it are numbers.
    pub fn is_finite(&self) -> bool {
        [
            self.rot_deg,
            self.tilt_deg,
            self.psi_deg,
            self.shift_x_angstrom,
            self.shift_y_angstrom,
        ]
        .iter()
        .all(|number| number.is_finite())
    }
}

impl PoseMode {
    /// Its pose, if there is one of numbers only and its weight is a part.
    pub fn usable(&self) -> Option<Pose> {
        self.pose
            .filter(|pose| pose.is_finite() && (0.0..=1.0).contains(&self.weight))
    }
}

impl AlignedPose {
    /// Whether it says where the particle lies, in numbers only.
    pub fn is_usable(&self) -> bool {
        !self.modes.is_empty()
            && self.modes.iter().all(|mode| mode.usable().is_some())
            && self.log_likelihood.is_finite()
            && self.scale.is_finite()
            && self.angle_sd_deg.is_finite()
            && self.shift_sd_angstrom.is_finite()
            && matches!(self.covariance.len(), 0 | COVARIANCE_COUNT)
            && self.covariance.iter().all(|value| value.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pose_is_usable_only_if_every_number_is() {
        let mode = PoseMode {
            pose: Some(Pose::default()),
            weight: 1.0,
        };
        let whole = AlignedPose {
            modes: vec![mode],
            ..AlignedPose::default()
        };
        assert!(whole.is_usable());
        let spoil: [fn(&mut AlignedPose); 9] = [
            |aligned| aligned.modes.clear(),
            |aligned| aligned.modes[0].pose = None,
            |aligned| aligned.modes[0].pose.get_or_insert_default().tilt_deg = f64::NAN,
            |aligned| aligned.modes[0].weight = 1.5,
            |aligned| aligned.covariance = vec![1.0; 14],
            |aligned| aligned.covariance = vec![f64::INFINITY; 15],
            |aligned| aligned.scale = f64::INFINITY,
            |aligned| aligned.angle_sd_deg = f64::NAN,
            |aligned| aligned.shift_sd_angstrom = f64::NAN,
        ];
        for (index, spoil) in spoil.into_iter().enumerate() {
            let mut spoiled = whole.clone();
            spoil(&mut spoiled);
            assert!(!spoiled.is_usable(), "number {index}");
        }
    }
}
