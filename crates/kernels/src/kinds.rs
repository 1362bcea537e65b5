//! The built-in kinds: names, versions and types, for customers and workers alike.

use dewar_proto::em::v1;
use dewar_task::TaskKind;

/// Finds the poses of a block of particles against one reference.
pub struct Align;

/// Inserts a shard of posed particles into partial sums.
pub struct Insert;

/// Adds the partial sums of one half-set, in their order.
pub struct Sum;

/// Sorts a block of particles into 2-D classes.
pub struct Classify;

/// Checks that its worker computes right, and gives its inputs back as they came: how `dewar doctor` tries out the whole way.
pub struct SelfTest;

impl TaskKind for Align {
    const NAME: &'static str = "em.align";
    const VERSION: u32 = 3;
    type Parameters = v1::AlignParameters;
    type Output = v1::AlignOutput;
}

impl TaskKind for Insert {
    const NAME: &'static str = "em.insert";
    const VERSION: u32 = 3;
    type Parameters = v1::InsertParameters;
    type Output = v1::InsertOutput;
}

impl TaskKind for Sum {
    const NAME: &'static str = "em.sum";
    const VERSION: u32 = 1;
    type Parameters = v1::SumParameters;
    type Output = v1::SumOutput;
}

impl TaskKind for SelfTest {
    const NAME: &'static str = "dewar.self-test";
    const VERSION: u32 = 1;
    type Parameters = ();
    type Output = ();
}

impl TaskKind for Classify {
    const NAME: &'static str = "em.classify";
    const VERSION: u32 = 1;
    type Parameters = v1::ClassifyParameters;
    type Output = v1::ClassifyOutput;
}
