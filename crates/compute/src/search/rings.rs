//! Polar rings of Fourier space: where samples lie, and how angular frequencies are folded for a matrix product.

use std::f64::consts::{PI, TAU};
use std::sync::Arc;

use num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

/// One circle of frequencies.
pub(super) struct Ring {
    /// In Fourier pixels; also its shell.
    pub radius: usize,
    /// Samples round the whole circle. Only the first half is stored: images and slices are Hermitian.
    pub sample_count: usize,
    /// Angular frequencies 0..=m_max carry what a particle within the mask can hold.
    pub m_max: usize,
    /// Where its samples begin in a list of all half-circles.
    pub start: usize,
    fft: Arc<dyn Fft<f32>>,
}

/// All rings up to a limit, and the samples on their half-circles.
pub(super) struct Rings {
    pub rings: Vec<Ring>,
    /// (kx, ky) of each sample, in Fourier pixels.
    pub points: Vec<[f32; 2]>,
}

impl Rings {
    /// Rings 1..=`k_max` for content within `reach_px` of the centre of a box of `n` pixels.
    pub fn new(k_max: usize, reach_px: f64, n: usize) -> Self {
        let mut planner = FftPlanner::new();
        let (mut rings, mut points) = (Vec::new(), Vec::new());
        for radius in 1..=k_max {
            // Beyond its argument a Bessel function dies out within a few orders.
            let m_max = (TAU * radius as f64 * reach_px / n as f64).ceil() as usize + 6;
            let sample_count = (2 * m_max + 2).next_multiple_of(8);
            let start = points.len();
            points.extend((0..sample_count / 2).map(|j| {
                let (sin, cos) = libm::sincos(TAU * j as f64 / sample_count as f64);
                [(radius as f64 * cos) as f32, (radius as f64 * sin) as f32]
            }));
            rings.push(Ring {
                radius,
                sample_count,
                m_max,
                start,
                fft: planner.plan_fft_forward(sample_count),
            });
        }
        Self { rings, points }
    }
}

impl Rings {
    /// e^{-2πi k·t/n} for each shift of an image of `n` pixels, at every sample.
    pub fn shift_phases(&self, shifts_px: &[[f64; 2]], n: usize) -> Vec<Complex32> {
        let mut phases = Vec::with_capacity(shifts_px.len() * self.points.len());
        for shift in shifts_px {
            phases.extend(self.points.iter().map(|k| {
                let turn = f64::from(k[0]) * shift[0] + f64::from(k[1]) * shift[1];
                let (sin, cos) = libm::sincos(-TAU * turn / n as f64);
                Complex32::new(cos as f32, sin as f32)
            }));
        }
        phases
    }
}

/// How many pixels of the half-plane, which holds half of each ring's 2πr, each of a whole ring's samples stands for.
pub(super) fn ring_weight(radius: usize, sample_count: usize) -> f64 {
    radius as f64 * PI / sample_count as f64
}

impl Ring {
    /// Angular transform Σ_j f(θ_j) e^{-imθ_j} of a Hermitian ring given by its half-circle, into `full`.
    pub fn transform(
        &self,
        half: &[Complex32],
        full: &mut Vec<Complex32>,
        scratch: &mut Vec<Complex32>,
    ) {
        full.clear();
        full.extend_from_slice(half);
        full.extend(half.iter().map(Complex32::conj));
        self.run(full, scratch);
    }

    /// The same of a ring that is real and equal on both halves.
    pub fn transform_real(
        &self,
        half: impl Iterator<Item = f32> + Clone,
        full: &mut Vec<Complex32>,
        scratch: &mut Vec<Complex32>,
    ) {
        full.clear();
        full.extend(half.clone().chain(half).map(Complex32::from));
        self.run(full, scratch);
    }

    pub fn run(&self, full: &mut [Complex32], scratch: &mut Vec<Complex32>) {
        scratch.resize(self.fft.get_inplace_scratch_len(), Complex32::ZERO);
        self.fft.process_with_scratch(full, scratch);
    }
}

/// Where angular frequency m of a ring goes. On a grid of P in-plane angles e^{-imψ} only depends on m modulo P, and
/// the upper half of those are conjugates of the lower: P/2 + 1 *slots*.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The slot; even remainders come first, so that half-turns can be split off.
    pub slot: usize,
    /// Position within the slot.
    pub position: usize,
    pub conjugate: bool,
}

/// The places of all (ring, m), ring by ring.
pub(super) struct Folding {
    pub places: Vec<Vec<Place>>,
    /// How many (ring, m) share each slot.
    pub slot_lengths: Vec<usize>,
    /// The remainder each slot stands for.
    pub remainders: Vec<usize>,
}

impl Folding {
    pub fn new(rings: &Rings, psi_count: usize) -> Self {
        let half = psi_count / 2;
        let remainders: Vec<usize> = (0..=half).step_by(2).chain((1..=half).step_by(2)).collect();
        let mut slot_of = vec![0; half + 1];
        for (slot, &remainder) in remainders.iter().enumerate() {
            slot_of[remainder] = slot;
        }
        let mut slot_lengths = vec![0; half + 1];
        let places = rings.rings.iter().map(|ring| {
            (0..=ring.m_max)
                .map(|m| {
                    let remainder = m % psi_count;
                    let conjugate = remainder > half;
                    let slot = slot_of[if conjugate {
                        psi_count - remainder
                    } else {
                        remainder
                    }];
                    slot_lengths[slot] += 1;
                    Place {
                        slot,
                        position: slot_lengths[slot] - 1,
                        conjugate,
                    }
                })
                .collect()
        });
        let places = places.collect();
        Self {
            places,
            slot_lengths,
            remainders,
        }
    }
}
