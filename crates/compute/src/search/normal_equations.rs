//! The normal equations of a pose: how well a slice explains an image, and how that changes with rotation, shift and scale.

use std::f64::consts::TAU;

use num_complex::Complex32;

use crate::projector::{GRADIENT_POINTS, GradientBlock};

/// Rotation about the image's x, y and view; shift along x and y; the reference's grey scale.
pub(super) const PARAMETERS: usize = 6;

/// Where the parameters that make a pose end.
pub(super) const POSE_PARAMETERS: usize = 5;

/// e^{-2πi k·shift/n}, what centres an image, for whole frequencies: products of a factor along x and one along y.
pub(super) struct Phases {
    limit: isize,
    factors: [Vec<Complex32>; 2],
}

impl Phases {
    pub fn new(n: usize, shift_px: [f64; 2]) -> Self {
        let limit = n as isize / 2;
        let factors = shift_px.map(|shift| {
            let turn = -TAU * shift / n as f64;
            (-limit..=limit)
                .map(|k| {
                    let (sin, cos) = libm::sincos(turn * k as f64);
                    Complex32::new(cos as f32, sin as f32)
                })
                .collect()
        });
        Self { limit, factors }
    }

    pub fn at(&self, k: [f32; 2]) -> Complex32 {
        let factor = |axis: usize| self.factors[axis][(k[axis] as isize + self.limit) as usize];
        factor(0) * factor(1)
    }
}

/// A stretch of the image's side: its weighted data moved by the shift, and their weights.
pub(super) struct DataBlock {
    kx: [f32; GRADIENT_POINTS],
    ky: [f32; GRADIENT_POINTS],
    data: [[f32; GRADIENT_POINTS]; 2],
    power: [f32; GRADIENT_POINTS],
}

impl Default for DataBlock {
    fn default() -> Self {
        let nothing = [0.0; GRADIENT_POINTS];
        Self {
            kx: nothing,
            ky: nothing,
            data: [nothing; 2],
            power: nothing,
        }
    }
}

impl DataBlock {
    pub fn load(
        &mut self,
        points: &[[f32; 2]],
        data: &[Complex32],
        powers: &[f32],
        phases: &Phases,
    ) {
        // What is left of an earlier, longer stretch weighs nothing.
        self.power.fill(0.0);
        self.data = [[0.0; GRADIENT_POINTS]; 2];
        for (i, ((k, value), power)) in points.iter().zip(data).zip(powers).enumerate() {
            let moved = value * phases.at(*k);
            (self.kx[i], self.ky[i]) = (k[0], k[1]);
            (self.data[0][i], self.data[1][i]) = (moved.re, moved.im);
            self.power[i] = *power;
        }
    }
}

const LANES: usize = 8;

/// Sums over points, each in eight interleaved parts: an order of additions that vector units can follow.
pub(super) struct Sums {
    /// Re Σ y E_j*, y being the weighted data and E_j the derivative of P e^{2πi k·t/n} along parameter j; the last is P.
    pub towards: [[f64; LANES]; PARAMETERS],
    /// Re Σ w E_i E_j* for j <= i.
    pub products: [[f64; LANES]; PARAMETERS * (PARAMETERS + 1) / 2],
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            towards: [[0.0; LANES]; PARAMETERS],
            products: [[0.0; LANES]; PARAMETERS * (PARAMETERS + 1) / 2],
        }
    }
}

// No fused multiply-add is written, and the compiler makes none by itself: both versions give the same bits.
#[expect(clippy::needless_range_loop, reason = "several arrays by one lane")]
#[multiversion::multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn add_block(slice: &GradientBlock, data: &DataBlock, radians: f32, sums: &mut Sums) {
    let mut towards = [[0.0_f32; LANES]; PARAMETERS];
    let mut products = [[0.0_f32; LANES]; PARAMETERS * (PARAMETERS + 1) / 2];
    for first in (0..GRADIENT_POINTS).step_by(LANES) {
        let mut ways = [[[0.0_f32; LANES]; 2]; PARAMETERS];
        for lane in 0..LANES {
            let at = first + lane;
            let (kx, ky) = (data.kx[at], data.ky[at]);
            let value = [slice.value[0][at], slice.value[1][at]];
            for part in 0..2 {
                let [along_x, along_y, along_z] =
                    [0, 1, 2].map(|axis| slice.slopes[axis][part][at]);
                // A turn about an axis of the image moves point k by k × axis.
                ways[0][part][lane] = -ky * along_z;
                ways[1][part][lane] = kx * along_z;
                ways[2][part][lane] = ky * along_x - kx * along_y;
                ways[5][part][lane] = value[part];
            }
            // A shift turns phases: i (2π/n) k P.
            ways[3][0][lane] = -radians * kx * value[1];
            ways[3][1][lane] = radians * kx * value[0];
            ways[4][0][lane] = -radians * ky * value[1];
            ways[4][1][lane] = radians * ky * value[0];
        }
        let mut next = 0;
        for i in 0..PARAMETERS {
            let mut weighted = [[0.0_f32; LANES]; 2];
            for lane in 0..LANES {
                let at = first + lane;
                towards[i][lane] +=
                    data.data[0][at] * ways[i][0][lane] + data.data[1][at] * ways[i][1][lane];
                weighted[0][lane] = data.power[at] * ways[i][0][lane];
                weighted[1][lane] = data.power[at] * ways[i][1][lane];
            }
            for other in &ways[..=i] {
                for lane in 0..LANES {
                    products[next][lane] +=
                        weighted[0][lane] * other[0][lane] + weighted[1][lane] * other[1][lane];
                }
                next += 1;
            }
        }
    }
    for (sums, parts) in sums.towards.iter_mut().zip(&towards) {
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum += f64::from(*part);
        }
    }
    for (sums, parts) in sums.products.iter_mut().zip(&products) {
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum += f64::from(*part);
        }
    }
}
