//! How patient the queue is, and how much it takes.

use crate::{TaskId, WorkerId};
use std::sync::Arc;

/// The queue's few numbers. [`Config::new`] gives the ones brokers run with; tests choose their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often the data folder had been opened; part of every attempt's number.
    pub broker_start: u64,
    /// A worker silent for so long is lost.
    pub lease_ms: u64,
    /// A worker whose connection closed is lost after so long without a new hello.
    pub reconnect_ms: u64,
    /// Workers that attended before the restart: they may still compute, so what they held waits for them.
    pub expected_workers: Vec<Expected>,
    /// How long it waits before it goes to others.
    pub comeback_ms: u64,
    /// Tasks sent ahead for each slot whatever they take, so that no slot waits for the next one to travel.
    pub ahead_per_slot: u32,
    /// Work sent ahead for each slot beyond those, by what tasks of the kind took so far: small tasks go out in bulk.
    pub ahead_ms: u64,
    /// Tasks sent ahead to one worker beyond one for each slot, at the most: what a broken connection has to take back.
    pub ahead_count_max: u32,
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
    /// Tries in a row that a worker fails, while others succeed at the same kinds, before it is put on probation.
    pub failures_in_row_max: u32,
    /// Pause before a worker on probation is given a single task; doubled each time it fails that.
    pub probation_ms: u64,
    /// Longest such pause.
    pub probation_ms_max: u64,
    /// A task gets a second copy once it has run for this many per cent of what the job's tasks take on average…
    pub second_copy_percent: u64,
    /// … and for so long at least.
    pub second_copy_ms_min: u64,
    /// Tasks that may wait; some gigabytes of memory.
    pub waiting_count_max: u64,
    /// Unfinished tasks of one owner: one who submits without end must leave room for the others.
    pub owner_task_count_max: u64,
    /// Bytes kept of one owner's unfinished tasks (parameters, inputs, ranges, dependencies, keys), for the same reason.
    pub owner_bytes_max: u64,
    /// Jobs of one owner that are not finished: each costs a kilobyte or two, also without a task.
    pub owner_job_count_max: u64,
    /// How long a finished job is remembered if its customer does not say.
    pub keep_ms: u64,
    /// How long a job that nobody closed is kept open at least while nobody watches it and nothing of it is left to do.
    pub keep_unclosed_ms: u64,
    /// How long a cancelled one is, at the most: what it left is on disk for nobody but who reruns it.
    pub keep_cancelled_ms: u64,
}

/// A worker that attended before the restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Who.
    pub id: WorkerId,
    /// For people.
    pub name: Arc<str>,
    /// What it had been given, as far as is known. What of that has ended since makes no difference.
    pub held: Vec<TaskId>,
}

impl Config {
    /// What brokers run with.
    pub fn new(broker_start: u64) -> Self {
        Self {
            broker_start,
            lease_ms: 30_000,
            reconnect_ms: 5_000,
            expected_workers: Vec::new(),
            comeback_ms: 60_000,
            ahead_per_slot: 1,
            ahead_ms: 1_000,
            ahead_count_max: 2_000,
            retry_ms: 500,
            retry_ms_max: 60_000,
            company_losses_max: 2,
            killed_workers_max: 3,
            failures_in_row_max: 5,
            probation_ms: 30_000,
            probation_ms_max: 600_000,
            second_copy_percent: 200,
            second_copy_ms_min: 2_000,
            waiting_count_max: 4_000_000,
            owner_task_count_max: 2_500_000,
            owner_bytes_max: 4 << 30,
            owner_job_count_max: 10_000,
            keep_ms: 7 * 24 * 3600 * 1000,
            keep_unclosed_ms: 24 * 3600 * 1000,
            keep_cancelled_ms: 24 * 3600 * 1000,
        }
    }
}
