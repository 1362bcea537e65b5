//! The built-in kinds: the compute core put behind the Kernel trait.

mod kinds;

pub use kinds::{Align, Insert, Sum};

/// The kernels every worker of this release offers.
pub fn registry() -> dewar_task::Registry {
    dewar_task::Registry::default()
}
