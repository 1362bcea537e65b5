//! The task state machine: no async, no store, no clock, no wire.
//!
//! Commands and the time go in; events come out of [`Queue::decide`] and are folded in by [`Queue::apply`], by live
//! traffic and by restart alike. Scheduling, leases, retries and cancellation live here and nowhere else.

mod command;
mod config;
mod event;
mod holdings;
mod holds;
mod ids;
mod job;
mod kind_stats;
mod queue;
mod ready;
mod shares;
mod task;
mod turns;
mod worker;

pub use command::{
    Command, HeldAttempt, JobTerms, KIND_COUNT_MAX, Kernel, NEED_COUNT_MAX, Refusal,
    SLOT_COUNT_MAX, TaskResult, TaskSelection, WorkerHello,
};
pub use config::{Config, Expected};
pub use event::{AttemptEnd, Event};
pub use holdings::{CHUNK_BYTES, Chunks, HoldingChange};
pub use ids::{AttemptId, BlobRef, Digest, JobId, JobNumber, Now, TaskId, Timestamp, WorkerId};
pub use job::{Job, Task, TaskCounts};
pub use queue::{Broken, InputBytes, Queue};
pub use task::{
    Failure, FailureClass, Input, InputSource, Kind, Made, Outcome, OutcomeResult, Output,
    OutputPart, Payload, Resources, TaskSpec, TaskState,
};
pub use worker::Worker;
