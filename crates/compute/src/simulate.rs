//! Particle images simulated from a map.
//!
//! Each particle draws its pose, defocus and noise from its own random stream, named by seed and number, so any particle
//! can be made alone, in any order, and is the same bytes everywhere. Orientations are uniform, shifts uniform within
//! three pixels; the microscope is of 300 kV, Cs 2.7 mm, amplitude contrast 0.1; the noise is white.

use num_complex::Complex32;
use thiserror::Error;

use crate::ctf::{Ctf, CtfParams};
use crate::fft::{RealFft2, half_plane_len, shift_half_plane};
use crate::noise::GaussianNoise;
use crate::orientation::Rotation;
use crate::projector::{Projector, ProjectorError};
use crate::volume::{Image, Volume};

/// How far particles lie off the centre at most, along x and along y, in pixels.
pub const SHIFT_PX_MAX: f64 = 3.0;

const DEFOCUS_ANGSTROM: std::ops::Range<f64> = 10_000.0..25_000.0;
/// How far the two defoci differ at most.
const ASTIGMATISM_ANGSTROM_MAX: f64 = 300.0;

/// The signal's variance is measured on this many of the first particles: it is then known to about a percent.
const SIGNAL_PARTICLES_MAX: u64 = 256;

/// Twice the box: projections are then right to about a percent (SCIENCE: padding and gridding).
const PADDING: f64 = 2.0;

/// What to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulationParams {
    /// How many particles.
    pub particle_count: u64,
    /// The variance of the noise-free images, CTF applied, inside the particle's circle, over the noise's; infinite for
    /// images without noise.
    pub snr: f64,
    /// The diameter of that circle, in Å.
    pub diameter_angstrom: f64,
    /// The map's voxel, and the images' pixel, in Å.
    pub pixel_size_angstrom: f64,
    /// What the random streams grow from.
    pub seed: u64,
}

/// Why nothing can be simulated.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SimulationError {
    /// There are no particles to make.
    #[error("no particles asked for")]
    NoParticles,
    /// A number must be positive.
    #[error("{name} is {value}, expected a positive number")]
    NotPositive {
        /// Which.
        name: &'static str,
        /// What it is.
        value: f64,
    },
    /// The map gives images without contrast inside the circle.
    #[error("projections of the map have no contrast inside {diameter_angstrom} Å")]
    NoSignal {
        /// The circle's diameter.
        diameter_angstrom: f64,
    },
    /// The map cannot be projected.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
}

/// Everything about a particle but its image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulatedTruth {
    /// Its orientation.
    pub rotation: Rotation,
    /// The shift (x, y) that centres it, in pixels: it lies displaced by the opposite.
    pub shift_px: [f64; 2],
    /// Its CTF.
    pub ctf: CtfParams,
    /// Its half-set, 1 or 2.
    pub half_set: u8,
}

/// A particle.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedParticle {
    /// The image: protein white, noise added.
    pub image: Image,
    /// What it shows.
    pub truth: SimulatedTruth,
}

/// A data set in the making: an iterator of its particles, in order.
pub struct Simulation {
    params: SimulationParams,
    projector: Projector,
    fft: RealFft2,
    half: Vec<Complex32>,
    ctf: Vec<f32>,
    noise_sd: f64,
    next_index: u64,
}

impl Simulation {
    /// Prepares the set and measures the signal on its first particles.
    pub fn new(map: &Volume, params: SimulationParams) -> Result<Self, SimulationError> {
        params.check()?;
        let n = map.n();
        let projector = Projector::new(map, ((n - 1) / 2).max(1), PADDING)?;
        let mut simulation = Self {
            params,
            projector,
            fft: RealFft2::new(n).map_err(ProjectorError::from)?,
            half: vec![Complex32::ZERO; half_plane_len(n)],
            ctf: vec![0.0; half_plane_len(n)],
            noise_sd: 0.0,
            next_index: 0,
        };
        let signal = simulation.signal_variance();
        if !(signal.is_finite() && signal > 0.0) {
            return Err(SimulationError::NoSignal {
                diameter_angstrom: params.diameter_angstrom,
            });
        }
        simulation.noise_sd = libm::sqrt(signal / params.snr);
        Ok(simulation)
    }

    /// The standard deviation of the noise, in the map's grey values summed along the view.
    pub fn noise_sd(&self) -> f64 {
        self.noise_sd
    }

    /// The particle of number `index`, from 0, whatever was made before.
    pub fn particle(&mut self, index: u64) -> SimulatedParticle {
        let (truth, mut stream) = self.draw(index);
        let mut image = self.noise_free(&truth);
        if self.noise_sd > 0.0 {
            for grey in image.data_mut() {
                *grey += (self.noise_sd * stream.next()) as f32;
            }
        }
        SimulatedParticle { image, truth }
    }

    /// The projection of the map as a particle shows it, CTF applied, without noise.
    pub fn noise_free(&mut self, truth: &SimulatedTruth) -> Image {
        let n = self.fft.n();
        self.projector
            .slice(&truth.rotation, n, self.projector.k_max(), &mut self.half);
        let ctf = Ctf::new(&truth.ctf).expect("drawn parameters are a microscope's");
        ctf.fill_half_plane(n, self.params.pixel_size_angstrom, &mut self.ctf);
        for (value, ctf) in self.half.iter_mut().zip(&self.ctf) {
            *value *= *ctf;
        }
        shift_half_plane(&mut self.half, n, truth.shift_px.map(|shift| -shift));
        let mut image = Image::zeros(n).expect("the box of a map is a box");
        self.fft.inverse(&self.half, image.data_mut());
        image
    }

    /// A particle's truth, and its stream, from which the noise comes next.
    fn draw(&self, index: u64) -> (SimulatedTruth, GaussianNoise) {
        let mut stream = GaussianNoise::new(self.params.seed, index);
        // Four normal deviates, normalised, are uniform on the sphere of quaternions.
        let [w, x, y, z] = std::array::from_fn(|_| stream.next());
        let mut between = |low: f64, high: f64| low + (high - low) * stream.uniform();
        let shift_px = [
            between(-SHIFT_PX_MAX, SHIFT_PX_MAX),
            between(-SHIFT_PX_MAX, SHIFT_PX_MAX),
        ];
        let defocus = between(DEFOCUS_ANGSTROM.start, DEFOCUS_ANGSTROM.end);
        let astigmatism = between(0.0, ASTIGMATISM_ANGSTROM_MAX);
        let ctf = CtfParams {
            defocus_u_angstrom: defocus + astigmatism / 2.0,
            defocus_v_angstrom: defocus - astigmatism / 2.0,
            defocus_angle_deg: between(0.0, 180.0),
            ..CtfParams::default()
        };
        let rotation = Rotation::from_quaternion(w, x, y, z);
        (
            SimulatedTruth {
                rotation,
                shift_px,
                ctf,
                half_set: self.half_set(index),
            },
            stream,
        )
    }

    /// Each pair of neighbours tosses who goes to which half, so that the halves are random and of one size.
    fn half_set(&self, index: u64) -> u8 {
        // Streams from the far end, which no particle uses.
        let toss = GaussianNoise::new(self.params.seed, u64::MAX - index / 2).uniform() < 0.5;
        if toss == index.is_multiple_of(2) {
            1
        } else {
            2
        }
    }

    /// The mean over the first particles of the variance of the noise-free image inside the circle.
    fn signal_variance(&mut self) -> f64 {
        let radius = self.params.diameter_angstrom / 2.0 / self.params.pixel_size_angstrom;
        let n = self.fft.n();
        let inside: Vec<bool> = (0..n * n)
            .map(|index| {
                let [x, y] = [index % n, index / n].map(|c| c as f64 - (n / 2) as f64);
                x * x + y * y <= radius * radius
            })
            .collect();
        let count = self.params.particle_count.min(SIGNAL_PARTICLES_MAX);
        let mut sum = 0.0;
        for index in 0..count {
            let (truth, _) = self.draw(index);
            sum += variance_inside(&self.noise_free(&truth), &inside);
        }
        sum / count as f64
    }
}

impl Iterator for Simulation {
    type Item = SimulatedParticle;

    fn next(&mut self) -> Option<SimulatedParticle> {
        if self.next_index == self.params.particle_count {
            return None;
        }
        let particle = self.particle(self.next_index);
        self.next_index += 1;
        Some(particle)
    }
}

impl SimulationParams {
    fn check(&self) -> Result<(), SimulationError> {
        if self.particle_count == 0 {
            return Err(SimulationError::NoParticles);
        }
        let finite = [
            ("diameter", self.diameter_angstrom),
            ("pixel size", self.pixel_size_angstrom),
        ];
        let not_positive = |(name, value)| SimulationError::NotPositive { name, value };
        if let Some(&bad) = finite
            .iter()
            .find(|(_, value)| !(value.is_finite() && *value > 0.0))
        {
            return Err(not_positive(bad));
        }
        if self.snr > 0.0 {
            Ok(())
        } else {
            Err(not_positive(("SNR", self.snr)))
        }
    }
}

fn variance_inside(image: &Image, inside: &[bool]) -> f64 {
    let (mut count, mut sum, mut sum2) = (0.0, 0.0, 0.0);
    for (grey, _) in image
        .data()
        .iter()
        .zip(inside)
        .filter(|(_, inside)| **inside)
    {
        let grey = f64::from(*grey);
        count += 1.0;
        sum += grey;
        sum2 += grey * grey;
    }
    sum2 / count - (sum / count) * (sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fft::{frequency_index, signed_frequency};
    use crate::phantom::{DIAMETER_ANGSTROM, Phantom};

    fn params(snr: f64) -> SimulationParams {
        SimulationParams {
            particle_count: 40,
            snr,
            diameter_angstrom: DIAMETER_ANGSTROM,
            pixel_size_angstrom: 6.0,
            seed: 7,
        }
    }

    fn phantom() -> Volume {
        Phantom::new().volume(40, 6.0).unwrap()
    }

    #[test]
    fn the_image_is_the_exact_projection_shifted_under_the_ctf() {
        let mut simulation = Simulation::new(&phantom(), params(f64::INFINITY)).unwrap();
        let SimulatedParticle { image, truth } = simulation.particle(3);
        let n = image.n();
        let mut half = vec![Complex32::ZERO; half_plane_len(n)];
        RealFft2::new(n).unwrap().forward(image.data(), &mut half);
        let (mut error, mut power) = (0.0, 0.0);
        for (row, ky) in (0..n).map(|row| (row, signed_frequency(row, n))) {
            for kx in 0..=n / 2 {
                if kx * kx + (ky * ky) as usize > 15 * 15 {
                    continue;
                }
                let [sx, sy] = [kx as f64, ky as f64].map(|k| k / (n as f64 * 6.0));
                let s = truth.rotation.0.transpose() * nalgebra::Vector3::new(sx, sy, 0.0);
                // The particle lies at minus the shift, in pixels of 6 Å.
                let angle =
                    std::f64::consts::TAU * 6.0 * (sx * truth.shift_px[0] + sy * truth.shift_px[1]);
                let expected = Phantom::new().transform([s.x, s.y, s.z])
                    * num_complex::Complex64::from_polar(
                        Ctf::new(&truth.ctf).unwrap().value(sx, sy),
                        angle,
                    );
                let got = half[row * (n / 2 + 1) + kx];
                error += (f64::from(got.re) - expected.re).powi(2)
                    + (f64::from(got.im) - expected.im).powi(2);
                power += expected.norm_sqr();
            }
        }
        assert_eq!(frequency_index(-1, n), n - 1);
        let relative = (error / power).sqrt();
        assert!(relative < 0.02, "{relative}");
    }

    #[test]
    fn the_noise_has_the_variance_asked_for() {
        let mut clean = Simulation::new(&phantom(), params(f64::INFINITY)).unwrap();
        let mut noisy = Simulation::new(&phantom(), params(0.1)).unwrap();
        let inside: Vec<bool> = (0..1600_i32)
            .map(|i| (i % 40 - 20).pow(2) + (i / 40 - 20).pow(2) <= 156)
            .collect();
        let (mut signal, mut noise) = (0.0, 0.0);
        for index in 0..40 {
            let (a, b) = (clean.particle(index), noisy.particle(index));
            assert_eq!(a.truth, b.truth);
            signal += variance_inside(&a.image, &inside);
            let difference = a
                .image
                .data()
                .iter()
                .zip(b.image.data())
                .map(|(a, b)| b - a)
                .collect();
            noise += variance_inside(&Image::new(40, difference).unwrap(), &[true; 1600]);
        }
        assert!(
            (signal / noise / 0.1 - 1.0).abs() < 0.03,
            "{}",
            signal / noise
        );
    }

    #[test]
    fn a_particle_is_the_same_made_alone_or_in_its_turn() {
        let all: Vec<SimulatedParticle> =
            Simulation::new(&phantom(), params(1.0)).unwrap().collect();
        assert_eq!(all.len(), 40);
        let mut again = Simulation::new(&phantom(), params(1.0)).unwrap();
        assert_eq!(again.particle(17), all[17]);
        assert_eq!(again.particle(0), all[0]);
        assert_ne!(all[0].image, all[1].image);
        assert_eq!(
            all.iter()
                .filter(|particle| particle.truth.half_set == 1)
                .count(),
            20
        );
        let reseeded = Simulation::new(
            &phantom(),
            SimulationParams {
                seed: 8,
                ..params(1.0)
            },
        )
        .unwrap()
        .particle(0);
        assert_ne!(reseeded.truth.rotation, all[0].truth.rotation);
    }

    #[test]
    fn what_is_drawn_is_within_its_limits_and_uniform() {
        let simulation = Simulation::new(&phantom(), params(1.0)).unwrap();
        let draws: Vec<SimulatedTruth> = (0..4000).map(|index| simulation.draw(index).0).collect();
        assert!(draws.iter().all(|truth| {
            truth
                .shift_px
                .iter()
                .all(|shift| shift.abs() <= SHIFT_PX_MAX)
        }));
        assert!(
            draws
                .iter()
                .all(|truth| truth.ctf.defocus_u_angstrom - truth.ctf.defocus_v_angstrom <= 300.0)
        );
        // Views are uniform on the sphere: each component of the axis has mean 0 and mean square 1/3, and likewise for
        // the in-plane axes. Five standard errors.
        for element in 0..9 {
            let values = draws.iter().map(|truth| truth.rotation.0[element]);
            let mean = values.clone().sum::<f64>() / 4000.0;
            let square = values.map(|v| v * v).sum::<f64>() / 4000.0;
            assert!(
                mean.abs() < 0.046 && (square - 1.0 / 3.0).abs() < 0.024,
                "{element}: {mean} {square}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |map: &Volume, params| Simulation::new(map, params).err().unwrap();
        assert_eq!(
            refused(
                &phantom(),
                SimulationParams {
                    particle_count: 0,
                    ..params(1.0)
                }
            ),
            SimulationError::NoParticles
        );
        assert!(matches!(
            refused(&phantom(), params(f64::NAN)),
            SimulationError::NotPositive { name: "SNR", .. }
        ));
        assert!(matches!(
            refused(&Volume::zeros(16).unwrap(), params(1.0)),
            SimulationError::NoSignal { .. }
        ));
    }
}
