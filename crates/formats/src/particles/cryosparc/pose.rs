//! Rotation vectors as RELION's Euler angles.

/// Below this tilt, as a sine, rot and psi turn about the same axis and only their sum means anything.
const TILT_SIN_MIN: f64 = 1e-9;

/// The angles (rot, tilt, psi) whose matrix is the transpose of that of the rotation vector.
pub(super) fn euler_deg(vector: [f64; 3]) -> [f64; 3] {
    let a = transposed_matrix(vector);
    let tilt_sin = a[2][0].hypot(a[2][1]);
    let (rot, psi) = if tilt_sin > TILT_SIN_MIN {
        (a[2][1].atan2(a[2][0]), a[1][2].atan2(-a[0][2]))
    } else {
        (0.0, a[0][1].atan2(a[1][1]))
    };
    [rot, tilt_sin.atan2(a[2][2]), psi].map(f64::to_degrees)
}

/// Rodrigues' formula, rows and columns exchanged.
fn transposed_matrix([x, y, z]: [f64; 3]) -> [[f64; 3]; 3] {
    let angle = (x * x + y * y + z * z).sqrt();
    // sin θ / θ and (1 - cos θ) / θ², which have limits where there is no turn.
    let (first, second) = if angle < 1e-12 {
        (1.0, 0.5)
    } else {
        let half = (angle / 2.0).sin() / angle;
        (angle.sin() / angle, 2.0 * half * half)
    };
    let off = |i: f64, j: f64, k: f64| (second * i * j + first * k, second * i * j - first * k);
    let (xy, yx) = off(x, y, z);
    let (yz, zy) = off(y, z, x);
    let (zx, xz) = off(z, x, y);
    [
        [1.0 - second * (y * y + z * z), xy, xz],
        [yx, 1.0 - second * (x * x + z * z), yz],
        [zx, zy, 1.0 - second * (x * x + y * y)],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{FRAC_PI_2, PI};

    fn close(found: [f64; 3], expected: [f64; 3]) {
        let same = found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(same, "{found:?} is not {expected:?}");
    }

    #[test]
    fn turns_about_the_axes() {
        close(euler_deg([0.0; 3]), [0.0; 3]);
        // Rz(angle) transposed turns the other way, and rot + psi count in that way.
        close(euler_deg([0.0, 0.0, FRAC_PI_2]), [0.0, 0.0, 90.0]);
        close(euler_deg([0.0, FRAC_PI_2, 0.0]), [0.0, 90.0, 0.0]);
        close(euler_deg([FRAC_PI_2, 0.0, 0.0]), [-90.0, 90.0, 90.0]);
        close(euler_deg([0.0, PI, 0.0]), [0.0, 180.0, 0.0]);
    }
}
