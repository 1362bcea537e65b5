//! Real 2-D and 3-D Fourier transforms with their plans and scratch.
//!
//! Forward is the plain sum of f(x) e^(-2 pi i k x / n) with x counted **from the origin voxel n/2**, so phases are those
//! of a centred object and no sign flips are left to the caller; inverse divides by n² or n³ and undoes it. The result
//! keeps the half with kx >= 0: rows of n/2+1 values, row ky (and plane kz) at index ky, or ky + n where ky is negative.
//! This *half-plane* layout is the one all of Dewar's image transforms use.

use std::sync::Arc;

use num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner};

use crate::volume::{SizeError, check_box, check_image};

/// Columns transformed together: 16 complex values fill two cache lines of each row touched.
const BLOCK: usize = 16;

/// The number of values in a half-plane of box `n`.
pub const fn half_plane_len(n: usize) -> usize {
    n * (n / 2 + 1)
}

/// The number of values in a half-space of box `n`.
pub const fn half_space_len(n: usize) -> usize {
    n * half_plane_len(n)
}

/// The signed frequency of row `index` in box `n`: 0, 1, ..., then the negative ones. Nyquist counts as positive.
pub const fn signed_frequency(index: usize, n: usize) -> isize {
    if index <= n / 2 {
        index as isize
    } else {
        index as isize - n as isize
    }
}

/// The row of signed frequency `k` in box `n`; `k` lies within ±n/2.
pub const fn frequency_index(k: isize, n: usize) -> usize {
    if k < 0 {
        (k + n as isize) as usize
    } else {
        k as usize
    }
}

/// Cuts a half-plane of box `from_n` down to the lower frequencies of box `to_n <= from_n`. Values are unchanged, so
/// they stay on the scale of the larger box; the Nyquist row and column of the smaller box are zero.
///
/// # Panics
/// If the slices are not of these sizes, or `to_n` is larger.
pub fn crop_half_plane(from: &[Complex32], from_n: usize, to: &mut [Complex32], to_n: usize) {
    assert_eq!(from.len(), half_plane_len(from_n), "source half-plane");
    assert_eq!(to.len(), half_plane_len(to_n), "target half-plane");
    assert!(to_n <= from_n, "{to_n} px is no crop of {from_n} px");
    let k_max = (to_n - 1) / 2;
    let (from_row, to_row) = (from_n / 2 + 1, to_n / 2 + 1);
    to.fill(Complex32::ZERO);
    for ky in -(k_max as isize)..=k_max as isize {
        let source = frequency_index(ky, from_n) * from_row;
        let target = frequency_index(ky, to_n) * to_row;
        to[target..=target + k_max].copy_from_slice(&from[source..=source + k_max]);
    }
}

/// Multiplies a half-plane by e^(-2 pi i k·t / n): moves the image's content by `shift_px` = (x, y).
///
/// # Panics
/// If `half` is not a half-plane of box `n`.
pub fn shift_half_plane(half: &mut [Complex32], n: usize, shift_px: [f64; 2]) {
    assert_eq!(half.len(), half_plane_len(n), "half-plane");
    let row = n / 2 + 1;
    let along_x: Vec<Complex32> = (0..row)
        .map(|k| shift_phase(k as isize, n, shift_px[0]))
        .collect();
    for (index, values) in half.chunks_exact_mut(row).enumerate() {
        let along_y = shift_phase(signed_frequency(index, n), n, shift_px[1]);
        for (value, phase) in values.iter_mut().zip(&along_x) {
            *value *= phase * along_y;
        }
    }
}

/// e^(-2 pi i k t / n).
pub(crate) fn shift_phase(k: isize, n: usize, shift_px: f64) -> Complex32 {
    let (sin, cos) = libm::sincos(-std::f64::consts::TAU * k as f64 * shift_px / n as f64);
    Complex32::new(cos as f32, sin as f32)
}

/// The transform of square images of one size.
pub struct RealFft2 {
    n: usize,
    rows: Rows,
    columns: Columns,
    work: Vec<Complex32>,
}

impl RealFft2 {
    /// Plans for images of edge `n`, even or odd.
    pub fn new(n: usize) -> Result<Self, SizeError> {
        check_image(n)?;
        Ok(Self {
            n,
            rows: Rows::new(n),
            columns: Columns::new(n),
            work: Vec::new(),
        })
    }

    /// The edge in pixels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// `image` (n² values) to its half-plane.
    ///
    /// # Panics
    /// If a slice is not of the planned size.
    pub fn forward(&mut self, image: &[f32], half: &mut [Complex32]) {
        let n = self.n;
        assert_eq!(image.len(), n * n, "image");
        assert_eq!(half.len(), half_plane_len(n), "half-plane");
        for (y, target) in half.chunks_exact_mut(n / 2 + 1).enumerate() {
            let source = rolled(y, n);
            self.rows.forward(&image[source * n..][..n], target);
        }
        self.columns.run(Direction::Forward, half, n / 2 + 1, 1);
    }

    /// A half-plane back to its image (n² values). The imaginary parts that no real image has are ignored.
    ///
    /// # Panics
    /// If a slice is not of the planned size.
    pub fn inverse(&mut self, half: &[Complex32], image: &mut [f32]) {
        let n = self.n;
        assert_eq!(image.len(), n * n, "image");
        assert_eq!(half.len(), half_plane_len(n), "half-plane");
        self.work.clear();
        self.work.extend_from_slice(half);
        self.columns
            .run(Direction::Inverse, &mut self.work, n / 2 + 1, 1);
        let scale = 1.0 / (n * n) as f32;
        for (y, source) in self.work.chunks_exact_mut(n / 2 + 1).enumerate() {
            let target = rolled(y, n);
            self.rows
                .inverse(source, &mut image[target * n..][..n], scale);
        }
    }
}

/// The transform of cubic maps of one size.
pub struct RealFft3 {
    n: usize,
    rows: Rows,
    columns: Columns,
}

impl RealFft3 {
    /// Plans for maps of edge `n`, even or odd.
    pub fn new(n: usize) -> Result<Self, SizeError> {
        check_box(n)?;
        Ok(Self {
            n,
            rows: Rows::new(n),
            columns: Columns::new(n),
        })
    }

    /// The edge in voxels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// `map` (n³ values) to its half-space.
    ///
    /// # Panics
    /// If a slice is not of the planned size.
    pub fn forward(&mut self, map: &[f32], half: &mut [Complex32]) {
        let n = self.n;
        assert_eq!(map.len(), n * n * n, "map");
        assert_eq!(half.len(), half_space_len(n), "half-space");
        for (index, target) in half.chunks_exact_mut(n / 2 + 1).enumerate() {
            let source = rolled(index / n, n) * n + rolled(index % n, n);
            self.rows.forward(&map[source * n..][..n], target);
        }
        self.columns.run(Direction::Forward, half, n / 2 + 1, n);
        self.columns
            .run(Direction::Forward, half, half_plane_len(n), 1);
    }

    /// A half-space back to its map (n³ values), using `half` as scratch.
    ///
    /// # Panics
    /// If a slice is not of the planned size.
    pub fn inverse(&mut self, half: &mut [Complex32], map: &mut [f32]) {
        let n = self.n;
        assert_eq!(map.len(), n * n * n, "map");
        assert_eq!(half.len(), half_space_len(n), "half-space");
        self.columns
            .run(Direction::Inverse, half, half_plane_len(n), 1);
        self.columns.run(Direction::Inverse, half, n / 2 + 1, n);
        let scale = 1.0 / (n * n * n) as f32;
        for (index, source) in half.chunks_exact_mut(n / 2 + 1).enumerate() {
            let target = rolled(index / n, n) * n + rolled(index % n, n);
            self.rows
                .inverse(source, &mut map[target * n..][..n], scale);
        }
    }
}

/// Where the row `index` counted from the origin lies in an array whose origin is n/2.
fn rolled(index: usize, n: usize) -> usize {
    (index + n / 2) % n
}

/// Real transforms along x, origin n/2.
struct Rows {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    row: Vec<f32>,
    scratch: Vec<Complex32>,
}

impl Rows {
    fn new(n: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
        let scratch_len = forward.get_scratch_len().max(inverse.get_scratch_len());
        Self {
            forward,
            inverse,
            row: vec![0.0; n],
            scratch: vec![Complex32::ZERO; scratch_len],
        }
    }

    fn forward(&mut self, source: &[f32], target: &mut [Complex32]) {
        self.row.copy_from_slice(source);
        self.row.rotate_left(source.len() / 2);
        let scratch = &mut self.scratch[..self.forward.get_scratch_len()];
        self.forward
            .process_with_scratch(&mut self.row, target, scratch)
            .expect("slices have the planned lengths");
    }

    fn inverse(&mut self, source: &mut [Complex32], target: &mut [f32], scale: f32) {
        // The transform refuses these where no real row has them; they carry no information about a real one.
        let n = target.len();
        source[0].im = 0.0;
        if n.is_multiple_of(2) {
            source[n / 2].im = 0.0;
        }
        let scratch = &mut self.scratch[..self.inverse.get_scratch_len()];
        self.inverse
            .process_with_scratch(source, &mut self.row, scratch)
            .expect("slices have the planned lengths and no imaginary ends");
        self.row.rotate_right(n / 2);
        for (value, row) in target.iter_mut().zip(&self.row) {
            *value = row * scale;
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Inverse,
}

/// Complex transforms along y or z, a block of neighbouring columns at a time.
struct Columns {
    n: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    block: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl Columns {
    fn new(n: usize) -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
        let scratch_len = forward
            .get_inplace_scratch_len()
            .max(inverse.get_inplace_scratch_len());
        let block = vec![Complex32::ZERO; n * BLOCK];
        Self {
            n,
            forward,
            inverse,
            block,
            scratch: vec![Complex32::ZERO; scratch_len],
        }
    }

    /// Transforms every column of each of `planes` planes of n rows of `width` values.
    fn run(&mut self, direction: Direction, data: &mut [Complex32], width: usize, planes: usize) {
        let n = self.n;
        let fft = match direction {
            Direction::Forward => &self.forward,
            Direction::Inverse => &self.inverse,
        };
        for plane in data.chunks_exact_mut(n * width).take(planes) {
            for start in (0..width).step_by(BLOCK) {
                let count = BLOCK.min(width - start);
                for (y, row) in plane.chunks_exact(width).enumerate() {
                    for (column, value) in row[start..start + count].iter().enumerate() {
                        self.block[column * n + y] = *value;
                    }
                }
                fft.process_with_scratch(&mut self.block[..count * n], &mut self.scratch);
                for (y, row) in plane.chunks_exact_mut(width).enumerate() {
                    for (column, value) in row[start..start + count].iter_mut().enumerate() {
                        *value = self.block[column * n + y];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Image, Volume};

    /// Grey values without any symmetry that could hide a wrong index.
    fn lumpy(index: usize) -> f32 {
        ((index * 7919 + 13) % 101) as f32 / 50.0 - 1.0
    }

    fn phase(k: isize, x: usize, n: usize) -> num_complex::Complex64 {
        let angle = -std::f64::consts::TAU * k as f64 * (x as f64 - (n / 2) as f64) / n as f64;
        num_complex::Complex64::from_polar(1.0, angle)
    }

    #[test]
    fn agrees_with_the_sum_in_two_dimensions() {
        for n in [1, 2, 5, 8, 12] {
            let image = Image::new(n, (0..n * n).map(lumpy).collect()).unwrap();
            let mut fft = RealFft2::new(n).unwrap();
            let mut half = vec![Complex32::ZERO; half_plane_len(n)];
            fft.forward(image.data(), &mut half);
            for (index, value) in half.iter().enumerate() {
                let (kx, ky) = (
                    (index % (n / 2 + 1)) as isize,
                    signed_frequency(index / (n / 2 + 1), n),
                );
                let mut sum = num_complex::Complex64::ZERO;
                for (i, grey) in image.data().iter().enumerate() {
                    sum += phase(kx, i % n, n) * phase(ky, i / n, n) * f64::from(*grey);
                }
                assert!(
                    (sum.re - f64::from(value.re)).abs() < 1e-4,
                    "n {n} k {kx} {ky}"
                );
                assert!(
                    (sum.im - f64::from(value.im)).abs() < 1e-4,
                    "n {n} k {kx} {ky}"
                );
            }
            let mut back = vec![0.0; n * n];
            fft.inverse(&half, &mut back);
            assert!(
                back.iter()
                    .zip(image.data())
                    .all(|(a, b)| (a - b).abs() < 1e-5)
            );
        }
    }

    #[test]
    fn agrees_with_the_sum_in_three_dimensions() {
        for n in [2, 5, 6] {
            let map = Volume::new(n, (0..n * n * n).map(lumpy).collect()).unwrap();
            let mut fft = RealFft3::new(n).unwrap();
            let mut half = vec![Complex32::ZERO; half_space_len(n)];
            fft.forward(map.data(), &mut half);
            for (index, value) in half.iter().enumerate() {
                let row = n / 2 + 1;
                let kx = (index % row) as isize;
                let (ky, kz) = (
                    signed_frequency(index / row % n, n),
                    signed_frequency(index / row / n, n),
                );
                let mut sum = num_complex::Complex64::ZERO;
                for (i, grey) in map.data().iter().enumerate() {
                    let (x, y, z) = (i % n, i / n % n, i / n / n);
                    sum += phase(kx, x, n) * phase(ky, y, n) * phase(kz, z, n) * f64::from(*grey);
                }
                assert!(
                    (sum.re - f64::from(value.re)).abs() < 1e-4,
                    "n {n} k {kx} {ky} {kz}"
                );
                assert!(
                    (sum.im - f64::from(value.im)).abs() < 1e-4,
                    "n {n} k {kx} {ky} {kz}"
                );
            }
            let mut back = vec![0.0; n * n * n];
            fft.inverse(&mut half, &mut back);
            assert!(
                back.iter()
                    .zip(map.data())
                    .all(|(a, b)| (a - b).abs() < 1e-5)
            );
        }
    }

    #[test]
    fn a_shift_moves_the_content_that_way() {
        let n = 16;
        let blob = |cx: f64, cy: f64| {
            Image::from_fn(n, |x, y| {
                libm::exp(-((x - cx) * (x - cx) + (y - cy) * (y - cy)) / 4.0)
            })
            .unwrap()
        };
        let mut fft = RealFft2::new(n).unwrap();
        let mut half = vec![Complex32::ZERO; half_plane_len(n)];
        fft.forward(blob(0.0, 0.0).data(), &mut half);
        shift_half_plane(&mut half, n, [1.5, -2.25]);
        let mut moved = vec![0.0; n * n];
        fft.inverse(&half, &mut moved);
        let expected = blob(1.5, -2.25);
        assert!(
            moved
                .iter()
                .zip(expected.data())
                .all(|(a, b)| (a - b).abs() < 2e-3)
        );
    }

    #[test]
    fn cropping_keeps_the_low_frequencies() {
        let (n, small) = (12, 6);
        let image: Vec<f32> = (0..n * n).map(lumpy).collect();
        let mut half = vec![Complex32::ZERO; half_plane_len(n)];
        RealFft2::new(n).unwrap().forward(&image, &mut half);
        let mut cropped = vec![Complex32::new(9.0, 9.0); half_plane_len(small)];
        crop_half_plane(&half, n, &mut cropped, small);
        for ky in -3_isize..=3 {
            for kx in 0..=3_usize {
                let inside = kx < 3 && ky.abs() < 3;
                let expected = if inside {
                    half[frequency_index(ky, n) * 7 + kx]
                } else {
                    Complex32::ZERO
                };
                assert_eq!(cropped[frequency_index(ky, small) * 4 + kx], expected);
            }
        }
    }
}
