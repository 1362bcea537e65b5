//! One task in full: its tries, what it reads and what it gave.

use crate::{CallError, Client, Failure, JobSelector, TaskIndex, TaskStatus};
use dewar_blobs::BlobRef;
use dewar_proto::{limits, v1};
use v1::jobs_client::JobsClient;

/// All that a broker knows of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDetail {
    /// As in a list.
    pub status: TaskStatus,
    /// Tries at it, the oldest first: those of the latest that the broker still remembers.
    pub attempts: Vec<Attempt>,
    /// What it reads.
    pub inputs: Vec<TaskInput>,
    /// Tries before it counts as failed.
    pub attempts_max: u32,
    /// How long one try may run.
    pub time_limit_ms: Option<u64>,
    /// Slots that one try takes.
    pub slot_count: u32,
    /// Memory that one try takes, if it was said.
    pub memory_bytes: Option<u64>,
    /// The worker that computed it.
    pub worker_name: Option<String>,
    /// Its larger products.
    pub outputs: Vec<BlobRef>,
}

/// One try at a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number, of the broker's start and within it: `3.17`.
    pub name: String,
    /// Who has or had it.
    pub worker_name: String,
    /// When it was given to its worker; none if that was before the broker's last start.
    pub given_unix_ms: Option<u64>,
    /// When it was over.
    pub ended_unix_ms: Option<u64>,
    /// How long its inputs were on their way, as its worker says; 0 while it is not over, and from a worker of a minor before 5.
    pub fetch_ms: u64,
    /// How long it ran, as its worker says; 0 while it is not over.
    pub run_ms: u64,
    /// How it stands.
    pub state: AttemptState,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// 0 to 1, as its kernel last told.
    pub progress: f32,
}

/// How a try stands, or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptState {
    /// Its worker has it: it fetches, waits there or runs.
    Live,
    /// It gave the outcome.
    Succeeded,
    /// It failed.
    Failed,
    /// Its worker gave it up, or never got it.
    HandedBack,
    /// The task was cancelled, or another try was faster.
    Stopped,
    /// In a way that this release does not know.
    Unknown,
}

/// What a task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInput {
    /// The blob; none while the task that gives it has no output, or if it gave a message.
    pub blob: Option<BlobRef>,
    /// The file on the broker's machine that is read in place.
    pub file: Option<String>,
    /// The task that gives it.
    pub task_index: Option<TaskIndex>,
    /// Bytes of it that are read.
    pub read_bytes: u64,
}

impl Client {
    /// All that the broker knows of one task.
    ///
    /// # Errors
    /// If there is no such job or task, or the broker is of a minor protocol before 5.
    pub async fn task(
        &self,
        job: impl Into<JobSelector>,
        index: TaskIndex,
    ) -> Result<TaskDetail, CallError> {
        const CALL: &str = "asking for a task";
        self.shared.require_minor(5, "a single task in full")?;
        let job = job.into();
        let answer = self
            .shared
            .caller
            .call(CALL, |channel| async move {
                JobsClient::new(channel)
                    .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                    .get_task(v1::GetTaskRequest {
                        job: Some(job.into()),
                        index: index.0,
                    })
                    .await
            })
            .await?;
        TaskDetail::from_wire(CALL, answer)
    }
}

impl TaskDetail {
    fn from_wire(call: &'static str, detail: v1::TaskDetail) -> Result<Self, CallError> {
        let problem = |problem: String| CallError::Answer { call, problem };
        let task = detail
            .task
            .ok_or_else(|| problem("the task is missing".to_owned()))?;
        let blob = |blob: &v1::BlobRef| {
            BlobRef::from_wire(Some(blob), "blob").map_err(|error| problem(error.to_string()))
        };
        let inputs = detail.inputs.into_iter().map(|input| {
            Ok(TaskInput {
                blob: input.blob.as_ref().map(blob).transpose()?,
                file: Some(input.file).filter(|file| !file.is_empty()),
                task_index: input.task_index.map(TaskIndex),
                read_bytes: input.read_bytes,
            })
        });
        let resources = detail.resources.unwrap_or_default();
        Ok(Self {
            status: TaskStatus::from_wire(call, task)?,
            attempts: detail.attempts.into_iter().map(Into::into).collect(),
            inputs: inputs.collect::<Result<_, CallError>>()?,
            attempts_max: detail.attempts_max,
            time_limit_ms: Some(detail.time_limit_ms).filter(|ms| *ms > 0),
            slot_count: resources.slot_count.max(1),
            memory_bytes: Some(resources.memory_bytes).filter(|bytes| *bytes > 0),
            worker_name: Some(detail.worker_name).filter(|name| !name.is_empty()),
            outputs: detail.outputs.iter().map(blob).collect::<Result<_, _>>()?,
        })
    }
}

impl From<v1::Attempt> for Attempt {
    fn from(attempt: v1::Attempt) -> Self {
        let state = match attempt.state() {
            v1::AttemptState::Live => AttemptState::Live,
            v1::AttemptState::Succeeded => AttemptState::Succeeded,
            v1::AttemptState::Failed => AttemptState::Failed,
            v1::AttemptState::HandedBack => AttemptState::HandedBack,
            v1::AttemptState::Stopped => AttemptState::Stopped,
            v1::AttemptState::Unspecified => AttemptState::Unknown,
        };
        let id = attempt.id.unwrap_or_default();
        let told = |unix_ms: u64| Some(unix_ms).filter(|ms| *ms > 0);
        Self {
            name: format!("{}.{}", id.broker_start, id.n),
            worker_name: attempt.worker_name,
            given_unix_ms: told(attempt.given_unix_ms),
            ended_unix_ms: told(attempt.ended_unix_ms),
            fetch_ms: attempt.fetch_ms,
            run_ms: attempt.run_ms,
            state,
            failure: attempt.failure.map(Failure::from),
            progress: attempt.progress,
        }
    }
}
