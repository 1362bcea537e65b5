//! Minimum, maximum, mean and standard deviation of values that arrive in pieces.

/// Statistics of the finite values seen so far.
///
/// Pieces are merged by the pairwise update of Chan, Golub and LeVeque (1979), so that a large
/// mean over a small deviation loses no digits, and the result depends only on the values and on
/// how they were cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    finite_count: u64,
    non_finite_count: u64,
    min: f32,
    max: f32,
    mean: f64,
    squared_deviations: f64,
}

impl Statistics {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            finite_count: 0,
            non_finite_count: 0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            mean: 0.0,
            squared_deviations: 0.0,
        }
    }

    /// Takes in one piece.
    pub fn add(&mut self, values: &[f32]) {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (mut count, mut sum) = (0_u64, 0.0_f64);
        for value in finite() {
            count += 1;
            sum += f64::from(value);
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        self.non_finite_count += values.len() as u64 - count;
        if count == 0 {
            return;
        }
        let mean = sum / count as f64;
        let squared: f64 = finite()
            .map(|value| (f64::from(value) - mean).powi(2))
            .sum();
        self.merge(count, mean, squared);
    }

    /// How many finite values were seen.
    pub fn finite_count(&self) -> u64 {
        self.finite_count
    }

    /// How many infinities and NaNs were seen; they enter nothing else.
    pub fn non_finite_count(&self) -> u64 {
        self.non_finite_count
    }

    /// The smallest finite value, 0 if there is none.
    pub fn min(&self) -> f32 {
        if self.finite_count == 0 {
            0.0
        } else {
            self.min
        }
    }

    /// The largest finite value, 0 if there is none.
    pub fn max(&self) -> f32 {
        if self.finite_count == 0 {
            0.0
        } else {
            self.max
        }
    }

    /// The mean of the finite values, 0 if there is none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation of the finite values (of the population, not an estimate of it),
    /// 0 if there is none.
    pub fn std(&self) -> f64 {
        if self.finite_count == 0 {
            return 0.0;
        }
        (self.squared_deviations / self.finite_count as f64).sqrt()
    }

    fn merge(&mut self, count: u64, mean: f64, squared: f64) {
        let (ours, theirs) = (self.finite_count as f64, count as f64);
        let total = ours + theirs;
        let delta = mean - self.mean;
        self.mean += delta * theirs / total;
        self.squared_deviations += squared + delta * delta * ours * theirs / total;
        self.finite_count += count;
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let values: Vec<f32> = (0..1000).map(|i| 1e4 + ((i * 37) % 101) as f32).collect();
        let mut whole = Statistics::new();
        whole.add(&values);
        let mut pieces = Statistics::new();
        for piece in values.chunks(77) {
            pieces.add(piece);
        }
        assert_eq!((whole.min(), whole.max()), (1e4, 1e4 + 100.0));
        assert_eq!((pieces.min(), pieces.max()), (whole.min(), whole.max()));
        assert!((pieces.mean() - whole.mean()).abs() < 1e-9);
        assert!((pieces.std() / whole.std() - 1.0).abs() < 1e-12);
        // 1000 draws from 0..=100, each value 9 or 10 times: close to the uniform (n²-1)/12.
        assert!((whole.std() / (10200.0_f64 / 12.0).sqrt() - 1.0).abs() < 0.01);
    }

    #[test]
    fn non_finite_values_are_counted_and_left_out() {
        let mut statistics = Statistics::new();
        statistics.add(&[f32::NAN, 1.0, f32::INFINITY, 3.0]);
        assert_eq!(statistics.non_finite_count(), 2);
        assert_eq!((statistics.mean(), statistics.std()), (2.0, 1.0));
    }

    #[test]
    fn nothing_seen_is_all_zero() {
        let statistics = Statistics::new();
        assert_eq!(
            (statistics.min(), statistics.max(), statistics.std()),
            (0.0, 0.0, 0.0)
        );
    }
}
