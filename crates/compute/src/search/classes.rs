//! 2-D classes: particles sorted by the average they resemble at some in-plane angle and shift.
//!
//! It is expectation–maximisation with the weights of all classes, angles and shifts of a grid. Everything stays on polar
//! rings: turning an average in plane multiplies its angular frequency m by e^{imψ}, so the scores of all angles are one
//! sum over m of Σ_r y_m(r) p_m(r)*, and the weighted sum of all turned images is the adjoint of the same products. CTFs are
//! exact, noise is weighed by the optics group, and averages are Wiener-filtered by what signal
//! they have beyond their noise, on the scale of the images. Every product's shape depends on the settings alone.

mod average;
mod expectation;
mod grid;
mod references;
mod sums;
#[cfg(test)]
mod tests;

pub use average::{ClassAverage, ClassTotals};
pub use expectation::{ClassPlacement, Classified, Classifier};
pub use grid::{ClassGrid, ClassSettings};
pub use references::ClassReferences;
pub use sums::{ClassSums, ClassSumsError};
