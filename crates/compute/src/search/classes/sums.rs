//! Partial sums of a classification: what a block of particles adds to each class.

use num_complex::Complex32;

use super::grid::ClassGrid;

/// Why bytes are no partial sums.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClassSumsError {
    /// There are more or fewer than the grid and the classes need.
    #[error("partial sums of {found} bytes, expected {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A sum is infinite or not a number.
    #[error("a partial sum is not finite")]
    NotFinite,
}

/// For each class, the weighted sum of CTF-weighted images turned to it, and that of squared CTFs; over the noise.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassSums {
    pub(super) class_count: usize,
    pub(super) numerators: Vec<f32>,
    pub(super) denominators: Vec<f32>,
}

impl ClassSums {
    /// Of no particles yet.
    pub fn new(grid: &ClassGrid, class_count: usize) -> Self {
        Self {
            class_count,
            numerators: vec![0.0; class_count * grid.coefficient_count()],
            denominators: vec![0.0; class_count * grid.power_count()],
        }
    }

    /// How many classes.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// All numerators, then all denominators: float32, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let values = self.numerators.iter().chain(&self.denominators);
        values.flat_map(|value| value.to_le_bytes()).collect()
    }

    /// The sums that [`to_bytes`](Self::to_bytes) wrote, of the same grid and number of classes.
    ///
    /// # Errors
    /// If they are others.
    pub fn from_bytes(
        grid: &ClassGrid,
        class_count: usize,
        bytes: &[u8],
    ) -> Result<Self, ClassSumsError> {
        let mut sums = Self::new(grid, class_count);
        let expected = 4 * (sums.numerators.len() + sums.denominators.len());
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(ClassSumsError::Length { found, expected });
        }
        let values = sums.numerators.iter_mut().chain(&mut sums.denominators);
        for (value, bytes) in values.zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
            if !value.is_finite() {
                return Err(ClassSumsError::NotFinite);
            }
        }
        Ok(sums)
    }

    pub(super) fn of_class(&mut self, grid: &ClassGrid, class: usize) -> (&mut [f32], &mut [f32]) {
        let (coefficients, powers) = (grid.coefficient_count(), grid.power_count());
        (
            &mut self.numerators[class * coefficients..][..coefficients],
            &mut self.denominators[class * powers..][..powers],
        )
    }
}

/// Adds `factor` times a column to sums, where the second column is the first times -i.
pub(super) fn add_turned(sums: &mut [f32], columns: [&[f32]; 2], factor: Complex32) {
    for ((sum, direct), turned) in sums.iter_mut().zip(columns[0]).zip(columns[1]) {
        *sum += factor.re * direct - factor.im * turned;
    }
}
