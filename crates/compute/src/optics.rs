//! What optics do to an image beyond the CTF, undone before anything else: beam tilt, odd aberrations and anisotropic
//! magnification.
//!
//! A distorted image has the transform X(k) = Y(Mk) e^(-iφ(Mk)), where Y is the image that perfect optics would give, M the
//! magnification (RELION's rlnMagMat) and φ = 2π Cs λ² |s|² (s·b) the phase of a beam tilt b (rlnBeamTiltX/Y), s in 1/Å,
//! less that of the aberrations ([`crate::aberration`]). All were held against `relion_reconstruct` 3.1.3, sign by sign. The CTF's defoci are those of Y. So the image is
//! resampled, then its phases turned back, and what follows need not know.

use std::f64::consts::{PI, TAU};

use num_complex::Complex32;
use thiserror::Error;

use crate::aberration::{Odd, odd_phase};
use crate::ctf::electron_wavelength_angstrom;
use crate::fft::{RealFft2, half_plane_len, signed_frequency};
use crate::volume::SizeError;

/// The magnification that changes nothing.
pub const IDENTITY: [[f64; 2]; 2] = [[1.0, 0.0], [0.0, 1.0]];

/// How far a magnification may be from none: a microscope's is off by a few percent, a number far off is of another kind.
const MAGNIFICATION_OFF_MAX: f64 = 0.2;

/// How the optics distort images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distortion {
    /// Acceleration voltage, in kV.
    pub voltage_kv: f64,
    /// Spherical aberration, in mm.
    pub spherical_aberration_mm: f64,
    /// The beam's tilt along x and y, in mrad.
    pub beam_tilt_mrad: [f64; 2],
    /// Odd aberrations.
    pub odd_zernike: Odd,
    /// The frequency of the true image that stands at k is this matrix times k.
    pub magnification: [[f64; 2]; 2],
}

/// Why a distortion cannot be undone.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DistortionError {
    /// A parameter is infinite or not a number.
    #[error("beam tilt, magnification or an odd aberration is not a finite number")]
    NotFinite,
    /// The magnification is not that of a microscope.
    #[error("the magnification matrix is {0:?}, expected one near [[1, 0], [0, 1]]")]
    Magnification([[f64; 2]; 2]),
    /// The box has no transform.
    #[error(transparent)]
    Size(#[from] SizeError),
}

impl Distortion {
    /// Whether images are as they should be.
    pub fn is_none(&self) -> bool {
        self.magnification == IDENTITY && !self.turns_phases()
    }

    /// Without spherical aberration a tilt only moves the image.
    fn turns_phases(&self) -> bool {
        let is_tilted = self.beam_tilt_mrad != [0.0; 2] && self.spherical_aberration_mm != 0.0;
        is_tilted || self.odd_zernike != Odd::default()
    }

    fn check(&self) -> Result<(), DistortionError> {
        let numbers = self.magnification.iter().flatten();
        if !numbers
            .chain(&self.beam_tilt_mrad)
            .chain(&self.odd_zernike)
            .all(|number| number.is_finite())
        {
            return Err(DistortionError::NotFinite);
        }
        let off = |row: usize, column: usize| {
            (self.magnification[row][column] - IDENTITY[row][column]).abs()
        };
        let most = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(row, column)| off(row, column));
        if most.iter().any(|off| *off > MAGNIFICATION_OFF_MAX) {
            return Err(DistortionError::Magnification(self.magnification));
        }
        Ok(())
    }

    /// φ at true frequency (`sx`, `sy`) in 1/Å.
    fn phase(&self, sx: f64, sy: f64) -> f64 {
        let lambda = electron_wavelength_angstrom(self.voltage_kv);
        let aberration_angstrom = self.spherical_aberration_mm * 1e7;
        let [bx, by] = self.beam_tilt_mrad.map(|mrad| mrad * 1e-3);
        let along = sx * bx + sy * by;
        TAU * aberration_angstrom * lambda * lambda * (sx * sx + sy * sy) * along
            - odd_phase(&self.odd_zernike, sx, sy)
    }
}

/// Undoes one distortion on images of one box.
pub struct Rectifier {
    n: usize,
    fft: RealFft2,
    half: Vec<Complex32>,
    /// e^(iφ); empty where there is nothing to turn back.
    phases: Vec<Complex32>,
    resampler: Option<Resampler>,
}

impl Rectifier {
    /// For images of `n` pixels of `pixel_size_angstrom`.
    pub fn new(
        n: usize,
        pixel_size_angstrom: f64,
        distortion: &Distortion,
    ) -> Result<Self, DistortionError> {
        distortion.check()?;
        let phases = if distortion.turns_phases() {
            phases_back(n, pixel_size_angstrom, distortion)
        } else {
            Vec::new()
        };
        let resampler = (distortion.magnification != IDENTITY)
            .then(|| Resampler::new(n, distortion.magnification))
            .transpose()?;
        Ok(Self {
            n,
            fft: RealFft2::new(n)?,
            half: vec![Complex32::ZERO; half_plane_len(n)],
            phases,
            resampler,
        })
    }

    /// Makes an image what perfect optics would have given.
    ///
    /// # Panics
    /// If it has not the pixels of the box.
    pub fn rectify(&mut self, image: &mut [f32]) {
        assert_eq!(image.len(), self.n * self.n, "image");
        if let Some(resampler) = &mut self.resampler {
            self.fft.forward(image, &mut self.half);
            resampler.resample(&self.half, image);
        }
        if self.phases.is_empty() {
            return;
        }
        self.fft.forward(image, &mut self.half);
        for (value, phase) in self.half.iter_mut().zip(&self.phases) {
            *value *= phase;
        }
        self.fft.inverse(&self.half, image);
    }
}

/// The factor of each frequency. The Nyquist row and column, whose values stand for two frequencies of opposite phase, keep
/// theirs: nothing beyond the last whole shell is used.
fn phases_back(n: usize, pixel_size_angstrom: f64, distortion: &Distortion) -> Vec<Complex32> {
    let step = 1.0 / (n as f64 * pixel_size_angstrom);
    let columns = n / 2 + 1;
    let phase = |index: usize| {
        let (kx, ky) = (index % columns, signed_frequency(index / columns, n));
        if 2 * kx == n || 2 * ky.unsigned_abs() == n {
            return Complex32::ONE;
        }
        let (sin, cos) = libm::sincos(distortion.phase(kx as f64 * step, ky as f64 * step));
        Complex32::new(cos as f32, sin as f32)
    };
    (0..half_plane_len(n)).map(phase).collect()
}

/// The image is interpolated on a grid so many times as fine, where its detail is wide.
const FINER: usize = 2;

/// Points of that grid that a value is made of, along each axis.
const TAPS: usize = 8;

/// Reads an image at Mᵀ r, which is what puts frequency Mk of the true image back in its place.
struct Resampler {
    n: usize,
    fine_fft: RealFft2,
    fine_half: Vec<Complex32>,
    fine: Vec<f32>,
    /// Of each pixel: the first point of the fine grid along x and y, and the weights from there.
    taps: Vec<[(isize, [f32; TAPS]); 2]>,
}

impl Resampler {
    fn new(n: usize, magnification: [[f64; 2]; 2]) -> Result<Self, DistortionError> {
        let [[m00, m01], [m10, m11]] = magnification;
        // The grid's own scale: a larger image of one projection is as much fainter.
        let area = (m00 * m11 - m01 * m10).abs();
        let scale = area * (FINER * FINER) as f64;
        let centre = (n / 2) as f64;
        let pixel = |index: usize| {
            let (x, y) = ((index % n) as f64 - centre, (index / n) as f64 - centre);
            let along_x = taps((m00 * x + m10 * y) * FINER as f64, scale);
            let along_y = taps((m01 * x + m11 * y) * FINER as f64, 1.0);
            [along_x, along_y]
        };
        let fine_n = FINER * n;
        Ok(Self {
            n,
            fine_fft: RealFft2::new(fine_n)?,
            fine_half: vec![Complex32::ZERO; half_plane_len(fine_n)],
            fine: vec![0.0; fine_n * fine_n],
            taps: (0..n * n).map(pixel).collect(),
        })
    }

    fn resample(&mut self, half: &[Complex32], image: &mut [f32]) {
        let (n, fine_n) = (self.n, FINER * self.n);
        let (row, fine_row) = (n / 2 + 1, fine_n / 2 + 1);
        self.fine_half.fill(Complex32::ZERO);
        for index in 0..n {
            // Nyquist stays out, as everywhere.
            let ky = signed_frequency(index, n);
            if 2 * ky.unsigned_abs() == n {
                continue;
            }
            let fine_index = crate::fft::frequency_index(ky, fine_n);
            self.fine_half[fine_index * fine_row..][..row - 1]
                .copy_from_slice(&half[index * row..][..row - 1]);
        }
        self.fine_fft.inverse(&self.fine_half, &mut self.fine);
        let wrap = |at: isize| (at + (fine_n / 2) as isize).rem_euclid(fine_n as isize) as usize;
        for (value, [(first_x, weights_x), (first_y, weights_y)]) in
            image.iter_mut().zip(&self.taps)
        {
            let columns: [usize; TAPS] = std::array::from_fn(|tap| wrap(first_x + tap as isize));
            let mut sum = 0.0;
            for (y, weight_y) in (*first_y..).zip(weights_y) {
                let fine = &self.fine[wrap(y) * fine_n..][..fine_n];
                let of_row = columns.iter().zip(weights_x);
                sum += weight_y * of_row.map(|(x, weight)| weight * fine[*x]).sum::<f32>();
            }
            *value = sum;
        }
    }
}

/// Lanczos' weights for position `at`, which sum to `total`.
fn taps(at: f64, total: f64) -> (isize, [f32; TAPS]) {
    let first = libm::floor(at) as isize - (TAPS / 2) as isize + 1;
    let reach = (TAPS / 2) as f64;
    let weights: [f64; TAPS] = std::array::from_fn(|tap| {
        let off = at - (first + tap as isize) as f64;
        sinc(off) * sinc(off / reach)
    });
    let sum: f64 = weights.iter().sum();
    (first, weights.map(|weight| (weight * total / sum) as f32))
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else {
        libm::sin(PI * x) / (PI * x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Image;

    const N: usize = 32;
    const PIXEL: f64 = 1.5;

    fn distortion(beam_tilt_mrad: [f64; 2], magnification: [[f64; 2]; 2]) -> Distortion {
        Distortion {
            voltage_kv: 300.0,
            spherical_aberration_mm: 2.7,
            beam_tilt_mrad,
            odd_zernike: Odd::default(),
            magnification,
        }
    }

    /// A few blobs, each e^(-|r - c|² / 2w²), read at `at(r)`.
    fn blobs(at: impl Fn(f64, f64) -> [f64; 2]) -> Vec<f32> {
        let blobs = [([3.0, -2.0], 2.0), ([-4.0, 1.0], 1.6), ([0.5, 4.5], 1.8)];
        let image = Image::from_fn(N, |x, y| {
            let [x, y] = at(x, y);
            let value = |([cx, cy], width): ([f64; 2], f64)| {
                libm::exp(-((x - cx) * (x - cx) + (y - cy) * (y - cy)) / (2.0 * width * width))
            };
            blobs.into_iter().map(value).sum()
        });
        image.unwrap().into_data()
    }

    fn worst(a: &[f32], b: &[f32]) -> f32 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn magnification_is_undone() {
        // X(k) = Y(Mk) is x(r) = y(M⁻ᵀ r) / |M|.
        let m = [[1.04, 0.02], [-0.01, 0.97]];
        let area = m[0][0] * m[1][1] - m[0][1] * m[1][0];
        let inverse = [
            [m[1][1] / area, -m[0][1] / area],
            [-m[1][0] / area, m[0][0] / area],
        ];
        let mut image = blobs(|x, y| {
            [
                inverse[0][0] * x + inverse[1][0] * y,
                inverse[0][1] * x + inverse[1][1] * y,
            ]
        });
        image.iter_mut().for_each(|value| *value /= area as f32);
        let truth = blobs(|x, y| [x, y]);
        assert!(worst(&image, &truth) > 0.05);
        let mut rectifier = Rectifier::new(N, PIXEL, &distortion([0.0; 2], m)).unwrap();
        rectifier.rectify(&mut image);
        assert!(worst(&image, &truth) < 2e-3, "{}", worst(&image, &truth));
    }

    #[test]
    fn tilt_is_undone() {
        let tilted = distortion([5.0, -3.0], IDENTITY);
        let truth = blobs(|x, y| [x, y]);
        let mut fft = RealFft2::new(N).unwrap();
        let mut half = vec![Complex32::ZERO; half_plane_len(N)];
        fft.forward(&truth, &mut half);
        for (index, value) in half.iter_mut().enumerate() {
            let step = 1.0 / (N as f64 * PIXEL);
            let sx = (index % (N / 2 + 1)) as f64 * step;
            let sy = signed_frequency(index / (N / 2 + 1), N) as f64 * step;
            // RELION's formula, in degrees: 0.360 Cs[mm] 1e7 λ² |s|² (s·b).
            let lambda = electron_wavelength_angstrom(300.0);
            let degrees =
                0.360 * 2.7 * 1e7 * lambda * lambda * (sx * sx + sy * sy) * (sx * 5.0 - sy * 3.0);
            *value *= Complex32::from_polar(1.0, -degrees.to_radians() as f32);
        }
        let mut image = vec![0.0; N * N];
        fft.inverse(&half, &mut image);
        assert!(worst(&image, &truth) > 0.05);
        let mut rectifier = Rectifier::new(N, PIXEL, &tilted).unwrap();
        rectifier.rectify(&mut image);
        assert!(worst(&image, &truth) < 1e-4, "{}", worst(&image, &truth));
    }

    #[test]
    fn nothing_is_nothing_and_nonsense_is_refused() {
        assert!(distortion([0.0; 2], IDENTITY).is_none());
        assert!(!distortion([0.1, 0.0], IDENTITY).is_none());
        let refused = |distortion: Distortion| {
            let made = Rectifier::new(N, PIXEL, &distortion);
            made.err().expect("it is nonsense")
        };
        assert_eq!(
            refused(distortion([f64::NAN, 0.0], IDENTITY)),
            DistortionError::NotFinite
        );
        // Percent, or a matrix less the identity.
        for m in [[[0.01, 0.0], [0.0, -0.01]], [[101.0, 0.0], [0.0, 99.0]]] {
            assert_eq!(
                refused(distortion([0.0; 2], m)),
                DistortionError::Magnification(m)
            );
        }
    }
}
