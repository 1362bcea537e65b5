//! A padded transform and what lies between its points: trilinear interpolation, eight points at a time.

use multiversion::multiversion;
use num_complex::Complex32;

use super::{GRADIENT_POINTS, GradientBlock};
use crate::fft::frequency_index;
use crate::orientation::Rotation;

/// Points interpolated together: what an AVX2 register holds of f32.
pub(super) const LANES: usize = 8;

/// The half kx >= 0 of a transform, sampled `step` times as densely as the unpadded box does, as (re, im) pairs.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    /// Grid points per Fourier pixel.
    pub step: f32,
    /// y and z reach from -`reach` to `reach`, x from 0 to `reach`: every neighbour of every point within the limit.
    reach: usize,
    /// Squared, the farthest a point may lie from the origin, in grid points.
    radius2_max: f32,
    values: Vec<f32>,
}

/// The two in-plane axes of a slice and its normal, in grid points per Fourier pixel.
pub(super) struct Plane {
    along_x: [f32; 3],
    along_y: [f32; 3],
    along_z: [f32; 3],
}

impl Grid {
    /// Keeps the part of a padded transform that slices out to `k_max` can touch.
    pub fn cut(half: &[Complex32], padded_n: usize, n: usize, k_max: usize) -> Self {
        let step = padded_n as f64 / n as f64;
        // A little more than the radius, so that rounding loses no point that lies on it.
        let radius = k_max as f64 * step * (1.0 + 1e-5);
        let reach = libm::floor(radius) as usize + 1;
        let reach_signed = reach as isize;
        let row = padded_n / 2 + 1;
        let mut values = Vec::with_capacity(2 * (2 * reach + 1) * (2 * reach + 1) * (reach + 1));
        for z in -reach_signed..=reach_signed {
            for y in -reach_signed..=reach_signed {
                let start =
                    (frequency_index(z, padded_n) * padded_n + frequency_index(y, padded_n)) * row;
                values.extend(
                    half[start..=start + reach]
                        .iter()
                        .flat_map(|value| [value.re, value.im]),
                );
            }
        }
        Self {
            step: step as f32,
            reach,
            radius2_max: (radius * radius) as f32,
            values,
        }
    }

    pub fn plane(&self, rotation: &Rotation) -> Plane {
        let axis =
            |row: usize| [0, 1, 2].map(|column| rotation.0[(row, column)] as f32 * self.step);
        Plane {
            along_x: axis(0),
            along_y: axis(1),
            along_z: axis(2),
        }
    }

    /// The transform at eight grid positions (x, y and z of each): trilinear, by the Hermitian mate where x is negative,
    /// zero beyond the radius.
    #[inline(always)]
    pub fn at(&self, q: &[[f32; LANES]; 3], out: &mut [Complex32; LANES]) {
        let cells = self.cells(q);
        let [_, fy, fz] = &cells.fraction;
        let mut pair = [[0.0; LANES]; 4];
        for (component, pair) in pair.iter_mut().enumerate() {
            for (lane, value) in pair.iter_mut().enumerate() {
                let [a, b, c, d] = cells.corners_of(component, lane);
                let near = a + (b - a) * fy[lane];
                let far = c + (d - c) * fy[lane];
                *value = near + (far - near) * fz[lane];
            }
        }
        let fx = &cells.fraction[0];
        for (lane, value) in out.iter_mut().enumerate() {
            let [re, im, next_re, next_im] = [0, 1, 2, 3].map(|component| pair[component][lane]);
            value.re = (re + (next_re - re) * fx[lane]) * cells.inside[lane];
            value.im = (im + (next_im - im) * fx[lane]) * (cells.inside[lane] * cells.sign[lane]);
        }
    }

    /// The same, and its derivatives along x, y and z, for each grid point of the way. First real parts, then imaginary.
    #[expect(clippy::needless_range_loop, reason = "several arrays by one lane")]
    #[inline(always)]
    fn at_with_gradient(&self, q: &[[f32; LANES]; 3]) -> [[[f32; LANES]; 2]; 4] {
        let cells = self.cells(q);
        let [fx, fy, fz] = &cells.fraction;
        // Value, and derivatives along y and z, of both parts at both neighbours along x.
        let mut pairs = [[[0.0; LANES]; 4]; 3];
        for component in 0..4 {
            for lane in 0..LANES {
                let [a, b, c, d] = cells.corners_of(component, lane);
                let (along_near, along_far) = (b - a, d - c);
                let near = a + along_near * fy[lane];
                let far = c + along_far * fy[lane];
                pairs[0][component][lane] = near + (far - near) * fz[lane];
                pairs[1][component][lane] = along_near + (along_far - along_near) * fz[lane];
                pairs[2][component][lane] = far - near;
            }
        }
        let mut out = [[[0.0; LANES]; 2]; 4];
        for part in 0..2 {
            for lane in 0..LANES {
                let (inside, sign) = (cells.inside[lane], cells.sign[lane]);
                // The mate of V at -q is its conjugate: that turns the imaginary part of the value, and the real part of
                // every derivative.
                let (of_value, of_slope) = if part == 0 { (1.0, sign) } else { (sign, 1.0) };
                let slope = |kind: usize| pairs[kind][part + 2][lane] - pairs[kind][part][lane];
                let across = |kind: usize| pairs[kind][part][lane] + slope(kind) * fx[lane];
                out[0][part][lane] = across(0) * (inside * of_value);
                out[1][part][lane] = slope(0) * (inside * of_slope);
                out[2][part][lane] = across(1) * (inside * of_slope);
                out[3][part][lane] = across(2) * (inside * of_slope);
            }
        }
        out
    }

    /// What eight grid positions are interpolated from.
    #[inline(always)]
    fn cells(&self, q: &[[f32; LANES]; 3]) -> Cells {
        let reach = self.reach as f32;
        let row = 2 * (self.reach as i32 + 1);
        let plane = row * (2 * self.reach as i32 + 1);
        let (mut start, mut inside, mut sign) = ([0_i32; LANES], [0.0; LANES], [0.0; LANES]);
        let mut fraction = [[0.0; LANES]; 3];
        for lane in 0..LANES {
            let (x, y, z) = (q[0][lane], q[1][lane], q[2][lane]);
            // Written so that what is not a number is outside too. What is outside reads the grid's middle.
            let within = if x * x + y * y + z * z <= self.radius2_max {
                1.0
            } else {
                0.0
            };
            let towards = if x < 0.0 { -1.0 } else { 1.0 };
            let position = if within == 1.0 {
                [x * towards, y * towards, z * towards]
            } else {
                [0.0; 3]
            };
            // Not negative after the offset, so truncation is the floor.
            let (x, y, z) = (position[0], position[1] + reach, position[2] + reach);
            let (x0, y0, z0) = (x as i32, y as i32, z as i32);
            start[lane] = z0 * plane + y0 * row + 2 * x0;
            fraction[0][lane] = x - x0 as f32;
            fraction[1][lane] = y - y0 as f32;
            fraction[2][lane] = z - z0 as f32;
            inside[lane] = within;
            sign[lane] = towards;
        }
        // Two neighbours along x are four floats in a row; there are four such pairs.
        let mut corners = [[[0.0; LANES]; 4]; 4];
        for (corner, offset) in corners.iter_mut().zip([0, row, plane, plane + row]) {
            for lane in 0..LANES {
                let at = (start[lane] + offset) as usize;
                let four = &self.values[at..at + 4];
                for (component, value) in corner.iter_mut().zip(four) {
                    component[lane] = *value;
                }
            }
        }
        Cells {
            corners,
            fraction,
            inside,
            sign,
        }
    }
}

/// Eight cells of the grid, and where in them a position lies.
struct Cells {
    /// For each of the corners (y, z), (y + 1, z), (y, z + 1), (y + 1, z + 1): real and imaginary part at x, then at x + 1.
    corners: [[[f32; LANES]; 4]; 4],
    /// Along x, y and z.
    fraction: [[f32; LANES]; 3],
    /// 1 within the radius, else 0.
    inside: [f32; LANES],
    /// -1 where the mate was read.
    sign: [f32; LANES],
}

impl Cells {
    #[inline(always)]
    fn corners_of(&self, component: usize, lane: usize) -> [f32; 4] {
        [0, 1, 2, 3].map(|corner| self.corners[corner][component][lane])
    }
}

/// The grid positions of eight in-plane points.
#[inline(always)]
fn on_plane(plane: &Plane, kx: &[f32; LANES], ky: &[f32; LANES]) -> [[f32; LANES]; 3] {
    let mut q = [[0.0; LANES]; 3];
    for (axis, q) in q.iter_mut().enumerate() {
        for lane in 0..LANES {
            q[lane] = plane.along_x[axis] * kx[lane] + plane.along_y[axis] * ky[lane];
        }
    }
    q
}

// No fused multiply-add is written, and the compiler makes none by itself: both versions give the same bits.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn interpolate_row(grid: &Grid, plane: &Plane, ky: f32, out: &mut [Complex32]) {
    let mut values = [Complex32::ZERO; LANES];
    let mut kx = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
    for chunk in out.chunks_mut(LANES) {
        grid.at(&on_plane(plane, &kx, &[ky; LANES]), &mut values);
        chunk.copy_from_slice(&values[..chunk.len()]);
        for kx in &mut kx {
            *kx += LANES as f32;
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn interpolate_points(
    grid: &Grid,
    plane: &Plane,
    points: &[[f32; 2]],
    out: &mut [Complex32],
) {
    let mut values = [Complex32::ZERO; LANES];
    for (chunk, points) in out.chunks_mut(LANES).zip(points.chunks(LANES)) {
        let (mut kx, mut ky) = ([0.0; LANES], [0.0; LANES]);
        for (lane, point) in points.iter().enumerate() {
            (kx[lane], ky[lane]) = (point[0], point[1]);
        }
        grid.at(&on_plane(plane, &kx, &ky), &mut values);
        chunk.copy_from_slice(&values[..chunk.len()]);
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn differentiate_points(
    grid: &Grid,
    plane: &Plane,
    points: &[[f32; 2]],
    out: &mut GradientBlock,
) {
    // Beyond every limit: there a slice and its derivatives are zero.
    const NOWHERE: f32 = 1e9;
    for first in (0..GRADIENT_POINTS).step_by(LANES) {
        let (mut kx, mut ky) = ([NOWHERE; LANES], [0.0; LANES]);
        for (lane, point) in points.iter().skip(first).take(LANES).enumerate() {
            (kx[lane], ky[lane]) = (point[0], point[1]);
        }
        let [value, slopes @ ..] = grid.at_with_gradient(&on_plane(plane, &kx, &ky));
        for part in 0..2 {
            out.value[part][first..first + LANES].copy_from_slice(&value[part]);
            for (axis, along) in [plane.along_x, plane.along_y, plane.along_z]
                .iter()
                .enumerate()
            {
                let target = &mut out.slopes[axis][part][first..first + LANES];
                for (lane, slope) in target.iter_mut().enumerate() {
                    *slope = along[0] * slopes[0][part][lane]
                        + along[1] * slopes[1][part][lane]
                        + along[2] * slopes[2][part][lane];
                }
            }
        }
    }
}
