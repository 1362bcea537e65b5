//! Fourier reconstruction from posed particles.
//!
//! Particles are inserted into an [`Accumulator`] (f32, one fixed shard of a half-set), accumulators are added in a fixed
//! order as [`Sums`] (f64), and these, closed under symmetry, give the map: V = num / (W + 1 / (p³ tau2)), where
//! num = sum of w C X / sigma2 and W = sum of w C² / sigma2, both spread trilinearly over a grid `p` times as dense as
//! the box's own. Nothing here depends on who inserted what, only on the order in which sums are added.

mod accumulator;
mod grid;
mod partial;
mod sums;

pub use accumulator::{Accumulator, Insertion};
pub use grid::{GridShape, ShapeError};
pub use partial::{Partial, PartialError};
pub use sums::{MergedSums, Prior, ShapesDiffer, Sums, tau2_from_fsc};

#[cfg(test)]
mod tests;
