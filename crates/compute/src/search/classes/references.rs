//! Averages made ready for scoring.

use num_complex::Complex32;

use super::grid::{ClassGrid, POWER_FREQUENCY_COUNT};

/// The class averages, by angular frequency. One that is zero throughout stands for an empty class, which nothing joins.
pub struct ClassReferences {
    class_count: usize,
    /// Rows of the products: at least two, since a single row takes another path in the library, with other bits.
    pub(super) row_count: usize,
    is_empty: Vec<bool>,
    /// For each angular frequency, the coefficients of one class after another.
    pub(super) coefficients: Vec<f32>,
    /// For each angular frequency of the squares, the same of |P|².
    pub(super) powers: Vec<f32>,
}

impl ClassReferences {
    /// From the samples of one class after another, as many as the grid has for each.
    ///
    /// # Panics
    /// If they are not whole classes.
    pub fn new(grid: &ClassGrid, samples: &[Complex32]) -> Self {
        let of_class = grid.sample_count();
        assert!(samples.len().is_multiple_of(of_class), "whole classes");
        let class_count = samples.len() / of_class;
        let row_count = class_count.max(2);
        let mut references = Self {
            class_count,
            row_count,
            is_empty: Vec::new(),
            coefficients: vec![0.0; row_count * grid.coefficient_count()],
            powers: vec![0.0; row_count * grid.power_count()],
        };
        for (class, samples) in samples.chunks_exact(of_class).enumerate() {
            references
                .is_empty
                .push(samples.iter().all(|value| *value == Complex32::ZERO));
            references.load(grid, class, samples);
        }
        references
    }

    /// How many there are.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    pub(super) fn is_empty(&self, class: usize) -> bool {
        self.is_empty.get(class).copied().unwrap_or(true)
    }

    /// Where the coefficients of a class at angular frequency m are.
    pub(super) fn at(&self, grid: &ClassGrid, class: usize, m: usize) -> usize {
        let (offset, length) = grid.span(m);
        offset * self.row_count + class * length
    }

    /// Where its power at the `frequency`-th even angular frequency is.
    pub(super) fn power_at(&self, grid: &ClassGrid, class: usize, frequency: usize) -> usize {
        2 * grid.settings.k_max * (frequency * self.row_count + class)
    }

    fn load(&mut self, grid: &ClassGrid, class: usize, samples: &[Complex32]) {
        let (mut full, mut scratch) = (Vec::new(), Vec::new());
        for (index, ring) in grid.rings.rings.iter().enumerate() {
            let half = &samples[ring.start..ring.start + ring.sample_count / 2];
            let scale = 1.0 / ring.sample_count as f32;
            ring.transform(half, &mut full, &mut scratch);
            for (m, value) in full.iter().enumerate().take(ring.m_max + 1) {
                let at = self.at(grid, class, m) + index - grid.first_ring(m);
                self.coefficients[at] = value.re * scale;
                self.coefficients[at + grid.span(m).1 / 2] = value.im * scale;
            }
            let squares = half.iter().map(Complex32::norm_sqr);
            ring.transform_real(squares, &mut full, &mut scratch);
            for frequency in 0..POWER_FREQUENCY_COUNT.min(ring.sample_count / 4) {
                let at = self.power_at(grid, class, frequency) + index;
                self.powers[at] = full[2 * frequency].re * scale;
                self.powers[at + grid.settings.k_max] = full[2 * frequency].im * scale;
            }
        }
    }
}
