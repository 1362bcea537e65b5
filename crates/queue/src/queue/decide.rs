//! What commands mean, by who sends them: customers, workers, time.

mod customers;
mod dispatch;
mod fleet;
mod overdue;
mod report;
mod selection;
