//! 2-D classes: particles sorted by the average they resemble, the filter that comes before a refinement.
//!
//! [`classify`] goes round by round, as a refinement does: one task for each block of particles, whose partial sums are
//! added in their order here, so that the result does not depend on who computed. Detail grows with what the averages
//! resolve, and it ends when classes no longer change. A finished round is one folder; the same call goes on from the last.

mod begin;
mod figures;
mod gallery;
mod inputs;
mod options;
mod outputs;
mod rounds;
mod schedule;
mod select;
mod split;
mod state;
mod tasks;

pub use inputs::check;
pub use options::{Options, Settings};
pub use outputs::{ClassSummary, Summary};
pub use rounds::classify;
pub use select::{SelectError, Selected, select};

/// Fewest shells that are ever compared.
const SHELLS_MIN: usize = 5;
