//! The refinement of single-particle structures, a customer like any other.
//!
//! [`refine`] takes particles and a starting map to poses and maps: rounds of alignment and reconstruction by tasks,
//! with the two half-sets kept apart from the first. What a result depends on is fixed in `plan` and `options`;
//! nothing here knows how many workers there are.

mod checkpoint;
pub mod classify2d;
mod error;
mod figures;
mod folder;
mod held_up;
mod input;
mod job;
mod maps;
mod memory;
mod model;
mod options;
mod outputs;
mod plan;
mod pose;
pub mod postprocess;
mod progress;
mod record;
mod report;
mod round;
mod run;
mod scale;
mod schedule;
pub mod simulate;
mod tasks;

pub use error::RefineError;
pub use figures::ViewCoverage;
pub use options::{Options, Settings};
pub use outputs::Summary;
pub use progress::{Observer, Progress};
pub use run::{check, refine};
