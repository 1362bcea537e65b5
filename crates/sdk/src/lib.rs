//! For customers: connect to a broker, open a job, submit tasks, await their outcomes.
//!
//! ```no_run
//! use dewar_sdk::{Client, JobOptions, NewTask};
//! # use dewar_task::TaskKind;
//! # async fn example<K: TaskKind>(parameters: Vec<K::Parameters>) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:9990", "me.secret".parse()?).await?;
//! let job = client.open_job(JobOptions::named("example")).await?;
//! let tasks = parameters.iter().map(|one| NewTask::new::<K>(one, vec![])).collect();
//! job.submit_all(tasks).await?;
//! job.close().await?;
//! let mut outcomes = job.outcomes();
//! while let Some(outcome) = outcomes.next().await? {
//!     let output = outcome.output::<K>()?;
//!     println!("{}: {} blobs", outcome.index, output.blobs.len());
//! }
//! # Ok(()) }
//! ```
//!
//! A broker that goes away is waited for, however long it takes; [`Client::link`] says since when it is away.
//! Calls that change something can be repeated, and are, until the broker acknowledged them. What waiting
//! cannot mend is an error at once, and its text says what to do.

mod blobs;
mod call;
mod client;
#[cfg(feature = "embedded")]
mod embedded;
mod fleet;
mod id;
mod input;
mod job;
mod link;
mod new_task;
mod outcome;
mod precache;
mod resumed;
mod selection;
mod submit;
mod task;
mod task_detail;

pub use blobs::ImportError;
pub use call::{CallError, Retry};
pub use client::{Client, ConnectError, ConnectOptions};
pub use dewar_blobs::{BlobRef, Digest, FileProgress};
pub use dewar_proto::{PROTOCOL, Token};
#[cfg(feature = "embedded")]
pub use embedded::{EmbeddedError, EmbeddedOptions};
pub use fleet::{BrokerStatus, WorkerStatus};
pub use id::{JobId, JobSelector, MalformedJob, TaskIndex};
pub use input::Input;
pub use job::{Job, JobOptions, JobStatus};
pub use link::Link;
pub use new_task::NewTask;
pub use outcome::{
    Failure, FailureClass, Outcome, Outcomes, TaskFailed, TaskOutput, TaskResult, TypedOutput,
};
pub use precache::{PrecacheProgress, Precaching};
pub use selection::{Selected, TaskSelection};
pub use task::{TaskFilter, TaskPage, TaskState, TaskStatus};
pub use task_detail::{Attempt, AttemptState, TaskDetail, TaskInput};
