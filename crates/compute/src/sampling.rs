//! Grids of orientations and shifts.
//!
//! Directions are the centres of HEALPix cells (Górski et al. 2005, ApJ 622, 759), which have equal areas; in-plane
//! angles are even. A grid of order o has steps of about 60/2^o degrees in every angle.

use std::f64::consts::{FRAC_PI_2, PI};

use nalgebra::Vector3;

use crate::orientation::Rotation;
use crate::symmetry::AsymmetricUnit;

/// The finest grid offered: 0.46 degrees, 786,432 directions.
pub const ORDER_MAX: u32 = 7;

/// A viewing direction, as the angles RELION writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Direction {
    /// Azimuth in degrees, in [0, 360).
    pub rot_deg: f64,
    /// Angle from z in degrees.
    pub tilt_deg: f64,
}

impl Direction {
    /// The orientation that looks from here, turned in plane by `psi_deg`.
    pub fn orientation(&self, psi_deg: f64) -> Rotation {
        Rotation::from_euler_deg(self.rot_deg, self.tilt_deg, psi_deg)
    }

    /// The unit vector.
    pub fn vector(&self) -> Vector3<f64> {
        self.orientation(0.0).0.row(2).transpose()
    }
}

/// The step of a grid in degrees: 7.5 at order 3.
pub fn step_deg(order: u32) -> f64 {
    60.0 / f64::from(1_u32 << order.min(ORDER_MAX))
}

/// The number of in-plane angles: 360 over the step.
pub fn psi_count(order: u32) -> usize {
    6 << order.min(ORDER_MAX)
}

/// The 12·4^order directions of the whole sphere, ring by ring from the north. Orders above [`ORDER_MAX`] are cut to it.
pub fn directions(order: u32) -> Vec<Direction> {
    let n = 1_u32 << order.min(ORDER_MAX);
    let mut directions = Vec::with_capacity(12 * (n * n) as usize);
    for ring in 1..4 * n {
        let from_pole = ring.min(4 * n - ring);
        let (count, z, first) = if from_pole < n {
            // Polar cap, equation 4 and 5; the southern one is its mirror image.
            let i = f64::from(from_pole);
            let z = 1.0 - i * i / f64::from(3 * n * n);
            (4 * from_pole, if ring == from_pole { z } else { -z }, 0.5)
        } else {
            // Equatorial belt, equations 8 and 9: every other ring starts half a cell further.
            let first = if (ring - n).is_multiple_of(2) {
                0.5
            } else {
                0.0
            };
            (
                4 * n,
                4.0 / 3.0 - f64::from(2 * ring) / f64::from(3 * n),
                first,
            )
        };
        let tilt_deg = libm::acos(z).to_degrees();
        directions.extend((0..count).map(|j| {
            let rot = 4.0 * FRAC_PI_2 / f64::from(count) * (f64::from(j) + first);
            Direction {
                rot_deg: rot.to_degrees(),
                tilt_deg,
            }
        }));
    }
    directions
}

/// The directions of one asymmetric unit, and those within half a step outside, lest a pose at the border lack a neighbour.
pub fn directions_in_unit(order: u32, unit: &AsymmetricUnit) -> Vec<Direction> {
    let margin_deg = step_deg(order) / 2.0;
    directions(order)
        .into_iter()
        .filter(|d| unit.contains(&d.vector(), margin_deg))
        .collect()
}

/// The shifts of a square lattice that lie in a disc, row by row. Never empty: zero is always among them.
pub fn shifts_in_disc(radius_px: f64, step_px: f64) -> Vec<[f64; 2]> {
    debug_assert!(step_px > 0.0 && radius_px >= 0.0);
    let reach = (radius_px / step_px + 1e-9).floor() as i32;
    let lattice =
        (-reach..=reach).flat_map(|y| (-reach..=reach).map(move |x| [f64::from(x), f64::from(y)]));
    lattice
        .map(|[x, y]| [x * step_px, y * step_px])
        .filter(|[x, y]| x * x + y * y <= radius_px * radius_px * (1.0 + 1e-9))
        .collect()
}

/// Solid angle of one cell in steradians, at an order.
pub fn cell_area(order: u32) -> f64 {
    4.0 * PI / (12.0 * f64::from(1_u32 << (2 * order.min(ORDER_MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for order in 0..5 {
            assert_eq!(directions(order).len(), 12 << (2 * order));
        }
        assert_eq!((psi_count(3), step_deg(3)), (48, 7.5));
        assert_eq!(shifts_in_disc(6.0, 2.0).len(), 29);
        assert_eq!(shifts_in_disc(0.0, 2.0), [[0.0, 0.0]]);
    }

    #[test]
    fn first_directions_are_the_published_ones() {
        // HEALPix, Nside 1 and 2, ring scheme: centres of the first cell.
        let close = |d: Direction, z: f64, rot_deg: f64| {
            assert!(
                (d.vector().z - z).abs() < 1e-12 && (d.rot_deg - rot_deg).abs() < 1e-9,
                "{d:?}"
            );
        };
        close(directions(0)[0], 2.0 / 3.0, 45.0);
        close(directions(0)[4], 0.0, 0.0);
        close(directions(1)[0], 11.0 / 12.0, 45.0);
        close(directions(1)[4], 2.0 / 3.0, 22.5);
        close(directions(1)[12], 1.0 / 3.0, 0.0);
    }

    #[test]
    fn directions_are_even_and_cover_the_sphere() {
        let grid: Vec<_> = directions(3).iter().map(Direction::vector).collect();
        let mean = grid.iter().sum::<Vector3<f64>>() / grid.len() as f64;
        assert!(mean.norm() < 1e-12);
        let second = grid
            .iter()
            .map(|v| v * v.transpose())
            .sum::<nalgebra::Matrix3<f64>>()
            / grid.len() as f64;
        assert!(
            (second - nalgebra::Matrix3::identity() / 3.0).norm() < 2e-3,
            "{second}"
        );
        let probes = directions(5);
        let farthest = probes
            .iter()
            .map(|p| grid.iter().map(|g| g.dot(&p.vector())).fold(-1.0, f64::max));
        let radius_deg = libm::acos(farthest.fold(1.0, f64::min)).to_degrees();
        assert!((4.0..7.5).contains(&radius_deg), "{radius_deg}");
    }

    #[test]
    fn the_unit_has_its_share_of_directions_and_a_margin() {
        for (name, order) in [("C1", 1.0), ("C4", 4.0), ("D7", 14.0), ("O", 24.0)] {
            let unit = AsymmetricUnit::new(&name.parse().unwrap());
            let count = directions_in_unit(4, &unit).len() as f64;
            let share = 3072.0 / order;
            assert!(
                count >= share * 0.95 && count <= share * 1.5,
                "{name}: {count} of {share}"
            );
        }
    }
}
