//! Maps whose fine detail is noise of the same spectrum.

use num_complex::Complex32;

use crate::fft::{RealFft3, signed_frequency};
use crate::fsc::{shell_of, transform};
use crate::noise::GaussianNoise;
use crate::volume::Volume;

/// `map` with a random phase at every frequency from shell `from` on, amplitudes as they were (Chen et al. 2013). Equal seeds and streams give equal maps; streams of one seed are independent.
pub fn phases_randomised(map: &Volume, from: usize, seed: u64, stream: u64) -> Volume {
    let n = map.n();
    let mut fft = RealFft3::new(n).expect("the box of a map is a box");
    let mut half = transform(&mut fft, map, None);
    let mut source = GaussianNoise::new(seed, stream);
    let row = n / 2 + 1;
    for index in 0..half.len() {
        let (kx, y, z) = (index % row, index / row % n, index / row / n);
        let (ky, kz) = (signed_frequency(y, n), signed_frequency(z, n));
        if shell_of((kx as isize * kx as isize + ky * ky + kz * kz) as f64) < from {
            continue;
        }
        // The plane holds its own mates; of each pair the second follows the first, or the map would not be real.
        let mate = if kx == 0 || 2 * kx == n {
            (((n - z) % n) * n + (n - y) % n) * row + kx
        } else {
            index + 1
        };
        half[index] = match mate.cmp(&index) {
            std::cmp::Ordering::Greater => half[index].norm() * random_phase(&mut source),
            std::cmp::Ordering::Less => half[mate].conj(),
            std::cmp::Ordering::Equal if source.uniform() < 0.5 => -half[index],
            std::cmp::Ordering::Equal => half[index],
        };
    }
    let mut out = map.clone();
    fft.inverse(&mut half, out.data_mut());
    out
}

fn random_phase(source: &mut GaussianNoise) -> Complex32 {
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * source.uniform());
    Complex32::new(cos as f32, sin as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsc::{fsc, shell_power};

    #[test]
    fn amplitudes_and_coarse_detail_stay_and_fine_phases_go() {
        for n in [15, 16] {
            let mut noise = GaussianNoise::new(3, 0);
            let map = Volume::from_fn(n, |_, _, _| noise.next()).unwrap();
            let randomised = phases_randomised(&map, 4, 1, 0);
            assert_eq!(randomised, phases_randomised(&map, 4, 1, 0));
            let (before, after) = (shell_power(&map), shell_power(&randomised));
            let kept = fsc(&map, &randomised, None).unwrap();
            let between = fsc(&randomised, &phases_randomised(&map, 4, 1, 1), None).unwrap();
            for shell in 0..=n / 2 {
                assert!(
                    (after[shell] / before[shell] - 1.0).abs() < 1e-4,
                    "{n}: shell {shell}"
                );
                if shell < 4 {
                    assert!(kept[shell] > 0.9999, "{n}: {kept:?}");
                } else {
                    assert!(kept[shell].abs() < 0.35, "{n}: {kept:?}");
                    assert!(between[shell].abs() < 0.35, "{n}: {between:?}");
                }
            }
        }
    }
}
