//! The built-in kinds: the compute core put behind the Kernel trait.
//!
//! A kernel takes its parameters apart, refuses what makes no sense with the particle's number, and hands slices to
//! `dewar-compute`. No science is decided here.

mod align;
mod classify;
mod images;
mod insert;
mod kinds;
mod poses;
mod reference;
mod self_test;
mod sum;

pub use kinds::{Align, Classify, Insert, SelfTest, Sum};

/// The kernels every worker of this release offers, with a check that this machine computes right.
pub fn registry() -> dewar_task::Registry {
    dewar_task::Registry::default()
        .with(Align)
        .with(Insert)
        .with(Sum)
        .with(Classify)
        .with(SelfTest)
        .with_self_test(self_test::self_test)
}
