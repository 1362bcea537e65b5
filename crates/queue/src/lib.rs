//! The task state machine: no async, no store, no clock, no wire.
//!
//! Commands and the time go in; events come out of [`Queue::decide`] and are folded in by [`Queue::apply`], by live
//! traffic and by restart alike. Scheduling, leases, retries and cancellation live here and nowhere else.

mod command;
mod config;
mod event;
mod holds;
mod ids;
mod job;
mod queue;
mod ready;
mod task;
mod worker;

pub use command::{
    Command, HeldAttempt, KIND_COUNT_MAX, Refusal, SLOT_COUNT_MAX, TaskResult, WorkerHello,
};
pub use config::Config;
pub use event::{AttemptEnd, Event};
pub use ids::{AttemptId, BlobRef, Digest, JobId, JobNumber, Now, TaskId, Timestamp, WorkerId};
pub use job::{Job, Task, TaskCounts};
pub use queue::{Broken, Queue};
pub use task::{
    Failure, FailureClass, Input, Kind, Outcome, OutcomeResult, Output, Payload, TaskSpec,
    TaskState,
};
pub use worker::Worker;
