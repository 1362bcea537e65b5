//! A detector's modulation transfer.

use thiserror::Error;

/// How much of the contrast a detector keeps, by frequency.
#[derive(Debug, Clone, PartialEq)]
pub struct Mtf {
    /// Frequency in 1/Å and transfer, by rising frequency.
    points: Vec<(f64, f64)>,
}

/// Why a curve is no modulation transfer.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum MtfError {
    /// There is nothing to interpolate between.
    #[error("the MTF has {count} values; expected at least 2")]
    TooFew {
        /// What there is.
        count: usize,
    },
    /// Frequencies must rise.
    #[error("the MTF's frequencies do not rise at value {number}")]
    Order {
        /// Counted from 1.
        number: usize,
    },
    /// It is divided by, so it must be above 0; and no detector adds contrast.
    #[error("the MTF's value {number} is {value}; expected above 0 and at most {VALUE_MAX}")]
    Value {
        /// Counted from 1.
        number: usize,
        /// What it is.
        value: f64,
    },
}

/// Measured curves begin at 1 within their error.
const VALUE_MAX: f64 = 1.1;

impl Mtf {
    /// From frequencies in 1/pixel of a detector whose pixels are `detector_pixel_angstrom` at the specimen.
    pub fn new(points: &[(f64, f64)], detector_pixel_angstrom: f64) -> Result<Self, MtfError> {
        if points.len() < 2 {
            return Err(MtfError::TooFew {
                count: points.len(),
            });
        }
        // NaN is below nothing, so it fails too.
        let rises = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0;
        if let Some(at) = points.windows(2).position(|pair| !rises(pair)) {
            return Err(MtfError::Order { number: at + 2 });
        }
        let usable = |value: f64| value > 0.0 && value <= VALUE_MAX;
        if let Some(at) = points.iter().position(|&(_, value)| !usable(value)) {
            return Err(MtfError::Value {
                number: at + 1,
                value: points[at].1,
            });
        }
        let scaled = points
            .iter()
            .map(|&(frequency, value)| (frequency / detector_pixel_angstrom, value));
        Ok(Self {
            points: scaled.collect(),
        })
    }

    /// The transfer at a frequency in 1/Å: linear between values, constant beyond the ends.
    pub fn at(&self, frequency: f64) -> f64 {
        let after = self
            .points
            .partition_point(|&(known, _)| known <= frequency);
        if after == 0 || after == self.points.len() {
            return self.points[after.saturating_sub(1)].1;
        }
        let ((x0, y0), (x1, y1)) = (self.points[after - 1], self.points[after]);
        y0 + (y1 - y0) * (frequency - x0) / (x1 - x0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_linear_between_values_and_constant_beyond() {
        let mtf = Mtf::new(&[(0.1, 1.0), (0.3, 0.6), (0.5, 0.2)], 2.0).unwrap();
        for (frequency, expected) in [
            (0.0, 1.0),
            (0.05, 1.0),
            (0.1, 0.8),
            (0.2, 0.4),
            (0.25, 0.2),
            (1.0, 0.2),
        ] {
            assert!((mtf.at(frequency) - expected).abs() < 1e-12, "{frequency}");
        }
    }

    #[test]
    fn what_cannot_be_divided_by_is_refused() {
        let refused = |points: &[(f64, f64)]| Mtf::new(points, 1.0).unwrap_err();
        assert_eq!(refused(&[(0.0, 1.0)]), MtfError::TooFew { count: 1 });
        assert_eq!(
            refused(&[(0.0, 1.0), (0.0, 0.9)]),
            MtfError::Order { number: 2 }
        );
        assert_eq!(
            refused(&[(0.0, 1.0), (f64::NAN, 0.9)]),
            MtfError::Order { number: 2 }
        );
        for value in [0.0, -0.5, 2.0] {
            let error = refused(&[(0.0, 1.0), (0.5, value)]);
            assert_eq!(error, MtfError::Value { number: 2, value });
        }
    }
}
