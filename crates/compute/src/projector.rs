//! Central slices of a map's Fourier transform.
//!
//! The map is corrected for what trilinear interpolation will do to it, padded, and transformed once; slices are then
//! interpolated: P(kx, ky) = V(Aᵀ(kx, ky, 0)). Frequencies are in Fourier pixels of the *unpadded* box, values those of
//! the plain (unnormalised) transform of the map, so a slice is the transform of the map's projection, on its scale.

use multiversion::multiversion;
use num_complex::Complex32;
use thiserror::Error;

use crate::fft::{RealFft3, frequency_index, half_plane_len, half_space_len};
use crate::gridding;
use crate::orientation::Rotation;
use crate::volume::{SizeError, Volume};

/// Points interpolated together: what an AVX2 register holds of f32.
const LANES: usize = 8;

/// Why a map cannot be projected.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ProjectorError {
    /// The padding is not one that is of use.
    #[error("padding {0} is not between 1 and 4")]
    Padding(f64),
    /// The limit is beyond what the map holds.
    #[error("frequency limit {k_max} px is not between 1 and {limit} px")]
    Limit {
        /// The limit asked for.
        k_max: usize,
        /// The highest that is complete in every direction: (n - 1) / 2.
        limit: usize,
    },
    /// The padded box is too large.
    #[error(transparent)]
    Size(#[from] SizeError),
}

/// A map's transform, ready to be sliced.
#[derive(Debug, Clone)]
pub struct Projector {
    n: usize,
    k_max: usize,
    grid: Grid,
}

/// The half kx >= 0 of a transform, sampled `step` times as densely as the unpadded box does, as (re, im) pairs.
#[derive(Debug, Clone)]
struct Grid {
    /// Grid points per Fourier pixel.
    step: f32,
    /// y and z reach from -`reach` to `reach`, x from 0 to `reach`: every neighbour of every point within the limit.
    reach: usize,
    /// Squared, the farthest a point may lie from the origin, in grid points.
    radius2_max: f32,
    values: Vec<f32>,
}

impl Projector {
    /// Prepares `volume` for slices out to `k_max` Fourier pixels. `padding` 2 is accurate to about 1 %, 1.5 to 2 %, 1 to
    /// 4 % (more at the edge of the box).
    pub fn new(volume: &Volume, k_max: usize, padding: f64) -> Result<Self, ProjectorError> {
        let n = volume.n();
        let limit = (n - 1) / 2;
        if !(1.0..=4.0).contains(&padding) {
            return Err(ProjectorError::Padding(padding));
        }
        if k_max == 0 || k_max > limit {
            return Err(ProjectorError::Limit { k_max, limit });
        }
        let padded_n = gridding::padded_size(n, padding);
        let mut fft = RealFft3::new(padded_n)?;
        let mut corrected = volume.clone();
        gridding::correct(&mut corrected, padded_n);
        let padded = corrected.resized(padded_n)?;
        let mut half = vec![Complex32::ZERO; half_space_len(padded_n)];
        fft.forward(padded.data(), &mut half);
        Ok(Self {
            n,
            k_max,
            grid: Grid::cut(&half, padded_n, n, k_max),
        })
    }

    /// The edge of the map, in voxels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The highest frequency that is not zero, in Fourier pixels.
    pub fn k_max(&self) -> usize {
        self.k_max
    }

    /// The slice seen at `rotation` as a half-plane (see [`crate::fft`]) of box `n`: zero beyond `k_max` or the
    /// projector's own limit, whichever is lower. A box smaller than the map's holds the low frequencies of the same
    /// slice, on the same scale.
    ///
    /// # Panics
    /// If `out` is not a half-plane of box `n`.
    pub fn slice(&self, rotation: &Rotation, n: usize, k_max: usize, out: &mut [Complex32]) {
        assert_eq!(out.len(), half_plane_len(n), "half-plane");
        out.fill(Complex32::ZERO);
        let k_max = k_max.min(self.k_max).min((n - 1) / 2) as isize;
        let plane = self.grid.plane(rotation);
        for ky in -k_max..=k_max {
            let width = libm::sqrt((k_max * k_max - ky * ky) as f64) as usize;
            let row = frequency_index(ky, n) * (n / 2 + 1);
            interpolate_row(&self.grid, &plane, ky as f32, &mut out[row..=row + width]);
        }
    }

    /// The slice seen at `rotation` at the in-plane frequencies `points` (kx, ky), in Fourier pixels. Points beyond the
    /// limit are zero.
    ///
    /// # Panics
    /// If `out` is not as long as `points`.
    pub fn sample_plane(&self, rotation: &Rotation, points: &[[f32; 2]], out: &mut [Complex32]) {
        assert_eq!(points.len(), out.len(), "points");
        interpolate_points(&self.grid, &self.grid.plane(rotation), points, out);
    }

    /// The slice seen at `rotation` at up to [`GRADIENT_POINTS`] in-plane frequencies, with its derivatives. What is beyond
    /// the limit, or beyond the last of `points`, is zero.
    ///
    /// # Panics
    /// If there are more points.
    pub fn sample_gradient(
        &self,
        rotation: &Rotation,
        points: &[[f32; 2]],
        out: &mut GradientBlock,
    ) {
        assert!(points.len() <= GRADIENT_POINTS, "points");
        differentiate_points(&self.grid, &self.grid.plane(rotation), points, out);
    }

    /// The map's transform at the frequency `k` in the map's own frame, in Fourier pixels; zero beyond the limit.
    pub fn sample(&self, k: [f32; 3]) -> Complex32 {
        let mut values = [Complex32::ZERO; LANES];
        let positions = k.map(|component| [component * self.grid.step; LANES]);
        self.grid.at(&positions, &mut values);
        values[0]
    }
}

/// The two in-plane axes of a slice and its normal, in grid points per Fourier pixel.
struct Plane {
    along_x: [f32; 3],
    along_y: [f32; 3],
    along_z: [f32; 3],
}

/// In-plane points whose slice and derivatives are taken together: few enough to stay in the first-level cache.
pub const GRADIENT_POINTS: usize = 64;

/// A stretch of a slice, and how each value changes as its point moves along the image's axes, for each Fourier pixel of
/// way. First real parts, then imaginary ones.
#[derive(Debug, Clone)]
pub struct GradientBlock {
    /// The slice.
    pub value: [[f32; GRADIENT_POINTS]; 2],
    /// Its derivatives along the image's x and y, and along the view.
    pub slopes: [[[f32; GRADIENT_POINTS]; 2]; 3],
}

impl Default for GradientBlock {
    fn default() -> Self {
        let nothing = [[0.0; GRADIENT_POINTS]; 2];
        Self {
            value: nothing,
            slopes: [nothing; 3],
        }
    }
}

impl Grid {
    /// Keeps the part of a padded transform that slices out to `k_max` can touch.
    fn cut(half: &[Complex32], padded_n: usize, n: usize, k_max: usize) -> Self {
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

    fn plane(&self, rotation: &Rotation) -> Plane {
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
    fn at(&self, q: &[[f32; LANES]; 3], out: &mut [Complex32; LANES]) {
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
fn interpolate_row(grid: &Grid, plane: &Plane, ky: f32, out: &mut [Complex32]) {
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
fn interpolate_points(grid: &Grid, plane: &Plane, points: &[[f32; 2]], out: &mut [Complex32]) {
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
fn differentiate_points(grid: &Grid, plane: &Plane, points: &[[f32; 2]], out: &mut GradientBlock) {
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

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    /// A Gaussian of width `sigma` voxels at `centre`, and its transform at a frequency in cycles per voxel.
    fn gaussian(n: usize, sigma: f64, centre: [f64; 3]) -> Volume {
        Volume::from_fn(n, |x, y, z| {
            let r2 = (x - centre[0]).powi(2) + (y - centre[1]).powi(2) + (z - centre[2]).powi(2);
            libm::exp(-r2 / (2.0 * sigma * sigma))
        })
        .unwrap()
    }

    fn gaussian_transform(sigma: f64, centre: [f64; 3], s: [f64; 3]) -> num_complex::Complex64 {
        let s2: f64 = s.iter().map(|c| c * c).sum();
        let amplitude =
            (2.0 * PI * sigma * sigma).powf(1.5) * (-2.0 * PI * PI * sigma * sigma * s2).exp();
        let angle = -2.0 * PI * (s[0] * centre[0] + s[1] * centre[1] + s[2] * centre[2]);
        num_complex::Complex64::from_polar(amplitude, angle)
    }

    /// The error of all coefficients of a few slices, over their own size.
    fn slice_error(padding: f64) -> f64 {
        let (n, sigma, centre) = (32, 1.5, [5.0, -3.0, 2.0]);
        let projector = Projector::new(&gaussian(n, sigma, centre), 12, padding).unwrap();
        let mut out = vec![Complex32::ZERO; half_plane_len(n)];
        let (mut error, mut power) = (0.0, 0.0);
        for rotation in [
            Rotation::from_euler_deg(20.0, 70.0, -130.0),
            Rotation::from_euler_deg(-101.0, 160.0, 45.0),
        ] {
            projector.slice(&rotation, n, 12, &mut out);
            for ky in -12_isize..=12 {
                for kx in 0..=12_usize {
                    let got = out[frequency_index(ky, n) * (n / 2 + 1) + kx];
                    if kx as isize * kx as isize + ky * ky > 144 {
                        assert_eq!(got, Complex32::ZERO);
                        continue;
                    }
                    let s = rotation.0.transpose()
                        * nalgebra::Vector3::new(kx as f64, ky as f64, 0.0)
                        / n as f64;
                    let expected = gaussian_transform(sigma, centre, [s.x, s.y, s.z]);
                    error += (num_complex::Complex64::new(got.re.into(), got.im.into()) - expected)
                        .norm_sqr();
                    power += expected.norm_sqr();
                }
            }
        }
        (error / power).sqrt()
    }

    #[test]
    fn slices_of_a_gaussian_are_its_transform() {
        let (two, one) = (slice_error(2.0), slice_error(1.0));
        // What trilinear interpolation leaves of an object well off the centre; wrong axes or phases give above 1.
        assert!(two < 0.02, "padding 2: {two}");
        assert!(one < 0.12 && one > 2.0 * two, "padding 1: {one}");
    }

    #[test]
    fn a_slice_is_the_transform_of_the_projection_sum() {
        // Unrotated, the projection is the plain sum over z: the scale and the axes are the map's.
        let n = 24;
        let map = gaussian(n, 1.4, [2.0, 1.0, -1.0]);
        let mut image = vec![0.0; n * n];
        for plane in map.data().chunks_exact(n * n) {
            for (sum, grey) in image.iter_mut().zip(plane) {
                *sum += grey;
            }
        }
        let mut expected = vec![Complex32::ZERO; half_plane_len(n)];
        crate::fft::RealFft2::new(n)
            .unwrap()
            .forward(&image, &mut expected);
        let mut slice = expected.clone();
        Projector::new(&map, 11, 2.0)
            .unwrap()
            .slice(&Rotation::identity(), n, 11, &mut slice);
        // Here every other sample falls on a grid point, which the correction leaves too large by 1/sinc².
        let peak = expected[0].re;
        for (got, want) in slice
            .iter()
            .zip(&expected)
            .filter(|(got, _)| **got != Complex32::ZERO)
        {
            assert!((got - want).norm() < 0.02 * peak);
        }
    }

    #[test]
    fn a_rotated_map_seen_unrotated_is_the_map_seen_rotated() {
        // 90 degrees about y carries voxels onto voxels: V'(x, y, z) = V(A^T (x, y, z)).
        let n = 25;
        let rotation = Rotation::from_euler_deg(0.0, 90.0, 0.0);
        let centre = nalgebra::Vector3::new(5.0, -3.0, 1.0);
        let moved = rotation.0 * centre;
        let map = gaussian(n, 1.5, [5.0, -3.0, 1.0]);
        let turned = gaussian(n, 1.5, [moved.x, moved.y, moved.z]);
        let (mut a, mut b) = (
            vec![Complex32::ZERO; half_plane_len(n)],
            vec![Complex32::ZERO; half_plane_len(n)],
        );
        Projector::new(&map, 10, 2.0)
            .unwrap()
            .slice(&rotation, n, 10, &mut a);
        Projector::new(&turned, 10, 2.0)
            .unwrap()
            .slice(&Rotation::identity(), n, 10, &mut b);
        assert!(
            a.iter()
                .zip(&b)
                .all(|(a, b)| (a - b).norm() < 1e-4 * b.norm().max(1.0))
        );
        assert!(a[1].norm() > 1.0);
    }

    #[test]
    fn rows_points_and_single_samples_agree_to_the_bit() {
        let n = 20;
        let projector = Projector::new(&gaussian(n, 1.2, [2.0, 3.0, -4.0]), 8, 1.5).unwrap();
        let rotation = Rotation::from_euler_deg(10.0, 40.0, 80.0);
        let mut slice = vec![Complex32::ZERO; half_plane_len(n)];
        projector.slice(&rotation, n, 8, &mut slice);
        let points: Vec<[f32; 2]> = (0..8).map(|k| [k as f32, 3.0 - k as f32]).collect();
        let mut ring = vec![Complex32::ZERO; points.len()];
        projector.sample_plane(&rotation, &points, &mut ring);
        for (point, value) in points.iter().zip(&ring) {
            let row = frequency_index(point[1] as isize, n) * (n / 2 + 1);
            assert_eq!(*value, slice[row + point[0] as usize]);
        }
        // The Hermitian mate, and what lies outside.
        assert_eq!(
            projector.sample([-1.5, 2.0, 3.0]),
            projector.sample([1.5, -2.0, -3.0]).conj()
        );
        assert_eq!(projector.sample([8.1, 0.0, 0.0]), Complex32::ZERO);
        assert_eq!(
            projector.sample([f32::NAN, 0.0, f32::INFINITY]),
            Complex32::ZERO
        );
        // A smaller box has the same low frequencies.
        let mut small = vec![Complex32::ZERO; half_plane_len(10)];
        projector.slice(&rotation, 10, 8, &mut small);
        assert_eq!(
            small[frequency_index(-2, 10) * 6 + 3],
            slice[frequency_index(-2, n) * 11 + 3]
        );
    }

    #[test]
    fn derivatives_are_those_of_the_slice() {
        let n = 20;
        let projector = Projector::new(&gaussian(n, 1.2, [2.0, 3.0, -4.0]), 8, 2.0).unwrap();
        let rotation = Rotation::from_euler_deg(130.0, 40.0, 80.0);
        // Off the grid's planes, where the slope of what is interpolated linearly has steps.
        let points: Vec<[f32; 2]> = (0..40)
            .map(|i| [(i % 8) as f32 - 3.63, (i / 8) as f32 - 2.29])
            .collect();
        let mut block = GradientBlock::default();
        projector.sample_gradient(&rotation, &points, &mut block);
        let h = 1e-2;
        for axis in 0..3 {
            let way = rotation.0.row(axis) * h;
            let (mut error, mut size) = (0.0, 0.0);
            for (i, point) in points.iter().enumerate() {
                let q = rotation.0.row(0) * f64::from(point[0])
                    + rotation.0.row(1) * f64::from(point[1]);
                let at = |q: nalgebra::RowVector3<f64>| {
                    projector.sample([q.x as f32, q.y as f32, q.z as f32])
                };
                assert!((at(q).re - block.value[0][i]).abs() < 1e-4 * at(q).norm());
                let slope = (at(q + way) - at(q - way)) / (2.0 * h as f32);
                let got = Complex32::new(block.slopes[axis][0][i], block.slopes[axis][1][i]);
                error += (slope - got).norm_sqr();
                size += slope.norm_sqr();
            }
            // A few of the points have a plane of the grid between the two sides.
            assert!(error < 0.01 * size, "axis {axis}: {error} of {size}");
        }
        assert_eq!(block.value[0][points.len()], 0.0);
    }

    #[test]
    fn unusable_limits_are_refused() {
        let map = Volume::zeros(8).unwrap();
        assert_eq!(
            Projector::new(&map, 4, 2.0).unwrap_err(),
            ProjectorError::Limit { k_max: 4, limit: 3 }
        );
        assert_eq!(
            Projector::new(&map, 3, 0.5).unwrap_err(),
            ProjectorError::Padding(0.5)
        );
        assert!(matches!(
            Projector::new(&map, 3, f64::NAN),
            Err(ProjectorError::Padding(_))
        ));
        assert!(Projector::new(&Volume::zeros(1).unwrap(), 1, 1.0).is_err());
    }
}
