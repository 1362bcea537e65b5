//! From the sums of all particles to class averages, their resolution and their pictures.

use std::f64::consts::TAU;

use num_complex::Complex32;

use super::grid::{ClassGrid, POWER_FREQUENCY_COUNT};
use super::sums::ClassSums;
use crate::search::matrix::{Strided, multiply};
use crate::search::rings::ring_weight;
use crate::volume::{Image, SizeError};

/// Angles at which hardly any image has signal are not amplified beyond this part of their ring's mean.
const DENOMINATOR_FLOOR: f64 = 1e-3;

/// The sums of all particles.
#[derive(Debug, Clone)]
pub struct ClassTotals {
    numerators: Vec<f64>,
    denominators: Vec<f64>,
    class_count: usize,
}

/// One class's average.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassAverage {
    /// Its samples, as many as the grid has.
    pub samples: Vec<Complex32>,
    /// Its signal over the noise left in it, for each ring from 1; empty where that is not known.
    pub ssnr: Vec<f64>,
}

impl ClassTotals {
    /// Of no particles yet.
    pub fn new(grid: &ClassGrid, class_count: usize) -> Self {
        Self {
            numerators: vec![0.0; class_count * grid.coefficient_count()],
            denominators: vec![0.0; class_count * grid.power_count()],
            class_count,
        }
    }

    /// Adds a block's sums.
    ///
    /// # Panics
    /// If they are of another grid or other classes.
    pub fn add(&mut self, sums: &ClassSums) {
        assert_eq!(self.numerators.len(), sums.numerators.len(), "grid");
        let numerators = self.numerators.iter_mut().zip(&sums.numerators);
        let denominators = self.denominators.iter_mut().zip(&sums.denominators);
        for (total, value) in numerators.chain(denominators) {
            *total += f64::from(*value);
        }
    }

    /// How many classes.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// The Wiener-filtered average of a class: num / (den + 1/(T τ²)), where τ², the variance of the signal's parts in a
    /// ring, is what the unfiltered average has beyond the noise left in it.
    pub fn average(&self, grid: &ClassGrid, class: usize, tau_factor: f64) -> ClassAverage {
        let mut average = ClassAverage::of_samples(Vec::with_capacity(grid.sample_count()));
        let (mut numerators, mut denominators, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for (index, ring) in grid.rings.rings.iter().enumerate() {
            self.load_ring(grid, class, index, &mut numerators, &mut denominators);
            for values in [&mut numerators, &mut denominators] {
                // The inverse transform, by way of conjugates.
                values.iter_mut().for_each(|value| *value = value.conj());
                ring.run(values, &mut scratch);
                let scale = 1.0 / ring.sample_count as f32;
                values
                    .iter_mut()
                    .for_each(|value| *value = value.conj() * scale);
            }
            let half = ring.sample_count / 2;
            let mean = mean_of(&denominators, |value| f64::from(value.re));
            if mean <= 0.0 {
                average
                    .samples
                    .resize(average.samples.len() + half, Complex32::ZERO);
                average.ssnr.push(0.0);
                continue;
            }
            let floored = |value: &Complex32| f64::from(value.re).max(DENOMINATOR_FLOOR * mean);
            let filtered = |prior: f64| -> Vec<Complex32> {
                let pairs = numerators.iter().zip(&denominators).take(half);
                pairs
                    .map(|(num, den)| num * (1.0 / (floored(den) + prior)) as f32)
                    .collect()
            };
            let noise = ring_weight(ring.radius, ring.sample_count) / mean;
            let power = mean_of(&filtered(0.0), |value| f64::from(value.norm_sqr()));
            let tau2 = (power / 2.0 - noise).max(0.0);
            average.ssnr.push(tau2 / noise);
            if tau2 > 0.0 {
                average
                    .samples
                    .extend(filtered(noise * mean / (tau_factor * tau2)));
            } else {
                average
                    .samples
                    .resize(average.samples.len() + half, Complex32::ZERO);
            }
        }
        average
    }

    /// A ring's angular transforms, of both signs of the frequency.
    fn load_ring(
        &self,
        grid: &ClassGrid,
        class: usize,
        index: usize,
        numerators: &mut Vec<Complex32>,
        denominators: &mut Vec<Complex32>,
    ) {
        let (ring, k_max) = (&grid.rings.rings[index], grid.settings.k_max);
        let count = ring.sample_count;
        for values in [&mut *numerators, &mut *denominators] {
            values.clear();
            values.resize(count, Complex32::ZERO);
        }
        let of_class = &self.numerators[class * grid.coefficient_count()..];
        for m in 0..=ring.m_max {
            let (offset, length) = grid.span(m);
            let at = offset + index - grid.first_ring(m);
            let (re, im) = (of_class[at] as f32, of_class[at + length / 2] as f32);
            // A Hermitian ring: opposite samples are conjugates.
            let sign = if m % 2 == 0 { 1.0 } else { -1.0 };
            numerators[m] = Complex32::new(re, im);
            numerators[(count - m) % count] = Complex32::new(re * sign, -im * sign);
        }
        numerators[0].im = 0.0;
        let of_class = &self.denominators[class * grid.power_count()..];
        for frequency in 0..POWER_FREQUENCY_COUNT.min(count / 4) {
            let at = 2 * k_max * frequency + index;
            let value = Complex32::new(of_class[at] as f32, of_class[at + k_max] as f32);
            denominators[2 * frequency] = value;
            denominators[(count - 2 * frequency) % count] = value.conj();
        }
    }
}

impl ClassAverage {
    /// An average of which nothing but its samples is known.
    pub fn of_samples(samples: Vec<Complex32>) -> Self {
        Self {
            samples,
            ssnr: Vec::new(),
        }
    }

    /// The innermost rings it resolves: up to the last before signal falls below noise.
    pub fn resolved_rings(&self) -> usize {
        self.ssnr.iter().take_while(|ssnr| **ssnr >= 1.0).count()
    }

    /// The average as a picture, without its mean.
    ///
    /// # Errors
    /// If the box has no picture.
    pub fn picture(&self, grid: &ClassGrid) -> Result<Image, SizeError> {
        let (n, points) = (grid.settings.box_size_px, grid.rings.points.len());
        // Re(P e^{ix} e^{iy}) summed over samples, as a product of what depends on x with what depends on y.
        let (mut along_x, mut along_y) = (vec![0.0; 2 * points * n], vec![0.0; 2 * points * n]);
        for ring in &grid.rings.rings {
            let weight = TAU * ring.radius as f64 / ring.sample_count as f64 * 2.0 / (n * n) as f64;
            for at in ring.start..ring.start + ring.sample_count / 2 {
                let ([kx, ky], value) = (grid.rings.points[at], self.samples[at]);
                let (re, im) = (f64::from(value.re) * weight, f64::from(value.im) * weight);
                for i in 0..n {
                    let x = TAU * (i as f64 - (n / 2) as f64) / n as f64;
                    let (sin, cos) = libm::sincos(f64::from(kx) * x);
                    along_x[2 * at * n + i] = cos as f32;
                    along_x[(2 * at + 1) * n + i] = sin as f32;
                    let (sin, cos) = libm::sincos(f64::from(ky) * x);
                    along_y[2 * at * n + i] = (re * cos - im * sin) as f32;
                    along_y[(2 * at + 1) * n + i] = (-re * sin - im * cos) as f32;
                }
            }
        }
        let columns = Strided {
            data: &along_x,
            row_stride: 1,
            column_stride: n,
        };
        let rows = Strided {
            data: &along_y,
            row_stride: n,
            column_stride: 1,
        };
        let mut pixels = vec![0.0; n * n];
        multiply(&mut pixels, [n, 2 * points, n], columns, rows);
        Image::new(n, pixels)
    }
}

fn mean_of(values: &[Complex32], of: impl Fn(&Complex32) -> f64) -> f64 {
    values.iter().map(of).sum::<f64>() / values.len().max(1) as f64
}
