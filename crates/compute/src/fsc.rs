//! Fourier shell correlation.
//!
//! Shell s holds the frequencies whose distance from the origin rounds to s Fourier pixels. Sums run in f64 and in a
//! fixed order; each frequency counts once with its Hermitian mate.

use num_complex::Complex32;
use thiserror::Error;

use crate::fft::{RealFft3, half_space_len, signed_frequency};
use crate::volume::Volume;

/// Why two maps cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FscError {
    /// The boxes differ.
    #[error("boxes of {first} px, {second} px and a mask of {mask:?} px do not match")]
    Boxes {
        /// The edge of the first map.
        first: usize,
        /// The edge of the second.
        second: usize,
        /// The edge of the mask, if there is one.
        mask: Option<usize>,
    },
}

/// The correlation of two maps in each shell from 0 to n/2, each multiplied by `mask` first. A shell in which either
/// map is empty correlates by 0.
pub fn fsc(first: &Volume, second: &Volume, mask: Option<&Volume>) -> Result<Vec<f64>, FscError> {
    let n = first.n();
    if second.n() != n || mask.is_some_and(|mask| mask.n() != n) {
        return Err(FscError::Boxes {
            first: n,
            second: second.n(),
            mask: mask.map(Volume::n),
        });
    }
    let mut fft = RealFft3::new(n).expect("the box of a map is a box");
    Ok(fsc_of_transforms(
        n,
        &transform(&mut fft, first, mask),
        &transform(&mut fft, second, mask),
    ))
}

/// The same of two transforms, half-spaces (see [`crate::fft`]) of box `n`.
///
/// # Panics
/// If a slice is not such a half-space.
pub fn fsc_of_transforms(n: usize, first: &[Complex32], second: &[Complex32]) -> Vec<f64> {
    assert_eq!(first.len(), half_space_len(n), "first half-space");
    assert_eq!(second.len(), half_space_len(n), "second half-space");
    let mut sums = vec![ShellSums::default(); n / 2 + 1];
    for_each_frequency(n, |index, shell, multiplicity| {
        let (a, b) = (widen(first[index]), widen(second[index]));
        let sum = &mut sums[shell];
        sum.cross += multiplicity * (a.0 * b.0 + a.1 * b.1);
        sum.first += multiplicity * (a.0 * a.0 + a.1 * a.1);
        sum.second += multiplicity * (b.0 * b.0 + b.1 * b.1);
    });
    sums.iter().map(ShellSums::correlation).collect()
}

/// The mean power |F|² of a map in each shell from 0 to n/2, of the plain transform.
pub fn shell_power(volume: &Volume) -> Vec<f64> {
    let n = volume.n();
    let mut fft = RealFft3::new(n).expect("the box of a map is a box");
    let half = transform(&mut fft, volume, None);
    let mut sums = vec![(0.0, 0.0); n / 2 + 1];
    for_each_frequency(n, |index, shell, multiplicity| {
        let value = widen(half[index]);
        sums[shell].0 += multiplicity * (value.0 * value.0 + value.1 * value.1);
        sums[shell].1 += multiplicity;
    });
    sums.iter().map(|(power, count)| power / count).collect()
}

/// Where a curve first falls below `threshold`, in Å, linear between shells; none if it never does.
///
/// The curve is indexed by shell, of maps of `n` voxels of `pixel_size_angstrom`. The search starts at shell 1.
pub fn resolution_at(
    fsc: &[f64],
    threshold: f64,
    n: usize,
    pixel_size_angstrom: f64,
) -> Option<f64> {
    let below = (1..fsc.len()).find(|&shell| fsc[shell] < threshold)?;
    let (before, after) = (fsc[below - 1], fsc[below]);
    // Shell 0 may lie below the threshold too: then there is nothing to interpolate.
    let fraction = if before > after && before >= threshold {
        (before - threshold) / (before - after)
    } else {
        1.0
    };
    let shell = ((below - 1) as f64 + fraction).max(0.5);
    Some(n as f64 * pixel_size_angstrom / shell)
}

#[derive(Clone, Default)]
struct ShellSums {
    cross: f64,
    first: f64,
    second: f64,
}

impl ShellSums {
    fn correlation(&self) -> f64 {
        let norm = libm::sqrt(self.first * self.second);
        if norm > 0.0 { self.cross / norm } else { 0.0 }
    }
}

/// Calls `visit(index, shell, multiplicity)` for the values of a half-space within shell n/2.
pub(crate) fn for_each_frequency(n: usize, mut visit: impl FnMut(usize, usize, f64)) {
    let row = n / 2 + 1;
    for index in 0..half_space_len(n) {
        let kx = (index % row) as isize;
        let (ky, kz) = (
            signed_frequency(index / row % n, n),
            signed_frequency(index / row / n, n),
        );
        let shell = shell_of((kx * kx + ky * ky + kz * kz) as f64);
        if shell <= n / 2 {
            // Off the planes that are their own mates, the stored half stands for both.
            let own_mate = kx == 0 || 2 * kx == n as isize;
            visit(index, shell, if own_mate { 1.0 } else { 2.0 });
        }
    }
}

/// The shell of a frequency of squared length `k2`, in Fourier pixels.
pub(crate) fn shell_of(k2: f64) -> usize {
    libm::floor(libm::sqrt(k2) + 0.5) as usize
}

fn widen(value: Complex32) -> (f64, f64) {
    (value.re.into(), value.im.into())
}

/// The half-space of a map, multiplied by `mask` first.
pub(crate) fn transform(
    fft: &mut RealFft3,
    volume: &Volume,
    mask: Option<&Volume>,
) -> Vec<Complex32> {
    let n = volume.n();
    let mut half = vec![Complex32::ZERO; half_space_len(n)];
    match mask {
        None => fft.forward(volume.data(), &mut half),
        Some(mask) => {
            let masked: Vec<f32> = volume
                .data()
                .iter()
                .zip(mask.data())
                .map(|(grey, weight)| grey * weight)
                .collect();
            fft.forward(&masked, &mut half);
        }
    }
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::GaussianNoise;

    fn noise(n: usize, seed: u64) -> Volume {
        let mut source = GaussianNoise::new(seed, 0);
        Volume::from_fn(n, |_, _, _| source.next()).unwrap()
    }

    /// Shell by shell over the whole transform, without any half.
    fn slow(first: &Volume, second: &Volume) -> Vec<f64> {
        use num_complex::Complex64;
        let n = first.n();
        let c = (n / 2) as isize;
        let transform = |volume: &Volume, k: [isize; 3]| -> Complex64 {
            volume
                .data()
                .iter()
                .enumerate()
                .map(|(i, grey)| {
                    let at = [i % n, i / n % n, i / n / n].map(|i| i as isize - c);
                    let dot = (0..3).map(|axis| k[axis] * at[axis]).sum::<isize>();
                    Complex64::from_polar(
                        f64::from(*grey),
                        -std::f64::consts::TAU * dot as f64 / n as f64,
                    )
                })
                .sum()
        };
        let mut sums = vec![ShellSums::default(); n / 2 + 1];
        let low = -((n as isize - 1) / 2);
        for (kz, ky, kx) in
            (low..=c).flat_map(|z| (low..=c).flat_map(move |y| (low..=c).map(move |x| (z, y, x))))
        {
            let shell = ((kx * kx + ky * ky + kz * kz) as f64).sqrt().round() as usize;
            if shell <= n / 2 {
                let (a, b) = (
                    transform(first, [kx, ky, kz]),
                    transform(second, [kx, ky, kz]),
                );
                sums[shell].cross += (a * b.conj()).re;
                sums[shell].first += a.norm_sqr();
                sums[shell].second += b.norm_sqr();
            }
        }
        sums.iter().map(ShellSums::correlation).collect()
    }

    #[test]
    fn agrees_with_the_sum_over_the_whole_transform() {
        for n in [6, 7] {
            let (a, b) = (noise(n, 1), noise(n, 2));
            let expected = slow(&a, &b);
            let got = fsc(&a, &b, None).unwrap();
            assert!(
                got.iter().zip(&expected).all(|(g, e)| (g - e).abs() < 1e-5),
                "{got:?} {expected:?}"
            );
        }
    }

    #[test]
    fn common_signal_in_independent_noise_correlates_by_snr_over_snr_plus_one() {
        let n = 32;
        let signal = noise(n, 3);
        let with_noise = |seed| {
            let extra = noise(n, seed);
            let data = signal
                .data()
                .iter()
                .zip(extra.data())
                .map(|(s, e)| 0.5 * s + e)
                .collect();
            Volume::new(n, data).unwrap()
        };
        // Signal power 1/4 of the noise: 0.25 / 1.25; pure noise against itself: 1.
        let curve = fsc(&with_noise(4), &with_noise(5), None).unwrap();
        let mean = curve[8..].iter().sum::<f64>() / curve[8..].len() as f64;
        assert!((mean - 0.2).abs() < 0.02, "{mean}");
        let own = fsc(&signal, &signal, None).unwrap();
        assert!(own.iter().all(|value| (value - 1.0).abs() < 1e-9));
        let none = fsc(&noise(n, 6), &noise(n, 7), None).unwrap();
        assert!(none[8..].iter().all(|value| value.abs() < 0.1));
    }

    #[test]
    fn white_noise_has_flat_power() {
        let power = shell_power(&noise(32, 8));
        let expected = f64::from(32 * 32 * 32);
        assert!(
            power[8..]
                .iter()
                .all(|value| (value / expected - 1.0).abs() < 0.1)
        );
    }

    #[test]
    fn the_crossing_is_interpolated() {
        let curve = [1.0, 0.9, 0.7, 0.3, 0.6, 0.1];
        let found = resolution_at(&curve, 0.5, 10, 2.0).unwrap();
        assert!((found - 20.0 / 2.5).abs() < 1e-12);
        assert_eq!(resolution_at(&curve, 0.05, 10, 2.0), None);
        assert_eq!(resolution_at(&[0.0, 0.0], 0.5, 10, 2.0), Some(20.0));
        assert_eq!(resolution_at(&[], 0.5, 10, 2.0), None);
    }

    #[test]
    fn boxes_must_match() {
        let error = fsc(&noise(4, 1), &noise(6, 1), None).unwrap_err();
        assert_eq!(
            error,
            FscError::Boxes {
                first: 4,
                second: 6,
                mask: None
            }
        );
    }
}
