//! Partial sums added up, closed under symmetry, and turned into a map.

use nalgebra::{Matrix3, Vector3};
use num_complex::Complex32;
use thiserror::Error;

use super::{Accumulator, GridShape, Partial};
use crate::fft::{RealFft3, frequency_index, half_space_len};
use crate::gridding;
use crate::mask;
use crate::volume::Volume;

/// No point's weight falls below this part of its shell's mean: a direction nobody looked from would otherwise be noise
/// divided by next to nothing.
const WEIGHT_FLOOR: f64 = 1e-3;

/// The first shell the prior acts on: below, there are too few points for a spectrum.
const PRIOR_FIRST_SHELL: usize = 5;

/// The soft edge that rounds off the corners of a reconstructed box, in voxels.
const CORNER_EDGE_PX: f64 = 3.0;

/// Two grids of sums are not of one shape.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("sums of shape {found:?} cannot be added to sums of shape {expected:?}")]
pub struct ShapesDiffer {
    /// That of the sums so far.
    pub expected: GridShape,
    /// That of the ones to add.
    pub found: GridShape,
}

/// What is known of a map before the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Prior<'a> {
    /// Nothing: the map is not damped.
    None,
    /// The expected power of each shell's real and imaginary parts, on the scale of sigma2. Shells beyond the slice, or of
    /// no power, come out empty.
    Tau2(&'a [f64]),
}

/// Partial sums, added in f64.
#[derive(Debug, Clone)]
pub struct Sums {
    pub(super) shape: GridShape,
    pub(super) values: Vec<[f64; 3]>,
}

impl Sums {
    /// Nothing added yet.
    pub fn new(shape: GridShape) -> Self {
        Self {
            shape,
            values: vec![[0.0; 3]; shape.len()],
        }
    }

    /// Adds a shard. The order of shards is part of the result's last bits.
    pub fn add(&mut self, partial: &Accumulator) -> Result<(), ShapesDiffer> {
        self.check(partial.shape)?;
        for (sum, value) in self.values.iter_mut().zip(partial.values.chunks_exact(3)) {
            for (sum, value) in sum.iter_mut().zip(value) {
                *sum += f64::from(*value);
            }
        }
        Ok(())
    }

    /// The same of a shard that came as bytes: it is never in memory twice.
    pub fn add_partial(&mut self, partial: &Partial<'_>) -> Result<(), ShapesDiffer> {
        self.check(partial.shape())?;
        for (points, row) in partial.rows() {
            let sums = self.values[points].iter_mut().flatten();
            for (sum, value) in sums.zip(row) {
                *sum += f64::from(value);
            }
        }
        Ok(())
    }

    fn check(&self, shape: GridShape) -> Result<(), ShapesDiffer> {
        if shape == self.shape {
            return Ok(());
        }
        Err(ShapesDiffer {
            expected: self.shape,
            found: shape,
        })
    }

    /// Joins Hermitian mates, then adds up what the operators of a point group (the identity among them, or none at all)
    /// make of the whole.
    pub fn merge(mut self, operators: &[Matrix3<f64>]) -> MergedSums {
        self.join_mates();
        if operators.len() < 2 {
            return MergedSums {
                shape: self.shape,
                values: self.values.into_iter().map(narrow).collect(),
                interpolated_share: 0.0,
            };
        }
        let shape = self.shape;
        let mut values = vec![[0.0; 3]; shape.len()];
        for (y, z, count) in shape.rows_within(shape.radius()) {
            let start = shape.row_start(y, z);
            for (x, out) in values[start..start + count].iter_mut().enumerate() {
                let q = Vector3::new(x as f64, y as f64, z as f64);
                let mut sums = [0.0; 3];
                for operator in operators {
                    let moved = self.at(operator * q);
                    for (sum, value) in sums.iter_mut().zip(moved) {
                        *sum += value;
                    }
                }
                *out = narrow(sums);
            }
        }
        let interpolating = operators
            .iter()
            .filter(|operator| !maps_grid_onto_itself(operator))
            .count();
        MergedSums {
            shape,
            values,
            interpolated_share: interpolating as f64 / operators.len() as f64,
        }
    }

    /// Adds to each point of the plane x = 0 what was put at its mate (0, -y, -z).
    fn join_mates(&mut self) {
        let reach = self.shape.reach() as isize;
        for z in 0..=reach {
            for y in -reach..=reach {
                if z == 0 && y < 0 {
                    continue;
                }
                let (here, there) = (self.shape.row_start(y, z), self.shape.row_start(-y, -z));
                let (a, b) = (self.values[here], self.values[there]);
                let joined = [a[0] + b[0], a[1] - b[1], a[2] + b[2]];
                self.values[here] = joined;
                self.values[there] = [joined[0], -joined[1], joined[2]];
            }
        }
    }

    /// Trilinear at a grid position within the radius, by the mate where x is negative.
    fn at(&self, q: Vector3<f64>) -> [f64; 3] {
        let sign = if q.x < 0.0 { -1.0 } else { 1.0 };
        let last = self.shape.reach() - 1;
        let split = |value: f64, offset: usize| {
            let position = value * sign + offset as f64;
            let floor = (position as usize).min(offset + last);
            (floor, position - floor as f64)
        };
        let (x0, fx) = split(q.x, 0);
        let (y0, fy) = split(q.y, self.shape.reach());
        let (z0, fz) = split(q.z, self.shape.reach());
        let (row, plane) = (self.shape.row_len(), self.shape.plane_len());
        let start = z0 * plane + y0 * row + x0;
        let mut out = [0.0; 3];
        for (dz, wz) in [(0, 1.0 - fz), (plane, fz)] {
            for (dy, wy) in [(0, 1.0 - fy), (row, fy)] {
                for (dx, wx) in [(0, 1.0 - fx), (1, fx)] {
                    let value = self.values[start + dz + dy + dx];
                    let weight = wz * wy * wx;
                    for (sum, value) in out.iter_mut().zip(value) {
                        *sum += weight * value;
                    }
                }
            }
        }
        [out[0], out[1] * sign, out[2]]
    }
}

fn narrow(point: [f64; 3]) -> [f32; 3] {
    point.map(|value| value as f32)
}

/// Sums of a whole half-set, complete: what a map is made from. In f32, since nothing more is added and grids are large.
#[derive(Debug, Clone)]
pub struct MergedSums {
    shape: GridShape,
    values: Vec<[f32; 3]>,
    /// The part of the operators that carried no grid point onto another: what they added was interpolated again.
    interpolated_share: f64,
}

impl MergedSums {
    /// The grid's shape.
    pub fn shape(&self) -> GridShape {
        self.shape
    }

    /// sigma2 of the reconstruction, 1 / (p³ mean W), in each shell from 0 to the limit: the variance of each part of
    /// its transform that the images' noise leaves. Infinite where nothing was inserted.
    pub fn sigma2(&self) -> Vec<f64> {
        let volume = padding_volume(&self.shape);
        self.mean_weight()
            .iter()
            .map(|weight| 1.0 / (volume * weight))
            .collect()
    }

    /// The map: undone are the CTF, the uneven coverage, and the interpolation's trace; its corners are rounded off.
    pub fn reconstruct(&self, prior: Prior<'_>) -> Volume {
        let shape = &self.shape;
        let padded_n = shape.padded_n();
        let mut half = vec![Complex32::ZERO; half_space_len(padded_n)];
        let denominators = self.denominators(prior);
        for (y, z, count) in shape.rows_within(shape.radius()) {
            let source = shape.row_start(y, z);
            let target = (frequency_index(z, padded_n) * padded_n + frequency_index(y, padded_n))
                * (padded_n / 2 + 1);
            for x in 0..count {
                let [re, im, weight] = self.values[source + x].map(f64::from);
                if let Some((floor, damping)) = denominators[shape.shell(x, y, z)] {
                    let denominator = weight.max(floor) + damping;
                    half[target + x] =
                        Complex32::new((re / denominator) as f32, (im / denominator) as f32);
                }
            }
        }
        let mut padded = vec![0.0; padded_n * padded_n * padded_n];
        RealFft3::new(padded_n)
            .expect("a grid's padded box is a box")
            .inverse(&mut half, &mut padded);
        let padded = Volume::new(padded_n, padded).expect("the padded box has that many voxels");
        let mut map = padded.resized(shape.n()).expect("a grid's box is a box");
        gridding::correct_twice(&mut map, padded_n, self.interpolated_share);
        let radius = shape.n() as f64 / 2.0 - CORNER_EDGE_PX;
        mask::apply(
            &mut map,
            &mask::spherical(shape.n(), radius, CORNER_EDGE_PX).expect("a grid's box is a box"),
        );
        map
    }

    /// (re, im, weight) at grid point (x, y, z).
    #[cfg(test)]
    pub(super) fn point(&self, x: usize, y: isize, z: isize) -> [f64; 3] {
        self.values[self.shape.row_start(y, z) + x].map(f64::from)
    }

    /// For each shell the least weight and what the prior adds to every weight; none where the result is nothing.
    fn denominators(&self, prior: Prior<'_>) -> Vec<Option<(f64, f64)>> {
        let volume = padding_volume(&self.shape);
        let damping = |shell: usize| match prior {
            Prior::Tau2(tau2) if shell >= PRIOR_FIRST_SHELL => {
                let power = tau2.get(shell).copied().unwrap_or(0.0);
                (power > 0.0).then(|| 1.0 / (volume * power))
            }
            _ => Some(0.0),
        };
        let floors = self
            .mean_weight()
            .into_iter()
            .map(|weight| WEIGHT_FLOOR * weight);
        floors
            .enumerate()
            .map(|(shell, floor)| {
                if floor > 0.0 {
                    Some((floor, damping(shell)?))
                } else {
                    None
                }
            })
            .collect()
    }

    /// The mean weight of each shell's grid points, from 0 to the limit.
    fn mean_weight(&self) -> Vec<f64> {
        let shape = &self.shape;
        let mut sums = vec![(0.0, 0.0); shape.r_max() + 1];
        for (y, z, count) in shape.rows_within(shape.radius()) {
            let start = shape.row_start(y, z);
            for x in 0..count {
                let sum = &mut sums[shape.shell(x, y, z)];
                // Off the plane x = 0 the stored half stands for both.
                let multiplicity = if x == 0 { 1.0 } else { 2.0 };
                sum.0 += multiplicity * f64::from(self.values[start + x][2]);
                sum.1 += multiplicity;
            }
        }
        sums.iter().map(|(weight, count)| weight / count).collect()
    }
}

/// tau2 of each shell from the half-maps' FSC: SSNR sigma2, SSNR = FSC / (1 - FSC), with the FSC kept within
/// [0.001, 0.999]. 0 where the sums or the curve end.
pub fn tau2_from_fsc(fsc: &[f64], sums: &MergedSums) -> Vec<f64> {
    let of_shell = |(fsc, sigma2): (&f64, f64)| {
        let fsc = fsc.clamp(0.001, 0.999);
        if sigma2.is_finite() {
            fsc / (1.0 - fsc) * sigma2
        } else {
            0.0
        }
    };
    fsc.iter().zip(sums.sigma2()).map(of_shell).collect()
}

/// Whether every element is 0 or ±1, but for rounding.
fn maps_grid_onto_itself(operator: &Matrix3<f64>) -> bool {
    operator
        .iter()
        .all(|element| (element - libm::round(*element)).abs() < 1e-6)
}

/// p³: how many grid points share what one Fourier pixel was given.
fn padding_volume(shape: &GridShape) -> f64 {
    let padding = shape.padding();
    padding * padding * padding
}
