//! Rotations and RELION's Euler angles.
//!
//! A [`Rotation`] is the matrix A = Rz(psi) Ry(tilt) Rz(rot) in RELION's (ZYZ) convention: its first two rows span the
//! central slice, its third is the viewing direction. Angles exist only where poses are read or written.

use nalgebra::{Matrix3, Quaternion, Rotation3, UnitQuaternion, Vector3};

/// A rotation of the particle. Rows are A0, A1 (the axes of the image, in the map's frame) and A2 (the view).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotation(pub Matrix3<f64>);

impl Rotation {
    /// The rotation that changes nothing.
    pub fn identity() -> Self {
        Self(Matrix3::identity())
    }

    /// From rot, tilt and psi in degrees.
    pub fn from_euler_deg(rot: f64, tilt: f64, psi: f64) -> Self {
        let (sa, ca) = libm::sincos(rot.to_radians());
        let (sb, cb) = libm::sincos(tilt.to_radians());
        let (sg, cg) = libm::sincos(psi.to_radians());
        Self(Matrix3::new(
            cg * cb * ca - sg * sa,
            cg * cb * sa + sg * ca,
            -cg * sb,
            -sg * cb * ca - cg * sa,
            -sg * cb * sa + cg * ca,
            sg * sb,
            sb * ca,
            sb * sa,
            cb,
        ))
    }

    /// Rot and psi in (-180, 180], tilt in [0, 180], in degrees. Where tilt is 0 or 180 and only a combination of
    /// rot and psi is determined, rot is 0.
    pub fn to_euler_deg(&self) -> [f64; 3] {
        let a = &self.0;
        let sin_tilt = libm::hypot(a[(2, 0)], a[(2, 1)]);
        let tilt = libm::atan2(sin_tilt, a[(2, 2)]);
        // Below this the two in-plane angles cannot be told apart in double precision.
        let (rot, psi) = if sin_tilt > 1e-9 {
            (
                libm::atan2(a[(2, 1)], a[(2, 0)]),
                libm::atan2(a[(1, 2)], -a[(0, 2)]),
            )
        } else {
            (0.0, libm::atan2(-a[(1, 0)] * a[(2, 2)].signum(), a[(1, 1)]))
        };
        [rot.to_degrees(), tilt.to_degrees(), psi.to_degrees()]
    }

    /// From a quaternion (w, x, y, z) of any length but zero.
    pub fn from_quaternion(w: f64, x: f64, y: f64, z: f64) -> Self {
        Self(
            *UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z))
                .to_rotation_matrix()
                .matrix(),
        )
    }

    /// The unit quaternion (w, x, y, z) with w >= 0.
    pub fn to_quaternion(&self) -> [f64; 4] {
        let q = UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(self.0));
        let sign = if q.w < 0.0 { -1.0 } else { 1.0 };
        [q.w * sign, q.i * sign, q.j * sign, q.k * sign]
    }

    /// The rotation by `axis_angle`'s length in radians about its direction.
    pub fn from_axis_angle(axis_angle: Vector3<f64>) -> Self {
        Self(
            *UnitQuaternion::from_scaled_axis(axis_angle)
                .to_rotation_matrix()
                .matrix(),
        )
    }

    /// First `self`, then `next`: the matrix product `next * self`.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        Self(next.0 * self.0)
    }

    /// The rotation back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        Self(self.0.transpose())
    }

    /// The view of a map moved by `operator`: A S^T sees in the map what A sees in the map rotated by S^T.
    #[must_use]
    pub fn with_operator(&self, operator: &Matrix3<f64>) -> Self {
        Self(self.0 * operator)
    }

    /// The angle between two orientations, in degrees.
    pub fn angle_to_deg(&self, other: &Self) -> f64 {
        let relative = self.0.transpose() * other.0;
        let cosine = (relative.trace() - 1.0) / 2.0;
        let twice_sine = Vector3::new(
            relative[(2, 1)] - relative[(1, 2)],
            relative[(0, 2)] - relative[(2, 0)],
            relative[(1, 0)] - relative[(0, 1)],
        );
        let sine = twice_sine.norm() / 2.0;
        libm::atan2(sine, cosine).to_degrees()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_matrix(angles: [f64; 3], rows: [[f64; 3]; 3]) {
        let a = Rotation::from_euler_deg(angles[0], angles[1], angles[2]).0;
        for (i, row) in rows.iter().enumerate() {
            for (j, expected) in row.iter().enumerate() {
                assert!(
                    (a[(i, j)] - expected).abs() < 1e-12,
                    "{angles:?} at ({i}, {j}): {}",
                    a[(i, j)]
                );
            }
        }
    }

    #[test]
    fn known_poses() {
        check_matrix(
            [90.0, 0.0, 0.0],
            [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
        );
        check_matrix(
            [0.0, 90.0, 0.0],
            [[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
        );
        check_matrix(
            [90.0, 90.0, 90.0],
            [[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]],
        );
    }

    #[test]
    fn angle_of_nearly_equal_and_of_opposite_orientations() {
        let a = Rotation::from_euler_deg(10.0, 70.0, -20.0);
        assert!(
            (a.angle_to_deg(&a.then(&Rotation::from_euler_deg(1e-7, 0.0, 0.0))) - 1e-7).abs()
                < 1e-12
        );
        assert!(
            (a.angle_to_deg(&a.then(&Rotation::from_euler_deg(0.0, 180.0, 0.0))) - 180.0).abs()
                < 1e-9
        );
    }

    proptest! {
        #[test]
        fn angles_and_quaternions_come_back(rot in -180.0..180.0_f64, tilt in 0.0..=180.0_f64, psi in -180.0..180.0_f64) {
            for tilt in [tilt, 0.0, 180.0] {
                let a = Rotation::from_euler_deg(rot, tilt, psi);
                let [r, t, p] = a.to_euler_deg();
                prop_assert!((0.0..=180.0).contains(&t));
                prop_assert!(a.angle_to_deg(&Rotation::from_euler_deg(r, t, p)) < 1e-7);
                let [w, x, y, z] = a.to_quaternion();
                prop_assert!(a.angle_to_deg(&Rotation::from_quaternion(w, x, y, z)) < 1e-7);
                prop_assert!(a.then(&a.inverse()).angle_to_deg(&Rotation::identity()) < 1e-9);
            }
        }
    }
}
