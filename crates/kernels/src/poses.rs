//! Poses as tasks state them, checked.

use crate::images::bad;
use dewar_compute::orientation::Rotation;
use dewar_proto::em::v1;
use dewar_task::RunError;

/// The poses a particle may have, with their weights.
///
/// # Errors
/// If one is missing or not finite.
pub fn poses(particle: &v1::Particle) -> Result<Vec<(v1::Pose, f64)>, RunError> {
    let of_mode = |mode: &v1::PoseMode| {
        let pose = mode.usable().map(|pose| (pose, mode.weight));
        pose.ok_or_else(|| {
            bad(format!(
                "particle {}: a pose is missing, not finite, or has a weight that is not between 0 and 1",
                particle.number
            ))
        })
    };
    particle.modes.iter().map(of_mode).collect()
}

/// Its orientation.
pub fn orientation(pose: &v1::Pose) -> Rotation {
    Rotation::from_euler_deg(pose.rot_deg, pose.tilt_deg, pose.psi_deg)
}

/// Its shift.
pub fn shift_px(pose: &v1::Pose, pixel_size_angstrom: f64) -> [f64; 2] {
    [pose.shift_x_angstrom, pose.shift_y_angstrom].map(|angstrom| angstrom / pixel_size_angstrom)
}
