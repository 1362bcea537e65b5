//! A particle image made ready: centred on its prior, masked, transformed.

use std::f64::consts::PI;

use num_complex::Complex32;

use super::{ParticleImage, SearchError, SearchSettings};
use crate::fft::{RealFft2, frequency_index, half_plane_len};

/// Padding of the transform that polar samples are interpolated in.
const PADDING: usize = 2;

/// Width of the mask's cosine edge.
const EDGE_PX: f64 = 5.0;

/// The transforms of one masked image, and the means to make them.
pub(super) struct Preparation {
    n: usize,
    mask: Vec<f32>,
    /// Undoes what linear interpolation in the padded transform does to the image: 1/sinc² along each axis.
    correction: Vec<f32>,
    plain_fft: RealFft2,
    padded_fft: RealFft2,
    masked: Vec<f32>,
    padded: Vec<f32>,
    /// The transform of the masked image, as a half-plane of its own box.
    pub plain: Vec<Complex32>,
    padded_half: Vec<Complex32>,
}

impl Preparation {
    pub fn new(n: usize, settings: &SearchSettings) -> Result<Self, SearchError> {
        let radius = settings.mask_diameter_angstrom / 2.0 / settings.pixel_size_angstrom;
        let centre = (n / 2) as f64;
        let mask = (0..n * n).map(|i| {
            let (x, y) = ((i % n) as f64 - centre, (i / n) as f64 - centre);
            let beyond = ((libm::sqrt(x * x + y * y) - radius) / EDGE_PX).clamp(0.0, 1.0);
            (0.5 + 0.5 * libm::cos(PI * beyond)) as f32
        });
        let padded_n = PADDING * n;
        let correction = (0..n).map(|i| {
            let x = PI * (i as f64 - centre) / padded_n as f64;
            let sinc = if x == 0.0 { 1.0 } else { libm::sin(x) / x };
            (1.0 / (sinc * sinc)) as f32
        });
        Ok(Self {
            n,
            mask: mask.collect(),
            correction: correction.collect(),
            plain_fft: RealFft2::new(n)?,
            padded_fft: RealFft2::new(padded_n)?,
            masked: vec![0.0; n * n],
            padded: vec![0.0; padded_n * padded_n],
            plain: vec![Complex32::ZERO; half_plane_len(n)],
            padded_half: vec![Complex32::ZERO; half_plane_len(padded_n)],
        })
    }

    /// What part of the noise's power the mask leaves: so many of the Fourier pixels of a masked image are independent.
    pub fn noise_share(&self) -> f64 {
        let power: f64 = self.mask.iter().map(|m| f64::from(m * m)).sum();
        power / self.mask.len() as f64
    }

    /// Transforms a particle moved by its prior rounded to whole pixels, which is returned. The mean of what the mask
    /// hides is taken off first, so that what remains outside is zero.
    pub fn load(
        &mut self,
        index: usize,
        particle: &ParticleImage<'_>,
    ) -> Result<[f64; 2], SearchError> {
        let n = self.n;
        if particle.pixels.len() != n * n {
            return Err(SearchError::PixelCount {
                index,
                pixel_count: particle.pixels.len(),
                expected: n * n,
            });
        }
        // Magnitudes near the end of f32 would overflow in the transform.
        let fits = |value: &f32| value.abs() < 1e15;
        if !particle.pixels.iter().all(fits)
            || !particle.prior_shift_px.iter().all(|s| s.is_finite())
        {
            return Err(SearchError::NotFinite(index));
        }
        let limit = n as f64;
        let window = particle
            .prior_shift_px
            .map(|shift| libm::round(shift).clamp(-limit, limit));
        let background = self.roll(particle.pixels, window.map(|shift| shift as isize));
        for (value, mask) in self.masked.iter_mut().zip(&self.mask) {
            *value = (*value - background) * mask;
        }
        self.plain_fft.forward(&self.masked, &mut self.plain);
        // n/2 of the image on n of the padded box, which is zero elsewhere from the start.
        let margin = PADDING * n / 2 - n / 2;
        for y in 0..n {
            let target = &mut self.padded[(y + margin) * PADDING * n + margin..][..n];
            for (x, value) in target.iter_mut().enumerate() {
                *value = self.masked[y * n + x] * (self.correction[x] * self.correction[y]);
            }
        }
        self.padded_fft.forward(&self.padded, &mut self.padded_half);
        Ok(window)
    }

    /// Moves the image by whole pixels and returns its mean outside the mask; pixels from beyond its edge are that mean.
    fn roll(&mut self, pixels: &[f32], [dx, dy]: [isize; 2]) -> f32 {
        let n = self.n as isize;
        let source = |i: usize| {
            let (x, y) = (i as isize % n - dx, i as isize / n - dy);
            ((0..n).contains(&x) && (0..n).contains(&y)).then(|| pixels[(y * n + x) as usize])
        };
        let (mut sum, mut weight) = (0.0_f64, 0.0_f64);
        for (i, mask) in self.mask.iter().enumerate() {
            if let Some(value) = source(i) {
                sum += f64::from(1.0 - mask) * f64::from(value);
                weight += f64::from(1.0 - mask);
            }
        }
        let background = if weight > 1.0 {
            (sum / weight) as f32
        } else {
            0.0
        };
        for (i, value) in self.masked.iter_mut().enumerate() {
            *value = source(i).unwrap_or(background);
        }
        background
    }

    /// The transform of the masked image at a frequency with ky >= 0, in Fourier pixels.
    pub fn sample(&self, [kx, ky]: [f32; 2]) -> Complex32 {
        let padded_n = PADDING * self.n;
        let (sign, x, y) = if kx < 0.0 {
            (-1.0, -kx, -ky)
        } else {
            (1.0, kx, ky)
        };
        let (x, y) = (x * PADDING as f32, y * PADDING as f32);
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let at = |row: isize, column: usize| {
            self.padded_half[frequency_index(row, padded_n) * (padded_n / 2 + 1) + column]
        };
        let (row, column) = (y0 as isize, x0 as usize);
        let low = at(row, column) * (1.0 - fx) + at(row, column + 1) * fx;
        let high = at(row + 1, column) * (1.0 - fx) + at(row + 1, column + 1) * fx;
        let value = low * (1.0 - fy) + high * fy;
        Complex32::new(value.re, value.im * sign)
    }
}
