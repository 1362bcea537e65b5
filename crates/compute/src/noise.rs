//! Noise: how much of it images hold at each frequency, and Gaussian noise to add.
//!
//! sigma2(s) is the variance of *each* of the real and imaginary parts of the plain transform in shell s: half the power
//! that noise alone would have.

use num_complex::Complex32;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fft::{half_plane_len, signed_frequency};
use crate::fsc::shell_of;

/// No shell's sigma2 falls below this part of the mean over all shells: a shell without noise (an image that was
/// low-passed) would otherwise outweigh all others.
const SIGMA2_FLOOR: f64 = 1e-3;

/// Calls `visit(index, shell, multiplicity)` for the values of a half-plane of box `n` within shell n/2, each frequency
/// once: of the column kx = 0, which holds its own mates, only the half ky >= 0 is visited.
pub(crate) fn for_each_frequency(n: usize, mut visit: impl FnMut(usize, usize)) {
    let row = n / 2 + 1;
    for index in 0..half_plane_len(n) {
        let (kx, ky) = ((index % row) as isize, signed_frequency(index / row, n));
        let shell = shell_of((kx * kx + ky * ky) as f64);
        if shell <= n / 2 && !(kx == 0 && ky < 0) {
            visit(index, shell);
        }
    }
}

/// The mean power |X|² of a half-plane (see [`crate::fft`]) of box `n` in each shell from 0 to n/2.
///
/// # Panics
/// If `half` is not such a half-plane.
pub fn shell_power(n: usize, half: &[Complex32]) -> Vec<f64> {
    assert_eq!(half.len(), half_plane_len(n), "half-plane");
    let mut sums = vec![(0.0, 0_u32); n / 2 + 1];
    for_each_frequency(n, |index, shell| {
        let value = half[index];
        sums[shell].0 +=
            f64::from(value.re) * f64::from(value.re) + f64::from(value.im) * f64::from(value.im);
        sums[shell].1 += 1;
    });
    sums.iter()
        .map(|&(power, count)| power / f64::from(count.max(1)))
        .collect()
}

/// How many frequencies of an image's half-plane each shell from 0 to n/2 has, Hermitian duplicates counted once.
pub fn shell_counts(n: usize) -> Vec<f64> {
    let mut counts = vec![0.0; n / 2 + 1];
    for_each_frequency(n, |_, shell| counts[shell] += 1.0);
    counts
}

/// The first estimate of a set's noise: half the mean power less half the power of the mean image, before any pose is
/// known. The signal of single particles is small beside their noise, and what all share is in the mean.
#[derive(Debug, Clone)]
pub struct NoiseEstimate {
    n: usize,
    count: u64,
    power: Vec<f64>,
    mean: Vec<[f64; 2]>,
}

impl NoiseEstimate {
    /// Of no images yet, of box `n`.
    pub fn new(n: usize) -> Self {
        Self {
            n,
            count: 0,
            power: vec![0.0; n / 2 + 1],
            mean: vec![[0.0; 2]; half_plane_len(n)],
        }
    }

    /// Adds an image's half-plane.
    ///
    /// # Panics
    /// If `half` is not a half-plane of the box.
    pub fn add(&mut self, half: &[Complex32]) {
        for (sum, power) in self.power.iter_mut().zip(shell_power(self.n, half)) {
            *sum += power;
        }
        for (sum, value) in self.mean.iter_mut().zip(half) {
            sum[0] += f64::from(value.re);
            sum[1] += f64::from(value.im);
        }
        self.count += 1;
    }

    /// Adds an image that was multiplied by its CTF, noise and all: as if it were not, shell by shell.
    ///
    /// # Panics
    /// If either is not a half-plane of the box.
    pub fn add_multiplied(&mut self, half: &[Complex32], ctf: &[f32]) {
        let ctf: Vec<Complex32> = ctf.iter().map(|c| Complex32::new(*c, 0.0)).collect();
        let power = shell_power(self.n, &ctf);
        let mut restored = half.to_vec();
        for_each_frequency(self.n, |index, shell| {
            if power[shell] > 0.0 {
                restored[index] /= power[shell].sqrt() as f32;
            }
        });
        self.add(&restored);
    }

    /// sigma2 of each shell from 0 to n/2, floored at a thousandth of its mean; all ones before any image was added.
    pub fn sigma2(&self) -> Vec<f64> {
        if self.count == 0 {
            return vec![1.0; self.n / 2 + 1];
        }
        let count = self.count as f64;
        let mean: Vec<Complex32> = self
            .mean
            .iter()
            .map(|sum| Complex32::new((sum[0] / count) as f32, (sum[1] / count) as f32))
            .collect();
        let mut sigma2: Vec<f64> = self
            .power
            .iter()
            .zip(shell_power(self.n, &mean))
            .map(|(power, of_mean)| (power / count - of_mean) / 2.0)
            .collect();
        floor_sigma2(&mut sigma2);
        sigma2
    }
}

/// Raises what is below a thousandth of the mean, or no number, to that; to 1 where nothing is left.
pub fn floor_sigma2(sigma2: &mut [f64]) {
    let usable = |value: f64| value.is_finite() && value > 0.0;
    let (sum, count) = sigma2
        .iter()
        .filter(|value| usable(**value))
        .fold((0.0, 0.0), |(s, c), v| (s + v, c + 1.0));
    let floor = if count > 0.0 {
        SIGMA2_FLOOR * sum / count
    } else {
        1.0
    };
    for value in sigma2 {
        if !usable(*value) || *value < floor {
            *value = floor;
        }
    }
}

/// Independent normal deviates, the same on every machine: ChaCha8 and Box-Muller with `libm`.
#[derive(Debug, Clone)]
pub struct GaussianNoise {
    source: ChaCha8Rng,
    spare: Option<f64>,
}

impl GaussianNoise {
    /// The deviates of `seed`, stream `stream`: streams of one seed are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        // The key is spelled out: how `seed_from_u64` stretches a seed is the crate's to change.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut source = ChaCha8Rng::from_seed(key);
        source.set_stream(stream);
        Self {
            source,
            spare: None,
        }
    }

    /// A normal deviate of mean 0 and variance 1.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so there is no Option to return"
    )]
    pub fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 - u is in (0, 1], whose logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * self.uniform());
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// A uniform deviate in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        // The 53 bits of an f64's mantissa, spelled out so that no version of a crate can change the bytes.
        (self.source.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fft::RealFft2;

    #[test]
    fn deviates_are_normal_and_streams_differ() {
        let mut noise = GaussianNoise::new(1, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| noise.next()).collect();
        let moment =
            |power: i32| draws.iter().map(|v| v.powi(power)).sum::<f64>() / draws.len() as f64;
        // Five standard errors of each moment.
        assert!(moment(1).abs() < 0.016);
        assert!((moment(2) - 1.0).abs() < 0.023);
        assert!((moment(4) - 3.0).abs() < 0.16);
        assert_ne!(
            GaussianNoise::new(1, 0).next(),
            GaussianNoise::new(1, 1).next()
        );
        assert_eq!(GaussianNoise::new(1, 0).next(), draws[0]);
    }

    #[test]
    fn white_noise_of_known_variance_on_a_common_background_is_recovered() {
        let n = 16;
        let mut fft = RealFft2::new(n).unwrap();
        let mut noise = GaussianNoise::new(2, 0);
        let mut estimate = NoiseEstimate::new(n);
        let mut half = vec![Complex32::ZERO; half_plane_len(n)];
        for _ in 0..200 {
            let image: Vec<f32> = (0..n * n)
                .map(|i| ((i % 5) as f64 * 4.0 + 1.5 * noise.next()) as f32)
                .collect();
            fft.forward(&image, &mut half);
            estimate.add(&half);
        }
        // Variance 2.25 a pixel is 2.25 n² of power: half of it in each part. Shell 0 is one real number, and so has it
        // all in one part; its estimate is the same half.
        for (shell, sigma2) in estimate.sigma2().iter().enumerate().skip(1) {
            let expected = 2.25 * (n * n) as f64 / 2.0;
            assert!(
                (sigma2 / expected - 1.0).abs() < 0.15,
                "shell {shell}: {sigma2} of {expected}"
            );
        }
    }

    #[test]
    fn empty_shells_are_floored() {
        let mut sigma2 = vec![2.0, 0.0, f64::NAN, 4.0, -1.0];
        floor_sigma2(&mut sigma2);
        assert_eq!(sigma2, vec![2.0, 0.003, 0.003, 4.0, 0.003]);
        let mut nothing = vec![0.0; 3];
        floor_sigma2(&mut nothing);
        assert_eq!(nothing, vec![1.0; 3]);
        assert_eq!(NoiseEstimate::new(4).sigma2(), vec![1.0; 3]);
    }
}
