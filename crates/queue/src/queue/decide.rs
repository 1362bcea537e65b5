//! What commands mean, by who sends them: customers, workers, time.

mod customers;
mod dispatch;
mod fleet;
mod load;
mod locality;
mod overdue;
mod report;
mod rerun;
mod selection;

pub use locality::InputBytes;
pub(super) use locality::PASSED_OVER_COUNT_MAX;
