//! Poses as a refinement keeps them between rounds.

use dewar_compute::orientation::Rotation;
use dewar_proto::em::v1;
use serde::{Deserialize, Serialize};

/// Where one particle points and lies, and how well that fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoseRecord {
    /// The poses it may have, best first. Never empty.
    pub modes: Vec<ModeRecord>,
    /// How well the projection fits.
    pub log_likelihood: f64,
    /// Best scale of the projection for this image.
    pub scale: f64,
    /// Standard deviation of the best orientation about its worst axis.
    pub angle_sd_deg: f64,
    /// Standard deviation of the best shift along its worst axis.
    pub shift_sd_angstrom: f64,
    /// The upper triangle of the best pose's covariance, in degrees and Å; none where the image does not say.
    #[serde(default)]
    pub covariance: Option<[f64; 15]>,
}

/// One pose a particle may have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModeRecord {
    /// First Euler angle (ZYZ).
    pub rot_deg: f64,
    /// Second Euler angle.
    pub tilt_deg: f64,
    /// Third Euler angle.
    pub psi_deg: f64,
    /// The shift that centres the particle.
    pub shift_angstrom: [f64; 2],
    /// Its part of the posterior.
    pub weight: f64,
}

impl PoseRecord {
    /// From what an alignment task found; the caller has checked that it is whole.
    pub fn from_wire(aligned: &v1::AlignedPose) -> Self {
        Self {
            modes: aligned.modes.iter().map(ModeRecord::from_wire).collect(),
            log_likelihood: aligned.log_likelihood,
            scale: aligned.scale,
            angle_sd_deg: aligned.angle_sd_deg,
            shift_sd_angstrom: aligned.shift_sd_angstrom,
            covariance: aligned.covariance.as_slice().try_into().ok(),
        }
    }

    /// The best of its modes.
    pub fn best(&self) -> ModeRecord {
        self.modes.first().copied().unwrap_or(ModeRecord::NONE)
    }

    /// The angle between two rounds' best orientations.
    pub fn angle_to_deg(&self, other: &Self) -> f64 {
        self.orientation().angle_to_deg(&other.orientation())
    }

    /// Its best orientation.
    pub fn orientation(&self) -> Rotation {
        self.best().rotation()
    }

    /// The distance between two rounds' best shifts.
    pub fn shift_to_angstrom(&self, other: &Self) -> f64 {
        let [a, b] = [self, other].map(|pose| pose.best().shift_angstrom);
        (a[0] - b[0]).hypot(a[1] - b[1])
    }

    /// Its modes as tasks state them.
    pub fn to_wire(&self) -> Vec<v1::PoseMode> {
        self.modes
            .iter()
            .copied()
            .map(ModeRecord::to_wire)
            .collect()
    }
}

impl ModeRecord {
    const NONE: Self = Self {
        rot_deg: 0.0,
        tilt_deg: 0.0,
        psi_deg: 0.0,
        shift_angstrom: [0.0; 2],
        weight: 0.0,
    };

    fn from_wire(mode: &v1::PoseMode) -> Self {
        let pose = mode.pose.unwrap_or_default();
        Self {
            rot_deg: pose.rot_deg,
            tilt_deg: pose.tilt_deg,
            psi_deg: pose.psi_deg,
            shift_angstrom: [pose.shift_x_angstrom, pose.shift_y_angstrom],
            weight: mode.weight,
        }
    }

    fn to_wire(self) -> v1::PoseMode {
        v1::PoseMode {
            pose: Some(v1::Pose {
                rot_deg: self.rot_deg,
                tilt_deg: self.tilt_deg,
                psi_deg: self.psi_deg,
                shift_x_angstrom: self.shift_angstrom[0],
                shift_y_angstrom: self.shift_angstrom[1],
            }),
            weight: self.weight,
        }
    }

    fn rotation(self) -> Rotation {
        Rotation::from_euler_deg(self.rot_deg, self.tilt_deg, self.psi_deg)
    }
}
