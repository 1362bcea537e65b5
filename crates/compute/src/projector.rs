//! Central slices of a map's Fourier transform.
//!
//! The map is corrected for what trilinear interpolation will do to it, padded, and transformed once; slices are then
//! interpolated: P(kx, ky) = V(Aᵀ(kx, ky, 0)). Frequencies are in Fourier pixels of the *unpadded* box, values those of
//! the plain (unnormalised) transform of the map, so a slice is the transform of the map's projection, on its scale.

mod grid;

use num_complex::Complex32;
use thiserror::Error;

use crate::fft::{RealFft3, frequency_index, half_plane_len, half_space_len};
use crate::gridding;
use crate::orientation::Rotation;
use crate::volume::{SizeError, Volume};
use grid::{Grid, LANES, differentiate_points, interpolate_points, interpolate_row};

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
