//! How patient the queue is.

/// The queue's few numbers. [`Config::new`] gives the ones brokers run with; tests choose their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often the data folder had been opened; part of every attempt's number.
    pub broker_start: u64,
    /// A worker silent for so long is lost.
    pub lease_ms: u64,
    /// A worker whose connection closed is lost after so long without a new hello.
    pub reconnect_ms: u64,
    /// Tasks sent ahead for each slot, so that no slot waits for the next one to travel.
    pub prefetch_per_slot: u32,
    /// Pause before a failed task's second try; doubled for each one after.
    pub retry_ms: u64,
    /// Longest such pause.
    pub retry_ms_max: u64,
    /// Times a task may be lost together with others before it is tried alone.
    ///
    /// Not at the first: a node that is switched off would leave all its innocent tasks to be run one at a time.
    pub company_losses_max: usize,
    /// Workers a task takes down by itself before it is set aside.
    pub killed_workers_max: usize,
    /// Tasks that may wait; some gigabytes of memory.
    pub waiting_count_max: u64,
    /// How long a finished job is remembered.
    pub keep_ms: u64,
}

impl Config {
    /// What brokers run with.
    pub fn new(broker_start: u64) -> Self {
        Self {
            broker_start,
            lease_ms: 30_000,
            reconnect_ms: 5_000,
            prefetch_per_slot: 1,
            retry_ms: 500,
            retry_ms_max: 60_000,
            company_losses_max: 2,
            killed_workers_max: 3,
            waiting_count_max: 4_000_000,
            keep_ms: 7 * 24 * 3600 * 1000,
        }
    }
}
