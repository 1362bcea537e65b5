//! Insertion of particles: the slices of one shard added up in f32.

use multiversion::multiversion;
use num_complex::Complex32;

use super::GridShape;
use crate::fft::{frequency_index, half_plane_len, shift_phase};
use crate::orientation::Rotation;

/// One particle at one pose, to be inserted.
#[derive(Debug, Clone, Copy)]
pub struct Insertion<'a> {
    /// The image's half-plane (see [`crate::fft`]), of the grid's box: unmasked.
    pub image: &'a [Complex32],
    /// The CTF on the same half-plane.
    pub ctf: &'a [f32],
    /// Whether the image has been multiplied by it already.
    pub is_multiplied: bool,
    /// 1 / sigma2 of each shell from 0 to the grid's limit at least.
    pub inverse_sigma2: &'a [f32],
    /// How the particle lies.
    pub rotation: &'a Rotation,
    /// The shift (x, y) that centres the particle, in pixels.
    pub shift_px: [f64; 2],
    /// The weight of this pose among the particle's.
    pub weight: f32,
}

/// Sums over the particles of one shard: num and W on a padded half grid.
///
/// The plane x = 0 holds each point beside its Hermitian mate, each with a part of the sum; [`super::Sums`] joins them,
/// once, when everything has been added.
#[derive(Debug, Clone, PartialEq)]
pub struct Accumulator {
    pub(super) shape: GridShape,
    /// (re, im, weight) of each grid point.
    pub(super) values: Vec<f32>,
}

impl Accumulator {
    /// Nothing inserted yet.
    pub fn new(shape: GridShape) -> Self {
        Self {
            shape,
            values: vec![0.0; 3 * shape.len()],
        }
    }

    /// The grid's shape.
    pub fn shape(&self) -> GridShape {
        self.shape
    }

    /// Adds a particle.
    ///
    /// # Panics
    /// If the image or the CTF is not a half-plane of the grid's box, or sigma2 does not reach the grid's limit.
    pub fn insert(&mut self, particle: &Insertion<'_>) {
        let n = self.shape.n();
        let r_max = self.shape.r_max();
        assert_eq!(particle.image.len(), half_plane_len(n), "image");
        assert_eq!(particle.ctf.len(), half_plane_len(n), "ctf");
        assert!(
            particle.inverse_sigma2.len() > r_max,
            "sigma2 ends before the limit"
        );
        let phases_x: Vec<Complex32> = (0..=r_max)
            .map(|k| shift_phase(k as isize, n, particle.shift_px[0]))
            .collect();
        let limit = r_max as isize;
        for ky in -limit..=limit {
            let width = libm::sqrt((limit * limit - ky * ky) as f64) as usize + 1;
            let start = frequency_index(ky, n) * (n / 2 + 1);
            let row = Row {
                ky,
                image: &particle.image[start..start + width],
                ctf: &particle.ctf[start..start + width],
                is_multiplied: particle.is_multiplied,
                phases_x: &phases_x,
                phase_y: shift_phase(ky, n, particle.shift_px[1]) * particle.weight,
                weight: particle.weight,
                inverse_sigma2: particle.inverse_sigma2,
            };
            insert_row(
                &mut self.values,
                &self.shape,
                &axes(particle.rotation, &self.shape),
                &row,
            );
        }
    }
}

/// A row of an image's half-plane, on its way into the grid.
struct Row<'a> {
    ky: isize,
    image: &'a [Complex32],
    ctf: &'a [f32],
    is_multiplied: bool,
    phases_x: &'a [Complex32],
    /// Times the weight of the pose.
    phase_y: Complex32,
    weight: f32,
    inverse_sigma2: &'a [f32],
}

/// The image's axes in the grid, in grid points per Fourier pixel.
fn axes(rotation: &Rotation, shape: &GridShape) -> [[f32; 3]; 2] {
    [0, 1].map(|row| [0, 1, 2].map(|column| (rotation.0[(row, column)] * shape.padding()) as f32))
}

// No fused multiply-add is written, and the compiler makes none by itself: both versions give the same bits.
#[multiversion(targets("x86_64+avx2+fma"))]
fn insert_row(values: &mut [f32], shape: &GridShape, axes: &[[f32; 3]; 2], row: &Row<'_>) {
    // Of the column kx = 0 only the half ky >= 0 is new; the other half is its mate. The origin is its own, and is
    // counted twice when mates are joined: half of it is inserted.
    let first = usize::from(row.ky < 0);
    for kx in first..row.image.len() {
        let share = if kx == 0 && row.ky == 0 { 0.5 } else { 1.0 };
        let shell = ((kx * kx) as f32 + (row.ky * row.ky) as f32).sqrt() + 0.5;
        let ctf = row.ctf[kx];
        let precision = row.inverse_sigma2[shell as usize] * share;
        let factor = ctf * precision;
        let of_data = if row.is_multiplied { precision } else { factor };
        let value = row.image[kx] * row.phases_x[kx] * row.phase_y * of_data;
        let weight = ctf * factor * row.weight;
        let q =
            std::array::from_fn(|axis| axes[0][axis] * kx as f32 + axes[1][axis] * row.ky as f32);
        spread(values, shape, q, [value.re, value.im, weight]);
    }
}

/// Adds (re, im, weight) to the eight neighbours of grid position `q`, or its mate to those of -q.
#[inline(always)]
fn spread(values: &mut [f32], shape: &GridShape, q: [f32; 3], [re, im, weight]: [f32; 3]) {
    let sign = if q[0] < 0.0 { -1.0 } else { 1.0 };
    let reach = shape.reach() as f32;
    let (x, y, z) = (q[0] * sign, q[1] * sign + reach, q[2] * sign + reach);
    // Not negative after the offset, so truncation is the floor; i32 converts both ways in one instruction.
    let (x0, y0, z0) = (x as i32, y as i32, z as i32);
    let (fx, fy, fz) = (x - x0 as f32, y - y0 as f32, z - z0 as f32);
    let item = [re, im * sign, weight];
    let row = 3 * shape.row_len();
    let plane = 3 * shape.plane_len();
    let start = z0 as usize * plane + y0 as usize * row + 3 * x0 as usize;
    let (gx, gy, gz) = (1.0 - fx, 1.0 - fy, 1.0 - fz);
    for (offset, part) in [
        (0, gy * gz),
        (row, fy * gz),
        (plane, gy * fz),
        (plane + row, fy * fz),
    ] {
        let cells = &mut values[start + offset..start + offset + 6];
        for (lane, cell) in cells.iter_mut().enumerate() {
            *cell += item[lane % 3] * (part * if lane < 3 { gx } else { fx });
        }
    }
}
