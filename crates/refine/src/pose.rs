//! Poses as a refinement keeps them between rounds.

use dewar_compute::orientation::Rotation;
use dewar_proto::em::v1;
use serde::{Deserialize, Serialize};

/// Where one particle points and lies, and how well that fits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PoseRecord {
    /// First Euler angle (ZYZ).
    pub rot_deg: f64,
    /// Second Euler angle.
    pub tilt_deg: f64,
    /// Third Euler angle.
    pub psi_deg: f64,
    /// The shift that centres the particle.
    pub shift_angstrom: [f64; 2],
    /// How well the projection fits.
    pub log_likelihood: f64,
    /// Best scale of the projection for this image.
    pub scale: f64,
}

impl PoseRecord {
    /// From what an alignment task found; a missing pose counts as zero, and the caller has checked for it.
    pub fn from_wire(aligned: &v1::AlignedPose) -> Self {
        let pose = aligned.pose.unwrap_or_default();
        Self {
            rot_deg: pose.rot_deg,
            tilt_deg: pose.tilt_deg,
            psi_deg: pose.psi_deg,
            shift_angstrom: [pose.shift_x_angstrom, pose.shift_y_angstrom],
            log_likelihood: aligned.log_likelihood,
            scale: aligned.scale,
        }
    }

    fn rotation(&self) -> Rotation {
        Rotation::from_euler_deg(self.rot_deg, self.tilt_deg, self.psi_deg)
    }
}

/// Median angle between two rounds' orientations, without regard to symmetry: the search keeps to one asymmetric unit.
pub fn median_change_deg(before: &[PoseRecord], after: &[PoseRecord]) -> Option<f64> {
    let mut changes: Vec<f64> = before
        .iter()
        .zip(after)
        .map(|(a, b)| a.rotation().angle_to_deg(&b.rotation()))
        .collect();
    changes.sort_by(f64::total_cmp);
    changes.get(changes.len() / 2).copied()
}
