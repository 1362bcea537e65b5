//! Point groups: their rotations, and one direction of each orbit.
//!
//! Axes are where RELION puts them: the main axis of C, D, T along z (T's is threefold), a twofold of D along x, the
//! fourfolds of O along the axes. I has four settings; plain `I` is `I2`, twofolds along the axes and a fivefold in
//! the xz plane nearer to z (Crowther's setting); `I1` is I2 turned by 90 degrees about z; `I3` and `I4` have a
//! fivefold along z and differ by a mirror in x.

use std::fmt;
use std::str::FromStr;

use nalgebra::{Matrix3, Vector3};

use crate::orientation::Rotation;

/// The greatest n of Cn and Dn: beyond it a name is surely a mistake.
const FOLD_MAX: u32 = 360;

/// The rotations that leave a map as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PointGroup(Family);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    Cyclic(u32),
    Dihedral(u32),
    Tetrahedral,
    Octahedral,
    Icosahedral(u8),
}

/// Why a text names no point group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown symmetry '{0}': expected C1, C2, …, D1, D2, …, T, O, I or I1 to I4")]
pub struct UnknownPointGroup(String);

impl FromStr for PointGroup {
    type Err = UnknownPointGroup;

    fn from_str(text: &str) -> Result<Self, UnknownPointGroup> {
        let unknown = || UnknownPointGroup(text.to_owned());
        let name = text.trim().to_ascii_uppercase();
        let fold = |digits: &str| {
            // `parse` alone would take "+4".
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .parse()
                .ok()
                .filter(|n| plain && (1..=FOLD_MAX).contains(n))
                .ok_or_else(unknown)
        };
        let family = match name.as_str() {
            "T" => Family::Tetrahedral,
            "O" => Family::Octahedral,
            "I" | "I2" => Family::Icosahedral(2),
            "I1" => Family::Icosahedral(1),
            "I3" => Family::Icosahedral(3),
            "I4" => Family::Icosahedral(4),
            _ => match (name.strip_prefix('C'), name.strip_prefix('D')) {
                (Some(digits), _) => Family::Cyclic(fold(digits)?),
                (_, Some(digits)) => Family::Dihedral(fold(digits)?),
                _ => return Err(unknown()),
            },
        };
        Ok(Self(family))
    }
}

impl fmt::Display for PointGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Family::Cyclic(n) => write!(f, "C{n}"),
            Family::Dihedral(n) => write!(f, "D{n}"),
            Family::Tetrahedral => write!(f, "T"),
            Family::Octahedral => write!(f, "O"),
            Family::Icosahedral(2) => write!(f, "I"),
            Family::Icosahedral(setting) => write!(f, "I{setting}"),
        }
    }
}

impl PointGroup {
    /// No symmetry.
    pub const C1: Self = Self(Family::Cyclic(1));

    /// How many rotations the group has.
    pub fn order(&self) -> usize {
        match self.0 {
            Family::Cyclic(n) => n as usize,
            Family::Dihedral(n) => 2 * n as usize,
            Family::Tetrahedral => 12,
            Family::Octahedral => 24,
            Family::Icosahedral(_) => 60,
        }
    }

    /// The group's rotations S, the identity first: a map with this symmetry has V(S x) = V(x), so A S sees what A sees.
    pub fn operators(&self) -> Vec<Matrix3<f64>> {
        let generators = self.generators();
        let mut operators = vec![Matrix3::identity()];
        let mut next = 0;
        while next < operators.len() {
            for generator in &generators {
                let product = operators[next] * generator;
                // Different elements of the groups above differ by far more than this, and rounding by far less.
                if !operators
                    .iter()
                    .any(|known| (known - product).norm() < 1e-6)
                {
                    operators.push(product);
                }
            }
            next += 1;
        }
        debug_assert_eq!(operators.len(), self.order(), "{self} did not close");
        operators
    }

    fn generators(&self) -> Vec<Matrix3<f64>> {
        let golden = (1.0 + libm::sqrt(5.0)) / 2.0;
        let (z, x) = (Vector3::z(), Vector3::x());
        match self.0 {
            Family::Cyclic(n) => vec![turn(z, n)],
            Family::Dihedral(n) => vec![turn(z, n), turn(x, 2)],
            Family::Tetrahedral => {
                vec![turn(z, 3), turn(Vector3::new(0.0, libm::sqrt(2.0), 1.0), 2)]
            }
            Family::Octahedral => vec![turn(z, 4), turn(Vector3::new(1.0, 1.0, 1.0), 3)],
            Family::Icosahedral(1) => vec![
                turn(x, 2),
                turn(Vector3::new(golden, 0.0, -1.0), 5),
                turn(z, 2),
            ],
            Family::Icosahedral(3) => vec![turn(z, 5), turn(Vector3::new(-1.0, 0.0, golden), 2)],
            Family::Icosahedral(4) => vec![turn(z, 5), turn(Vector3::new(1.0, 0.0, golden), 2)],
            Family::Icosahedral(_) => vec![
                turn(z, 2),
                turn(Vector3::new(1.0, 0.0, golden), 5),
                turn(x, 2),
            ],
        }
    }
}

fn turn(axis: Vector3<f64>, fold: u32) -> Matrix3<f64> {
    Rotation::from_axis_angle(axis.normalize() * (std::f64::consts::TAU / f64::from(fold))).0
}

/// One direction of each orbit of a point group: those nearer to a fixed vector than to any of its mates.
#[derive(Debug, Clone)]
pub struct AsymmetricUnit {
    operators: Vec<Matrix3<f64>>,
}

/// Where the unit's centre points: near no axis of any group, so that units are compact.
fn centre() -> Vector3<f64> {
    Vector3::new(0.5812, 0.2437, 0.7764).normalize()
}

impl AsymmetricUnit {
    /// The unit of a group.
    pub fn new(group: &PointGroup) -> Self {
        Self {
            operators: group.operators(),
        }
    }

    /// The group's rotations, the identity first.
    pub fn operators(&self) -> &[Matrix3<f64>] {
        &self.operators
    }

    /// Whether a unit vector lies in the unit, or outside by no more than about `margin_deg`.
    pub fn contains(&self, direction: &Vector3<f64>, margin_deg: f64) -> bool {
        let own = centre().dot(direction);
        let best = self
            .closeness()
            .map(|(mate, _)| mate.dot(direction))
            .fold(own, f64::max);
        libm::acos(own.clamp(-1.0, 1.0))
            <= libm::acos(best.clamp(-1.0, 1.0)) + margin_deg.to_radians() + 1e-12
    }

    /// The equivalent of `orientation` whose view lies in the unit.
    #[must_use]
    pub fn reduce(&self, orientation: &Rotation) -> Rotation {
        let view = orientation.0.row(2).transpose();
        let mut best = (centre().dot(&view), &self.operators[0]);
        for (mate, operator) in self.closeness() {
            let closeness = mate.dot(&view);
            if closeness > best.0 {
                best = (closeness, operator);
            }
        }
        orientation.with_operator(best.1)
    }

    /// Every operator S with the vector S c: the view S^T v of A S is as near to c as v is to S c.
    fn closeness(&self) -> impl Iterator<Item = (Vector3<f64>, &Matrix3<f64>)> {
        self.operators
            .iter()
            .map(|operator| (operator * centre(), operator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 13] = [
        "C1", "c4", "C7", "D1", "D2", "D7", "T", "O", "I", "I1", "I2", "I3", "I4",
    ];

    #[test]
    fn groups_are_closed_and_of_the_right_order() {
        for name in NAMES {
            let group: PointGroup = name.parse().unwrap();
            let operators = group.operators();
            assert_eq!(operators.len(), group.order(), "{name}");
            for a in &operators {
                assert!(
                    (a.determinant() - 1.0).abs() < 1e-9
                        && (a * a.transpose() - Matrix3::identity()).norm() < 1e-9
                );
                for b in &operators {
                    assert_eq!(
                        operators
                            .iter()
                            .filter(|c| (a * b - *c).norm() < 1e-6)
                            .count(),
                        1,
                        "{name}"
                    );
                }
            }
        }
    }

    #[test]
    fn axes_are_where_the_settings_say() {
        let has = |name: &str, axis: [f64; 3], fold: u32| {
            let wanted = turn(Vector3::from(axis), fold);
            let group: PointGroup = name.parse().unwrap();
            assert!(
                group.operators().iter().any(|o| (o - wanted).norm() < 1e-5),
                "{name} {axis:?} {fold}"
            );
        };
        has("D7", [1.0, 0.0, 0.0], 2);
        has("T", [0.0, 0.816496, 0.577350], 2);
        has("O", [0.0, 1.0, 0.0], 4);
        has("I1", [0.934172, 0.356822, 0.0], 3);
        has("I2", [0.0, 0.356822, 0.934172], 3);
        has("I3", [-0.491123, 0.356822, 0.794654], 3);
        has("I4", [0.491123, 0.356822, 0.794654], 3);
    }

    #[test]
    fn names_are_checked() {
        for name in NAMES {
            let group: PointGroup = name.parse().unwrap();
            assert_eq!(group.to_string().parse::<PointGroup>().unwrap(), group);
        }
        for name in [
            "",
            "C",
            "C0",
            "D0",
            "X3",
            "C-1",
            "C+4",
            "I5",
            "T2",
            "C99999999999",
            "é",
        ] {
            assert!(name.parse::<PointGroup>().is_err(), "{name}");
        }
    }

    #[test]
    fn every_orbit_has_one_direction_in_the_unit() {
        for name in NAMES {
            let unit = AsymmetricUnit::new(&name.parse().unwrap());
            for i in 0..60 {
                let i = f64::from(i);
                let a = Rotation::from_euler_deg(31.7 * i, 2.9 * i + 1.0, 11.3 * i);
                let views = unit
                    .operators()
                    .iter()
                    .map(|o| a.with_operator(o).0.row(2).transpose());
                assert_eq!(
                    views.filter(|view| unit.contains(view, 0.0)).count(),
                    1,
                    "{name} {i}"
                );
                let reduced = unit.reduce(&a);
                assert!(unit.contains(&reduced.0.row(2).transpose(), 0.0));
                assert!(
                    unit.operators()
                        .iter()
                        .any(|o| a.with_operator(o).angle_to_deg(&reduced) < 1e-9)
                );
            }
        }
    }
}
