//! The built-in asymmetric phantom.
//!
//! A compact particle of about 150 Å: beads of 3 Å make up lobes of unequal size about a long body, few enough to stand
//! apart as a protein's domains and helices do, so that there is something to tell orientations apart by at every
//! resolution from 100 to 8 Å, and no symmetry. Being a sum of Gaussians
//! it is known exactly in Fourier space too: tests can do without interpolation.

use num_complex::Complex64;

use crate::density::{self, DensityError, Gaussian};
use crate::noise::GaussianNoise;
use crate::volume::Volume;

/// The longest extent of the phantom, in Å.
pub const DIAMETER_ANGSTROM: f64 = 150.0;

/// Which phantom is drawn. Changing it, or anything below, changes every simulated data set and the figures in README.
const SEED: u64 = 2013;

const BEAD_SIGMA_ANGSTROM: f64 = 3.0;

/// No bead's centre lies farther out: with its own three sigmas it stays inside the diameter.
const RADIUS_ANGSTROM: f64 = DIAMETER_ANGSTROM / 2.0 - 3.0 * BEAD_SIGMA_ANGSTROM;

/// Lobes: centre in Å, spread in Å, number of beads.
const LOBES: [([f64; 3], f64, usize); 9] = [
    ([0.0, 0.0, 0.0], 18.0, 36),
    ([34.0, 6.0, -4.0], 12.0, 20),
    ([-30.0, 14.0, 10.0], 13.0, 22),
    ([-46.0, -6.0, 22.0], 9.0, 10),
    ([8.0, 34.0, 14.0], 11.0, 16),
    ([14.0, -26.0, 22.0], 10.0, 12),
    ([-8.0, -12.0, -36.0], 12.0, 18),
    ([22.0, 16.0, -40.0], 8.0, 8),
    ([50.0, -14.0, 18.0], 7.0, 6),
];

/// The phantom.
#[derive(Debug, Clone, PartialEq)]
pub struct Phantom {
    beads: Vec<Gaussian>,
}

impl Default for Phantom {
    fn default() -> Self {
        Self::new()
    }
}

impl Phantom {
    /// The one there is, its centre of mass at the origin.
    pub fn new() -> Self {
        let mut noise = GaussianNoise::new(SEED, 0);
        let mut beads = Vec::new();
        for (centre, spread, count) in LOBES {
            for _ in 0..count {
                beads.push(bead(&mut noise, centre, spread));
            }
        }
        let mean: [f64; 3] = std::array::from_fn(|axis| {
            beads
                .iter()
                .map(|bead| bead.centre_angstrom[axis])
                .sum::<f64>()
                / beads.len() as f64
        });
        for bead in &mut beads {
            for (centre, mean) in bead.centre_angstrom.iter_mut().zip(mean) {
                *centre -= mean;
            }
        }
        Self { beads }
    }

    /// The Gaussians it consists of.
    pub fn gaussians(&self) -> &[Gaussian] {
        &self.beads
    }

    /// Its map. The box should span 200 Å or more.
    pub fn volume(&self, n: usize, pixel_size_angstrom: f64) -> Result<Volume, DensityError> {
        density::from_gaussians(&self.beads, n, pixel_size_angstrom)
    }

    /// Its exact transform at spatial frequency `s`, in 1/Å.
    pub fn transform(&self, s: [f64; 3]) -> Complex64 {
        let s2: f64 = s.iter().map(|component| component * component).sum();
        let mut sum = Complex64::ZERO;
        for bead in &self.beads {
            let dot: f64 = s.iter().zip(bead.centre_angstrom).map(|(s, c)| s * c).sum();
            let (sin, cos) = libm::sincos(-std::f64::consts::TAU * dot);
            sum += Complex64::new(cos, sin) * bead.mass;
        }
        // All beads are of one width.
        let pi_sigma = std::f64::consts::PI * BEAD_SIGMA_ANGSTROM;
        sum * libm::exp(-2.0 * pi_sigma * pi_sigma * s2)
    }
}

/// A bead of a lobe, drawn again until it lies within the radius.
fn bead(noise: &mut GaussianNoise, centre: [f64; 3], spread: f64) -> Gaussian {
    loop {
        let position = centre.map(|component| component + spread * noise.next());
        let distance2: f64 = position.iter().map(|component| component * component).sum();
        if distance2 <= RADIUS_ANGSTROM * RADIUS_ANGSTROM {
            return Gaussian {
                centre_angstrom: position,
                sigma_angstrom: BEAD_SIGMA_ANGSTROM,
                mass: 1.0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fft::{RealFft3, half_space_len};
    use num_complex::Complex32;

    #[test]
    fn the_map_has_the_transform_it_says() {
        let phantom = Phantom::new();
        let (n, pixel) = (48, 4.0);
        let map = phantom.volume(n, pixel).unwrap();
        let mut half = vec![Complex32::ZERO; half_space_len(n)];
        RealFft3::new(n).unwrap().forward(map.data(), &mut half);
        for (kx, ky, kz) in [(0, 0, 0), (1, 2, 0), (4, 3, 5), (10, 1, 7), (2, 20, 3)] {
            let expected = phantom.transform([kx, ky, kz].map(|k| k as f64 / (n as f64 * pixel)));
            let got = half[(kz * n + ky) * (n / 2 + 1) + kx];
            let difference =
                (f64::from(got.re) - expected.re).hypot(f64::from(got.im) - expected.im);
            assert!(difference < 0.05, "{kx} {ky} {kz}: {got} for {expected}");
        }
    }

    #[test]
    fn it_fits_its_diameter_and_has_no_axis() {
        let phantom = Phantom::new();
        let farthest = |axis: [f64; 3]| {
            phantom
                .gaussians()
                .iter()
                .map(|bead| {
                    bead.centre_angstrom
                        .iter()
                        .zip(axis)
                        .map(|(c, a)| c * a)
                        .sum::<f64>()
                })
                .fold(f64::NEG_INFINITY, f64::max)
        };
        let ends = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
            .map(|a| [farthest(a), farthest(a.map(|c| -c))]);
        assert!(
            ends.iter()
                .flatten()
                .all(|end| (35.0..DIAMETER_ANGSTROM / 2.0 + 5.0).contains(end)),
            "{ends:?}"
        );
        // A two-fold axis would make the third moments across it vanish; a longer one would make widths equal.
        let moment = |axis: usize, power: i32| {
            let beads = phantom.gaussians();
            let sum: f64 = beads
                .iter()
                .map(|bead| bead.centre_angstrom[axis].powi(power))
                .sum();
            sum / beads.len() as f64
        };
        let widths = [0, 1, 2].map(|axis| moment(axis, 2).sqrt());
        let skews = [0, 1, 2].map(|axis| (moment(axis, 3) / widths[axis].powi(3)).abs());
        for (a, b) in [(0, 1), (1, 2), (2, 0)] {
            assert!((widths[a] / widths[b] - 1.0).abs() > 0.02, "{widths:?}");
        }
        assert!(skews.iter().all(|skew| *skew > 0.02), "{skews:?}");
    }
}
