//! The padded half grid that sums live on: its shape, and which of its points matter.

use thiserror::Error;

use crate::gridding;
use crate::volume::BOX_SIZE_PX_MAX;

/// Why no reconstruction grid can be made.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ShapeError {
    /// The box is too small, or its padded form too large.
    #[error("box of {n} px padded to {padded_n} px is not between 4 and {BOX_SIZE_PX_MAX} px")]
    Box {
        /// The box.
        n: usize,
        /// The padded box.
        padded_n: usize,
    },
    /// The padding is not one that is of use.
    #[error("padding {0} is not between 1 and 4")]
    Padding(f64),
    /// The limit is beyond what the box holds.
    #[error("frequency limit {r_max} px is not between 1 and {limit} px")]
    Limit {
        /// The limit asked for.
        r_max: usize,
        /// The highest that is complete in every direction: (n - 1) / 2.
        limit: usize,
    },
}

/// The shape of a grid of sums: all that two of them must share to be added.
///
/// It holds x from 0 to `reach`, y and z from -`reach` to `reach`: every neighbour of every frequency within the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridShape {
    n: usize,
    padded_n: usize,
    r_max: usize,
    reach: usize,
}

impl GridShape {
    /// For images and maps of edge `n`, frequencies up to `r_max` Fourier pixels, and a grid `padding` times as dense
    /// (1 to 4; 1.5 for partial sums, 2 for the best map).
    pub fn new(n: usize, r_max: usize, padding: f64) -> Result<Self, ShapeError> {
        if !(1.0..=4.0).contains(&padding) {
            return Err(ShapeError::Padding(padding));
        }
        if n > BOX_SIZE_PX_MAX {
            return Err(ShapeError::Box { n, padded_n: n });
        }
        Self::from_sizes(n, gridding::padded_size(n, padding), r_max)
    }

    pub(super) fn from_sizes(n: usize, padded_n: usize, r_max: usize) -> Result<Self, ShapeError> {
        if n < 4 || padded_n > BOX_SIZE_PX_MAX || padded_n < n || !padded_n.is_multiple_of(2) {
            return Err(ShapeError::Box { n, padded_n });
        }
        let limit = (n - 1) / 2;
        if r_max == 0 || r_max > limit {
            return Err(ShapeError::Limit { r_max, limit });
        }
        let reach = libm::floor(radius(n, padded_n, r_max)) as usize + 1;
        Ok(Self {
            n,
            padded_n,
            r_max,
            reach,
        })
    }

    /// The edge of images and map.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The edge of the padded box whose transform the grid is.
    pub fn padded_n(&self) -> usize {
        self.padded_n
    }

    /// The highest frequency, in Fourier pixels of the unpadded box.
    pub fn r_max(&self) -> usize {
        self.r_max
    }

    /// Grid points per Fourier pixel.
    pub fn padding(&self) -> f64 {
        self.padded_n as f64 / self.n as f64
    }

    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// How far from the origin grid points are part of the result, in grid points.
    pub(super) fn radius(&self) -> f64 {
        radius(self.n, self.padded_n, self.r_max)
    }

    pub(super) fn row_len(&self) -> usize {
        self.reach + 1
    }

    pub(super) fn plane_len(&self) -> usize {
        self.row_len() * (2 * self.reach + 1)
    }

    /// How many grid points there are. Never none.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.plane_len() * (2 * self.reach + 1)
    }

    /// The index of grid point (0, y, z).
    pub(super) fn row_start(&self, y: isize, z: isize) -> usize {
        let reach = self.reach as isize;
        (z + reach) as usize * self.plane_len() + (y + reach) as usize * self.row_len()
    }

    /// The rows (y, z, number of points from x = 0) that lie within `radius` grid points of the origin.
    pub(super) fn rows_within(
        &self,
        radius: f64,
    ) -> impl Iterator<Item = (isize, isize, usize)> + use<> {
        let reach = self.reach as isize;
        let row_len = self.row_len();
        (-reach..=reach).flat_map(move |z| {
            (-reach..=reach).filter_map(move |y| {
                let left = radius * radius - (y * y + z * z) as f64;
                (left >= 0.0).then(|| (y, z, (libm::sqrt(left) as usize + 1).min(row_len)))
            })
        })
    }

    /// The rows that insertion can touch: neighbours lie at most sqrt(3) beyond the radius.
    pub(super) fn touched_rows(&self) -> impl Iterator<Item = (isize, isize, usize)> + use<> {
        self.rows_within(self.radius() + 1.74)
    }

    /// The shell, in Fourier pixels of the unpadded box, of a grid point.
    pub(super) fn shell(&self, x: usize, y: isize, z: isize) -> usize {
        let x = x as isize;
        let distance = libm::sqrt((x * x + y * y + z * z) as f64) / self.padding();
        (libm::floor(distance + 0.5) as usize).min(self.r_max)
    }
}

/// A little more than the limit, so that rounding loses no point that lies on it.
fn radius(n: usize, padded_n: usize, r_max: usize) -> f64 {
    r_max as f64 * padded_n as f64 / n as f64 * (1.0 + 1e-5)
}
