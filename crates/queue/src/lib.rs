//! The task state machine: no async, no store, no clock, no wire.
//!
//! Commands and the time go in; events come out of [`Queue::decide`] and are folded in by [`Queue::apply`], by live
//! traffic and by restart alike. Scheduling, leases, retries and cancellation live here and nowhere else.

mod command;
mod event;
mod ids;
mod task;

pub use command::{
    Command, HeldAttempt, KIND_COUNT_MAX, Refusal, SLOT_COUNT_MAX, TaskResult, WorkerHello,
};
pub use event::Event;
pub use ids::{AttemptId, BlobRef, Digest, JobId, JobNumber, Now, TaskId, Timestamp, WorkerId};
pub use task::{
    Failure, FailureClass, Input, Kind, Outcome, OutcomeResult, Output, Payload, TaskSpec,
    TaskState,
};
