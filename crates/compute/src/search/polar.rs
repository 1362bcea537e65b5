//! The global search: all directions, in-plane angles and shifts of the grid, by angular frequency.
//!
//! Turning a slice in plane shifts it along its rings, so its correlation with an image at every in-plane angle is
//! one Fourier sum over angular frequencies m of Σ_r y_m(r) p_m(r)*. Those inner sums, for all directions and shifts,
//! are matrix products; so is the sum over m, whose even and odd parts give the half-turned angles for nothing.

use std::f64::consts::{PI, TAU};

use num_complex::Complex32;

use super::Candidate;
use super::bank::{NORM_FREQUENCY_COUNT, ReferenceBank, TILE};
use super::image::Preparation;
use super::matrix::{Strided, multiply};
use crate::ctf::Ctf;
use crate::orientation::Rotation;

/// Two orientations nearer than this many steps are one candidate.
const DISTINCT_STEPS: f64 = 1.6;

pub(super) struct PolarSearch<'a> {
    bank: &'a ReferenceBank,
    /// 1/σ² times the quadrature weight, for each ring.
    weights: Vec<f32>,
    /// e^{-2πi k·t/n} for each shift, at every sample.
    phases: Vec<Complex32>,
    /// cos and sin of (remainder × psi) for the first half of the angles, for even and for odd slots.
    even_turns: Vec<f32>,
    odd_turns: Vec<f32>,
    /// For each slot, the columns of images: Re parts of all shifts, then Im parts.
    columns: Vec<Vec<f32>>,
    sums: Vec<f32>,
    even: Vec<f32>,
    odd: Vec<f32>,
    /// For each row and angle, the best cross over shifts, and the shift's index.
    best: Vec<f32>,
    best_shift: Vec<u16>,
    norms: Vec<f32>,
}

impl<'a> PolarSearch<'a> {
    pub fn new(bank: &'a ReferenceBank, sigma2: &[f64]) -> Self {
        let n = bank.box_size_px() as f64;
        let shift_count = bank.shifts_px.len();
        let psi_count = psi_count(bank);
        // The half-plane holds half of each ring's 2πr pixels.
        let weight =
            |radius: usize, count: usize| radius as f64 * PI / count as f64 / sigma2[radius];
        let mut phases = Vec::with_capacity(shift_count * bank.rings.points.len());
        for shift in &bank.shifts_px {
            phases.extend(bank.rings.points.iter().map(|k| {
                let turn = f64::from(k[0]) * shift[0] + f64::from(k[1]) * shift[1];
                let (sin, cos) = libm::sincos(-TAU * turn / n);
                Complex32::new(cos as f32, sin as f32)
            }));
        }
        let even_count = psi_count / 4 + 1;
        let (even, odd) = bank.folding.remainders.split_at(even_count);
        let half = psi_count / 2;
        Self {
            bank,
            weights: bank
                .rings
                .rings
                .iter()
                .map(|r| weight(r.radius, r.sample_count) as f32)
                .collect(),
            phases,
            even_turns: turns(even, psi_count),
            odd_turns: turns(odd, psi_count),
            columns: bank
                .folding
                .slot_lengths
                .iter()
                .map(|l| vec![0.0; 4 * l * shift_count])
                .collect(),
            sums: vec![0.0; 2 * bank.folding.remainders.len() * shift_count * TILE],
            even: vec![0.0; half * shift_count * TILE],
            odd: vec![0.0; half * shift_count * TILE],
            best: vec![0.0; bank.row_count * psi_count],
            best_shift: vec![0; bank.row_count * psi_count],
            norms: vec![0.0; bank.row_count * psi_count],
        }
    }

    /// The best distinct orientations of the grid, best first, each with its best shift.
    pub fn candidates(&mut self, image: &Preparation, ctf: &Ctf) -> Vec<Candidate> {
        self.score(image, ctf);
        self.select()
    }

    /// Fills `best`, `best_shift` and `norms`.
    pub(super) fn score(&mut self, image: &Preparation, ctf: &Ctf) {
        self.load(image, ctf);
        for start in (0..self.bank.row_count).step_by(TILE) {
            self.correlate(start);
            let psi_count = psi_count(self.bank);
            let rows = start * psi_count..(start + TILE) * psi_count;
            keep_best(
                &self.even,
                &self.odd,
                self.bank.shifts_px.len(),
                &mut self.best[rows.clone()],
                &mut self.best_shift[rows],
            );
        }
    }

    /// Image side: rings weighted by the CTF and the noise, moved by every shift, transformed along the angle.
    fn load(&mut self, image: &Preparation, ctf: &Ctf) {
        let bank = self.bank;
        let shift_count = bank.shifts_px.len();
        let step = 1.0 / (bank.box_size_px() as f64 * bank.settings().pixel_size_angstrom);
        let point_count = bank.rings.points.len();
        let (mut full, mut scratch, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        let ring_count = bank.rings.rings.len();
        let mut powers = vec![vec![0.0_f32; 4 * ring_count]; NORM_FREQUENCY_COUNT];
        for (index, ring) in bank.rings.rings.iter().enumerate() {
            let samples = ring.start..ring.start + ring.sample_count / 2;
            let points = &bank.rings.points[samples.clone()];
            let transfer: Vec<f32> = points
                .iter()
                .map(|k| ctf.value(f64::from(k[0]) * step, f64::from(k[1]) * step) as f32)
                .collect();
            let weight = self.weights[index];
            let weighted: Vec<Complex32> = points
                .iter()
                .zip(&transfer)
                .map(|(k, c)| image.sample(*k) * (c * weight))
                .collect();
            for shift in 0..shift_count {
                let phases = &self.phases[shift * point_count..][samples.clone()];
                moved.clear();
                moved.extend(
                    weighted
                        .iter()
                        .zip(phases)
                        .map(|(value, phase)| value * phase),
                );
                ring.transform(&moved, &mut full, &mut scratch);
                for (m, (value, place)) in full.iter().zip(&bank.folding.places[index]).enumerate()
                {
                    // m stands for -m too, whose term is the conjugate.
                    let twice = if m == 0 { 1.0 } else { 2.0 };
                    let (re, im) = (
                        value.re * twice,
                        value.im * if place.conjugate { -twice } else { twice },
                    );
                    let length = 2 * bank.folding.slot_lengths[place.slot];
                    let columns = &mut self.columns[place.slot];
                    let at = shift * length + 2 * place.position;
                    columns[at] = re;
                    columns[at + 1] = im;
                    let at = at + shift_count * length;
                    columns[at] = im;
                    columns[at + 1] = -re;
                }
            }
            ring.transform_real(
                transfer.iter().map(|c| c * c * (weight / 2.0)),
                &mut full,
                &mut scratch,
            );
            for (frequency, power) in powers.iter_mut().enumerate() {
                let value = full[2 * frequency] * if frequency == 0 { 1.0 } else { 2.0 };
                power[2 * index] = value.re;
                power[2 * index + 1] = value.im;
                power[2 * ring_count + 2 * index] = value.im;
                power[2 * ring_count + 2 * index + 1] = -value.re;
            }
        }
        self.load_norms(&powers);
    }

    fn load_norms(&mut self, powers: &[Vec<f32>]) {
        let (rows, psi_count) = (self.bank.row_count, psi_count(self.bank));
        let inner = 2 * self.bank.rings.rings.len();
        let mut sums = vec![0.0; 2 * rows];
        self.norms.fill(0.0);
        for (frequency, power) in powers.iter().enumerate() {
            let slices = Strided {
                data: &self.bank.norms[frequency],
                row_stride: 1,
                column_stride: rows,
            };
            multiply(
                &mut sums,
                [rows, inner, 2],
                slices,
                Strided {
                    data: power,
                    row_stride: 1,
                    column_stride: inner,
                },
            );
            let turns: Vec<(f32, f32)> = (0..psi_count)
                .map(|j| {
                    let (sin, cos) = libm::sincos(
                        TAU * (2 * frequency * j % psi_count) as f64 / psi_count as f64,
                    );
                    (cos as f32, sin as f32)
                })
                .collect();
            for (row, norms) in self.norms.chunks_exact_mut(psi_count).enumerate() {
                let (re, im) = (sums[row], sums[rows + row]);
                for (norm, (cos, sin)) in norms.iter_mut().zip(&turns) {
                    *norm += re * cos + im * sin;
                }
            }
        }
    }

    /// One tile of directions against all shifts and angles.
    fn correlate(&mut self, start: usize) {
        let bank = self.bank;
        let shift_count = bank.shifts_px.len();
        let lanes = shift_count * TILE;
        for (slot, length) in bank.folding.slot_lengths.iter().enumerate() {
            let inner = 2 * length;
            let out = &mut self.sums[2 * slot * lanes..][..2 * lanes];
            if inner == 0 {
                // A fine grid of angles has remainders that no ring reaches.
                out.fill(0.0);
                continue;
            }
            let slices = Strided {
                data: &bank.slots[slot][start..],
                row_stride: 1,
                column_stride: bank.row_count,
            };
            let columns = Strided {
                data: &self.columns[slot],
                row_stride: 1,
                column_stride: inner,
            };
            multiply(out, [TILE, inner, 2 * shift_count], slices, columns);
        }
        let half = psi_count(bank) / 2;
        let split = self.even_turns.len() / half;
        let (even, odd) = self.sums.split_at(split * lanes);
        for (turns, sums, out) in [
            (&self.even_turns, even, &mut self.even),
            (&self.odd_turns, odd, &mut self.odd),
        ] {
            let turns_matrix = Strided {
                data: turns,
                row_stride: 1,
                column_stride: half,
            };
            let sums_matrix = Strided {
                data: sums,
                row_stride: lanes,
                column_stride: 1,
            };
            multiply(
                out,
                [half, turns.len() / half, lanes],
                turns_matrix,
                sums_matrix,
            );
        }
    }

    fn select(&self) -> Vec<Candidate> {
        let bank = self.bank;
        let psi_count = psi_count(bank);
        let mode = bank.settings().mode;
        let count = bank.views.len() * psi_count;
        let mut scores: Vec<f32> = self.best[..count]
            .iter()
            .zip(&self.norms)
            .map(|(cross, norm)| mode.score(*cross, *norm))
            .collect();
        let apart_deg = DISTINCT_STEPS * 360.0 / psi_count as f64;
        let apart_cos = libm::cos(apart_deg.to_radians());
        let mut candidates = Vec::with_capacity(bank.settings().candidate_count);
        while candidates.len() < bank.settings().candidate_count {
            let mut top = (0, f32::NEG_INFINITY);
            for (index, score) in scores.iter().enumerate() {
                if *score > top.1 {
                    top = (index, *score);
                }
            }
            if top.1 == f32::NEG_INFINITY {
                break;
            }
            let orientation = turned(&bank.views[top.0 / psi_count], top.0 % psi_count, psi_count);
            let shift_px = bank.shifts_px[usize::from(self.best_shift[top.0])];
            candidates.push(Candidate {
                orientation,
                shift_px,
                score: top.1,
            });
            for operator in bank.unit.operators() {
                let mate = orientation.with_operator(operator);
                for (direction, view) in bank.views.iter().enumerate() {
                    if mate.0.row(2).dot(&view.0.row(2)) < apart_cos {
                        continue;
                    }
                    for psi in 0..psi_count {
                        if turned(view, psi, psi_count).angle_to_deg(&mate) < apart_deg {
                            scores[direction * psi_count + psi] = f32::NEG_INFINITY;
                        }
                    }
                }
            }
            // Whatever rounding says of the distance to itself, no candidate comes twice.
            scores[top.0] = f32::NEG_INFINITY;
        }
        candidates
    }

    /// Best cross over shifts and norm at a direction and in-plane angle, for tests.
    #[cfg(test)]
    pub(super) fn scored(&self, direction: usize, psi: usize) -> (f32, f32, [f64; 2]) {
        let at = direction * psi_count(self.bank) + psi;
        (
            self.best[at],
            self.norms[at],
            self.bank.shifts_px[usize::from(self.best_shift[at])],
        )
    }
}

fn psi_count(bank: &ReferenceBank) -> usize {
    crate::sampling::psi_count(bank.settings().order)
}

fn turned(view: &Rotation, psi: usize, psi_count: usize) -> Rotation {
    view.then(&Rotation::from_euler_deg(
        0.0,
        0.0,
        360.0 * psi as f64 / psi_count as f64,
    ))
}

/// Columns of half the angles: cos(remainder ψ), then sin, for each remainder.
fn turns(remainders: &[usize], psi_count: usize) -> Vec<f32> {
    let mut turns = Vec::new();
    for remainder in remainders {
        let angle = |j: usize| TAU * (remainder * j % psi_count) as f64 / psi_count as f64;
        turns.extend((0..psi_count / 2).map(|j| libm::cos(angle(j)) as f32));
        turns.extend((0..psi_count / 2).map(|j| libm::sin(angle(j)) as f32));
    }
    turns
}

/// The best over shifts of even + odd (first half of the angles) and even − odd (half a turn further).
#[multiversion::multiversion(targets("x86_64+avx2+fma"))]
fn keep_best(
    even: &[f32],
    odd: &[f32],
    shift_count: usize,
    best: &mut [f32],
    best_shift: &mut [u16],
) {
    let psi_count = best.len() / TILE;
    let half = psi_count / 2;
    best.fill(f32::NEG_INFINITY);
    for shift in 0..shift_count {
        for row in 0..TILE {
            let from = (shift * TILE + row) * half;
            let (even, odd) = (&even[from..from + half], &odd[from..from + half]);
            let (first, second) = best[row * psi_count..(row + 1) * psi_count].split_at_mut(half);
            let (first_shift, second_shift) =
                best_shift[row * psi_count..(row + 1) * psi_count].split_at_mut(half);
            for j in 0..half {
                let (sum, difference) = (even[j] + odd[j], even[j] - odd[j]);
                first_shift[j] = if sum > first[j] {
                    shift as u16
                } else {
                    first_shift[j]
                };
                first[j] = if sum > first[j] { sum } else { first[j] };
                second_shift[j] = if difference > second[j] {
                    shift as u16
                } else {
                    second_shift[j]
                };
                second[j] = if difference > second[j] {
                    difference
                } else {
                    second[j]
                };
            }
        }
    }
}
