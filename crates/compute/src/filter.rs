//! Low-pass filters and resampling of maps.

use num_complex::Complex32;

use crate::fft::{RealFft3, frequency_index, half_space_len, signed_frequency};
use crate::mask::edge;
use crate::volume::{SizeError, Volume, check_box};

/// The width of a low-pass filter's edge, in shells: narrow enough to be a limit, wide enough not to ring.
const EDGE_SHELLS: f64 = 2.0;

/// `map` without what is finer than `resolution_angstrom`, with a raised-cosine edge of two shells centred there.
pub fn low_pass(map: &Volume, pixel_size_angstrom: f64, resolution_angstrom: f64) -> Volume {
    let limit = map.n() as f64 * pixel_size_angstrom / resolution_angstrom;
    filtered(map, |shell| low_pass_gain(shell, limit))
}

/// What [`low_pass`] leaves of a frequency `shell` Fourier pixels from the origin, where it has its limit at `limit`.
pub(crate) fn low_pass_gain(shell: f64, limit: f64) -> f64 {
    edge(shell - (limit - EDGE_SHELLS / 2.0), EDGE_SHELLS)
}

/// `map` with each frequency multiplied by `gain` of its distance from the origin, in Fourier pixels.
pub fn filtered(map: &Volume, gain: impl Fn(f64) -> f64) -> Volume {
    let n = map.n();
    let mut fft = RealFft3::new(n).expect("the box of a map is a box");
    let mut half = vec![Complex32::ZERO; half_space_len(n)];
    fft.forward(map.data(), &mut half);
    let row = n / 2 + 1;
    for (index, value) in half.iter_mut().enumerate() {
        let kx = (index % row) as isize;
        let (ky, kz) = (
            signed_frequency(index / row % n, n),
            signed_frequency(index / row / n, n),
        );
        *value *= gain(libm::sqrt((kx * kx + ky * ky + kz * kz) as f64)) as f32;
    }
    let mut out = map.clone();
    fft.inverse(&mut half, out.data_mut());
    out
}

/// `map` sampled by `n` voxels an edge instead of its own number, over the same extent: the voxel size becomes
/// `map.n() / n` times what it was. Grey values keep their scale (a density per voxel position, not a sum).
pub fn resampled(map: &Volume, n: usize) -> Result<Volume, SizeError> {
    check_box(n)?;
    let from_n = map.n();
    let mut from = vec![Complex32::ZERO; half_space_len(from_n)];
    RealFft3::new(from_n)?.forward(map.data(), &mut from);
    let mut to = vec![Complex32::ZERO; half_space_len(n)];
    // Nyquist of an even box has no mate there, and is left out.
    let limit = ((from_n.min(n) - 1) / 2) as isize;
    let scale = (n as f32 / from_n as f32).powi(3);
    for kz in -limit..=limit {
        for ky in -limit..=limit {
            let source = (frequency_index(kz, from_n) * from_n + frequency_index(ky, from_n))
                * (from_n / 2 + 1);
            let target = (frequency_index(kz, n) * n + frequency_index(ky, n)) * (n / 2 + 1);
            for kx in 0..=limit as usize {
                to[target + kx] = from[source + kx] * scale;
            }
        }
    }
    let mut out = Volume::zeros(n)?;
    RealFft3::new(n)?.inverse(&mut to, out.data_mut());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsc::shell_power;
    use crate::noise::GaussianNoise;

    #[test]
    fn a_low_pass_keeps_what_is_coarser_and_drops_what_is_finer() {
        let mut noise = GaussianNoise::new(5, 0);
        let map = Volume::from_fn(24, |_, _, _| noise.next()).unwrap();
        // 24 voxels of 2 Å: 8 Å is shell 6, whose gain is a half.
        let (before, after) = (shell_power(&map), shell_power(&low_pass(&map, 2.0, 8.0)));
        for shell in 0..=12 {
            let gain = after[shell] / before[shell];
            match shell {
                0..=4 => assert!((gain - 1.0).abs() < 1e-4, "shell {shell}: {gain}"),
                8.. => assert!(gain < 1e-8, "shell {shell}: {gain}"),
                _ => assert!((1e-4..=1.0).contains(&gain), "shell {shell}: {gain}"),
            }
        }
    }

    #[test]
    fn resampling_a_smooth_map_gives_its_values_at_the_new_voxels() {
        let blob = |step: f64| {
            move |x: f64, y: f64, z: f64| {
                let (x, y, z) = (x * step - 2.0, y * step + 1.0, z * step);
                libm::exp(-(x * x + y * y + z * z) / 18.0)
            }
        };
        let map = Volume::from_fn(32, blob(1.0)).unwrap();
        for n in [16, 40, 25] {
            let expected = Volume::from_fn(n, blob(32.0 / n as f64)).unwrap();
            let got = resampled(&map, n).unwrap();
            assert!(
                got.data()
                    .iter()
                    .zip(expected.data())
                    .all(|(g, e)| (g - e).abs() < 2e-3),
                "{n}"
            );
        }
        assert!(resampled(&map, 0).is_err());
    }
}
