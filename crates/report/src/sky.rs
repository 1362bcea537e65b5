//! How often each direction was seen: the sphere on an equal-area cylinder, so that equal counts have equal shades.

/// Fields around the axis and along it.
pub(crate) const COLUMNS: usize = 48;
pub(crate) const ROWS: usize = 24;

/// Counts of directions.
#[derive(Debug, Clone, PartialEq)]
pub struct Sky {
    counts: Vec<u64>,
}

impl Default for Sky {
    fn default() -> Self {
        Self {
            counts: vec![0; COLUMNS * ROWS],
        }
    }
}

impl Sky {
    /// Counts a unit vector.
    pub fn add(&mut self, [x, y, z]: [f64; 3]) {
        let around = (y.atan2(x) / std::f64::consts::TAU + 0.5) * COLUMNS as f64;
        // Tilt 0 is on top.
        let along = (1.0 - z) / 2.0 * ROWS as f64;
        let column = (around as usize).min(COLUMNS - 1);
        let row = (along as usize).min(ROWS - 1);
        self.counts[row * COLUMNS + column] += 1;
    }

    /// The counts, row after row from tilt 0, each from rot -180 on.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.counts.chunks_exact(COLUMNS)
    }

    /// The highest count.
    pub fn most(&self) -> u64 {
        self.counts.iter().copied().max().unwrap_or(0)
    }

    /// The part of the fields that nothing was seen in.
    pub fn empty_part(&self) -> f64 {
        let empty = self.counts.iter().filter(|count| **count == 0).count();
        empty as f64 / self.counts.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_fall_where_they_point() {
        let mut sky = Sky::default();
        sky.add([0.0, 0.0, 1.0]);
        sky.add([0.0, 0.0, -1.0]);
        sky.add([1.0, 0.0, 0.0]);
        let rows: Vec<Vec<u64>> = sky.rows().map(<[u64]>::to_vec).collect();
        assert_eq!(rows[0].iter().sum::<u64>(), 1);
        assert_eq!(rows[ROWS - 1].iter().sum::<u64>(), 1);
        assert_eq!(rows[ROWS / 2][COLUMNS / 2], 1);
        assert_eq!(sky.most(), 1);
        assert!((sky.empty_part() - (1.0 - 3.0 / (COLUMNS * ROWS) as f64)).abs() < 1e-12);
    }
}
