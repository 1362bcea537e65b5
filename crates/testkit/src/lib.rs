//! Brokers, workers and data for tests; never shipped.
