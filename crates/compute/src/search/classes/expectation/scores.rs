//! The scores of one particle: its rings against those of all averages, at every angle and shift, by matrix products.

use num_complex::Complex32;

use super::{Classifier, by_parity, column_starts, mates, turns_of};
use crate::ctf::{Ctf, CtfParams};
use crate::search::classes::grid::{POWER_FREQUENCY_COUNT, unplaced};
use crate::search::classes::references::ClassReferences;
use crate::search::matrix::{Strided, multiply};
use crate::search::rings::ring_weight;
use crate::search::{SearchError, check_noise};

impl Classifier<'_> {
    /// The rings of an image, weighted by its CTF and the noise, moved by every shift, transformed along the angle. Gives the
    /// CTF.
    pub(super) fn load(
        &mut self,
        pixels: &[f32],
        ctf: &CtfParams,
        sigma2: &[f64],
    ) -> Result<Ctf, SearchError> {
        let grid = self.grid;
        check_noise(sigma2, grid.settings.k_max)?;
        let image = unplaced(pixels, ctf);
        let ctf = Ctf::new(ctf).map_err(|source| SearchError::Ctf { index: 0, source })?;
        self.preparation.load(0, &image)?;
        let step = 1.0 / (grid.settings.box_size_px as f64 * grid.settings.pixel_size_angstrom);
        let shift_count = grid.shifts_px.len();
        let (mut full, mut scratch, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for (index, ring) in grid.rings.rings.iter().enumerate() {
            let samples = ring.start..ring.start + ring.sample_count / 2;
            let points = &grid.rings.points[samples.clone()];
            let transfer: Vec<f32> = points
                .iter()
                .map(|k| ctf.value(f64::from(k[0]) * step, f64::from(k[1]) * step) as f32)
                .collect();
            let weight = ring_weight(ring.radius, ring.sample_count) / sigma2[ring.radius];
            let weight = weight as f32;
            let weighted: Vec<Complex32> = points
                .iter()
                .zip(&transfer)
                .map(|(k, c)| self.preparation.sample(*k) * (ctf.data_factor(*c) * weight))
                .collect();
            for shift in 0..shift_count {
                let phases = &self.phases[shift * grid.sample_count()..][samples.clone()];
                moved.clear();
                moved.extend(
                    weighted
                        .iter()
                        .zip(phases)
                        .map(|(value, phase)| value * phase),
                );
                ring.transform(&moved, &mut full, &mut scratch);
                for (m, value) in full.iter().enumerate().take(ring.m_max + 1) {
                    let [direct, turned] = column_starts(grid, m, shift);
                    let (at, half) = (index - grid.first_ring(m), grid.span(m).1 / 2);
                    self.columns[direct + at] = value.re;
                    self.columns[direct + at + half] = value.im;
                    self.columns[turned + at] = value.im;
                    self.columns[turned + at + half] = -value.re;
                }
            }
            let squares = transfer.iter().map(|c| c * c * weight);
            ring.transform_real(squares, &mut full, &mut scratch);
            let k_max = grid.settings.k_max;
            for frequency in 0..POWER_FREQUENCY_COUNT.min(ring.sample_count / 4) {
                let (value, at) = (full[2 * frequency], 4 * k_max * frequency + index);
                self.powers[at] = value.re;
                self.powers[at + k_max] = value.im;
                self.powers[at + 2 * k_max] = value.im;
                self.powers[at + 3 * k_max] = -value.re;
            }
        }
        Ok(ctf)
    }

    /// Fills `halves` with the two parts of Re Σ y p* of every shift, class and angle, and `norms` with ½ Σ C²/σ² |P|².
    pub(super) fn score(&mut self, references: &ClassReferences) {
        let grid = self.grid;
        let (rows, shift_count) = (references.row_count, grid.shifts_px.len());
        let lanes = rows * shift_count;
        self.products
            .resize(2 * grid.frequency_count() * lanes, 0.0);
        self.scores.resize(grid.psi_count * lanes, 0.0);
        for (m, out) in by_parity(grid).zip(self.products.chunks_exact_mut(2 * lanes)) {
            let (offset, length) = grid.span(m);
            let averages = Strided {
                data: &references.coefficients[offset * rows..],
                row_stride: length,
                column_stride: 1,
            };
            let columns = Strided {
                data: &self.columns[2 * shift_count * offset..],
                row_stride: 1,
                column_stride: length,
            };
            multiply(out, [rows, length, 2 * shift_count], averages, columns);
        }
        let half = grid.psi_count / 2;
        let even_count = grid.frequency_count().div_ceil(2);
        let of_parity = [0..even_count, even_count..grid.frequency_count()];
        for (out, frequencies) in self.halves.iter_mut().zip(of_parity) {
            let turns = Strided {
                data: &self.half_turns[2 * frequencies.start * half..],
                row_stride: 1,
                column_stride: half,
            };
            let products = Strided {
                data: &self.products[2 * frequencies.start * lanes..],
                row_stride: lanes,
                column_stride: 1,
            };
            out.resize(half * lanes, 0.0);
            multiply(out, [half, 2 * frequencies.len(), lanes], turns, products);
        }
        self.load_norms(references);
    }

    fn load_norms(&mut self, references: &ClassReferences) {
        let grid = self.grid;
        let (rows, length) = (references.row_count, 2 * grid.settings.k_max);
        let half = grid.psi_count / 2;
        self.norms.clear();
        self.norms.resize(rows * half, 0.0);
        let mut sums = vec![0.0; 2 * rows];
        for frequency in 0..POWER_FREQUENCY_COUNT.min(grid.frequency_count().div_ceil(2)) {
            let averages = Strided {
                data: &references.powers[frequency * rows * length..],
                row_stride: length,
                column_stride: 1,
            };
            let columns = Strided {
                data: &self.powers[2 * frequency * length..],
                row_stride: 1,
                column_stride: length,
            };
            multiply(&mut sums, [rows, length, 2], averages, columns);
            let m = 2 * frequency;
            let [cos, sin] = turns_of(&self.turns, grid, m).map(|turns| &turns[..half]);
            for (class, norms) in self.norms.chunks_exact_mut(half).enumerate() {
                let [re, im] = [class, rows + class].map(|at| mates(m) * sums[at] / 2.0);
                for ((norm, cos), sin) in norms.iter_mut().zip(cos).zip(sin) {
                    *norm += re * cos + im * sin;
                }
            }
        }
    }
}
