//! The global search: all directions, in-plane angles and shifts of the grid, by angular frequency.
//!
//! Turning a slice in plane shifts it along its rings, so its correlation with an image at every in-plane angle is
//! one Fourier sum over angular frequencies m of Σ_r y_m(r) p_m(r)*. Those inner sums, for all directions and shifts,
//! are matrix products. Seen from the other side a slice has the coefficients p_m*: the same products, added otherwise, are
//! its sums. The sum over m is a matrix product too, whose even and odd parts give the half-turned angles for nothing.

use std::f64::consts::TAU;

use num_complex::Complex32;

use super::Candidate;
use super::bank::{NORM_FREQUENCY_COUNT, ReferenceBank, TILE, antipode};
use super::image::Preparation;
use super::matrix::{Strided, multiply};
use super::rings::ring_weight;
use crate::ctf::Ctf;
use crate::orientation::Rotation;

/// Scores compared together: what an AVX2 register holds of f32.
const LANES: usize = 8;

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
    /// Products of real and imaginary parts, for one slot and tile.
    products: Vec<f32>,
    sums: Vec<f32>,
    even: Vec<f32>,
    odd: Vec<f32>,
    /// For each row and angle, the best cross over shifts, and the shift's index. Rows are the bank's, then their antipodes.
    best: Vec<f32>,
    best_shift: Vec<u32>,
    norms: Vec<f32>,
}

impl<'a> PolarSearch<'a> {
    pub fn new(bank: &'a ReferenceBank, sigma2: &[f64]) -> Self {
        let shift_count = bank.shifts_px.len();
        let psi_count = psi_count(bank);
        let even_count = psi_count / 4 + 1;
        let (even, odd) = bank.folding.remainders.split_at(even_count);
        let half = psi_count / 2;
        let lanes = 2 * shift_count * TILE;
        let score_count = 2 * bank.row_count * psi_count;
        Self {
            bank,
            weights: bank
                .rings
                .rings
                .iter()
                .map(|r| (ring_weight(r.radius, r.sample_count) / sigma2[r.radius]) as f32)
                .collect(),
            phases: bank.rings.shift_phases(&bank.shifts_px, bank.box_size_px()),
            even_turns: turns(even, psi_count),
            odd_turns: turns(odd, psi_count),
            columns: bank
                .folding
                .slot_lengths
                .iter()
                .map(|l| vec![0.0; 2 * l * shift_count])
                .collect(),
            products: vec![0.0; 2 * lanes],
            sums: vec![0.0; 2 * bank.folding.remainders.len() * lanes],
            even: vec![0.0; half * lanes],
            odd: vec![0.0; half * lanes],
            best: vec![0.0; score_count],
            best_shift: vec![0; score_count],
            norms: vec![0.0; score_count],
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
        let (rows, psi_count) = (self.bank.row_count, psi_count(self.bank));
        let side = self.bank.shifts_px.len() * TILE * psi_count / 2;
        for start in (0..rows).step_by(TILE) {
            self.correlate(start);
            for (first_row, sums) in [(start, 0..side), (rows + start, side..2 * side)] {
                let scores = first_row * psi_count..(first_row + TILE) * psi_count;
                keep_best(
                    &self.even[sums.clone()],
                    &self.odd[sums],
                    self.bank.shifts_px.len(),
                    &mut self.best[scores.clone()],
                    &mut self.best_shift[scores],
                );
            }
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
        let mut powers = vec![vec![0.0_f32; 8 * ring_count]; NORM_FREQUENCY_COUNT];
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
                .map(|(k, c)| image.sample(*k) * (ctf.data_factor(*c) * weight))
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
                    let length = bank.folding.slot_lengths[place.slot];
                    let columns = &mut self.columns[place.slot];
                    let at = shift * length + place.position;
                    columns[at] = re;
                    columns[at + shift_count * length] = im;
                }
            }
            ring.transform_real(
                transfer.iter().map(|c| c * c * (weight / 2.0)),
                &mut full,
                &mut scratch,
            );
            for (frequency, power) in powers.iter_mut().enumerate() {
                let value = full[2 * frequency] * if frequency == 0 { 1.0 } else { 2.0 };
                // Re and Im of the sum with q_m*, then with q_m: of a direction, then of its antipode.
                let factors = [
                    [value.re, value.im],
                    [value.im, -value.re],
                    [value.re, -value.im],
                    [value.im, value.re],
                ];
                for (column, factors) in factors.iter().enumerate() {
                    let at = 2 * (column * ring_count + index);
                    power[at..at + 2].copy_from_slice(factors);
                }
            }
        }
        self.load_norms(&powers);
    }

    fn load_norms(&mut self, powers: &[Vec<f32>]) {
        let (rows, psi_count) = (self.bank.row_count, psi_count(self.bank));
        let inner = 2 * self.bank.rings.rings.len();
        let mut sums = vec![0.0; 4 * rows];
        self.norms.fill(0.0);
        for (frequency, power) in powers.iter().enumerate() {
            let slices = Strided {
                data: &self.bank.norms[frequency],
                row_stride: 1,
                column_stride: rows,
            };
            multiply(
                &mut sums,
                [rows, inner, 4],
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
                let side = if row < rows { 0 } else { rows };
                let (re, im) = (sums[row + side], sums[row + side + rows]);
                for (norm, (cos, sin)) in norms.iter_mut().zip(&turns) {
                    *norm += re * cos + im * sin;
                }
            }
        }
    }

    /// One tile of directions and their antipodes against all shifts and angles.
    fn correlate(&mut self, start: usize) {
        let bank = self.bank;
        let shift_count = bank.shifts_px.len();
        let lanes = 2 * shift_count * TILE;
        for (slot, &length) in bank.folding.slot_lengths.iter().enumerate() {
            let out = &mut self.sums[2 * slot * lanes..][..2 * lanes];
            if length == 0 {
                // A fine grid of angles has remainders that no ring reaches.
                out.fill(0.0);
                continue;
            }
            let slices = Strided {
                data: &bank.slots[slot][2 * start * length..],
                row_stride: 1,
                column_stride: 2 * TILE,
            };
            let columns = Strided {
                data: &self.columns[slot],
                row_stride: 1,
                column_stride: length,
            };
            multiply(
                &mut self.products,
                [2 * TILE, length, 2 * shift_count],
                slices,
                columns,
            );
            add_products(&self.products, out);
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
        let views: Vec<(usize, Rotation)> = (0..2 * bank.row_count)
            .filter_map(|row| Some((row, self.view(row)?)))
            .collect();
        let mut scores = vec![f32::NEG_INFINITY; self.best.len()];
        for (row, _) in &views {
            let of_row = row * psi_count..(row + 1) * psi_count;
            let sums = self.best[of_row.clone()]
                .iter()
                .zip(&self.norms[of_row.clone()]);
            for (score, (cross, norm)) in scores[of_row].iter_mut().zip(sums) {
                *score = mode.score(*cross, *norm);
            }
        }
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
            let Some(view) = self
                .view(top.0 / psi_count)
                .filter(|_| top.1 > f32::NEG_INFINITY)
            else {
                break;
            };
            let orientation = turned(&view, top.0 % psi_count, psi_count);
            let shift_px = bank.shifts_px[self.best_shift[top.0] as usize];
            candidates.push(Candidate {
                orientation,
                shift_px,
                score: top.1,
            });
            for operator in bank.unit.operators() {
                let mate = orientation.with_operator(operator);
                for (row, view) in &views {
                    if mate.0.row(2).dot(&view.0.row(2)) < apart_cos {
                        continue;
                    }
                    for psi in 0..psi_count {
                        if turned(view, psi, psi_count).angle_to_deg(&mate) < apart_deg {
                            scores[row * psi_count + psi] = f32::NEG_INFINITY;
                        }
                    }
                }
            }
            // Whatever rounding says of the distance to itself, no candidate comes twice.
            scores[top.0] = f32::NEG_INFINITY;
        }
        candidates
    }

    /// What a row of scores looks along, at psi 0; none for rows that fill up a tile.
    pub(super) fn view(&self, row: usize) -> Option<Rotation> {
        let (rows, views) = (self.bank.row_count, &self.bank.views);
        match row.checked_sub(rows) {
            None => views.get(row).copied(),
            Some(row) => views.get(row).map(antipode),
        }
    }

    /// Best cross over shifts and norm at a row and in-plane angle, for tests.
    #[cfg(test)]
    pub(super) fn scored(&self, row: usize, psi: usize) -> (f32, f32, [f64; 2]) {
        let at = row * psi_count(self.bank) + psi;
        (
            self.best[at],
            self.norms[at],
            self.bank.shifts_px[self.best_shift[at] as usize],
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

/// From products of parts, columns of re·re and re·im for all shifts and then of im·re and im·im, the first part being the
/// image's: Re then Im of y p*, for all shifts and directions, and of y p, which is their antipodes', in `out` as (Re of
/// both, Im of both).
#[multiversion::multiversion(targets("x86_64+avx2+fma"))]
fn add_products(products: &[f32], out: &mut [f32]) {
    let side = out.len() / 4;
    let (re, im) = out.split_at_mut(2 * side);
    let ((re_direct, re_antipode), (im_direct, im_antipode)) =
        (re.split_at_mut(side), im.split_at_mut(side));
    let (of_re, of_im) = products.split_at(2 * side);
    let of_shift = of_re
        .chunks_exact(2 * TILE)
        .zip(of_im.chunks_exact(2 * TILE));
    for (shift, (of_re, of_im)) in of_shift.enumerate() {
        for row in 0..TILE {
            let at = shift * TILE + row;
            let (re_re, re_im) = (of_re[row], of_re[TILE + row]);
            let (im_re, im_im) = (of_im[row], of_im[TILE + row]);
            re_direct[at] = re_re + im_im;
            im_direct[at] = im_re - re_im;
            re_antipode[at] = re_re - im_im;
            im_antipode[at] = im_re + re_im;
        }
    }
}

/// The best over shifts of even + odd (first half of the angles) and even − odd (half a turn further).
#[multiversion::multiversion(targets("x86_64+avx2+fma"))]
fn keep_best(
    even: &[f32],
    odd: &[f32],
    shift_count: usize,
    best: &mut [f32],
    best_shift: &mut [u32],
) {
    let half = best.len() / TILE / 2;
    // Coarse grids have few angles, and little work.
    if half.is_multiple_of(LANES) {
        keep_best_lanes::<LANES>(even, odd, shift_count, best, best_shift);
    } else {
        keep_best_lanes::<1>(even, odd, shift_count, best, best_shift);
    }
}

#[inline(always)]
fn keep_best_lanes<const LANES: usize>(
    even: &[f32],
    odd: &[f32],
    shift_count: usize,
    best: &mut [f32],
    best_shift: &mut [u32],
) {
    let half = best.len() / TILE / 2;
    for row in 0..TILE {
        for first in (0..half).step_by(LANES) {
            let mut top = [[f32::NEG_INFINITY; LANES]; 2];
            let mut top_shift = [[0_u32; LANES]; 2];
            for shift in 0..shift_count {
                let from = (shift * TILE + row) * half + first;
                let (even, odd) = (&even[from..from + LANES], &odd[from..from + LANES]);
                for lane in 0..LANES {
                    let sums = [even[lane] + odd[lane], even[lane] - odd[lane]];
                    for turn in 0..2 {
                        let is_better = sums[turn] > top[turn][lane];
                        let (value, at) = (top[turn][lane], top_shift[turn][lane]);
                        top[turn][lane] = if is_better { sums[turn] } else { value };
                        top_shift[turn][lane] = if is_better { shift as u32 } else { at };
                    }
                }
            }
            for turn in 0..2 {
                let to = row * 2 * half + turn * half + first;
                best[to..to + LANES].copy_from_slice(&top[turn]);
                best_shift[to..to + LANES].copy_from_slice(&top_shift[turn]);
            }
        }
    }
}
