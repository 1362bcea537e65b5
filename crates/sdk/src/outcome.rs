//! What tasks came to, in sequence, over whatever happens to the connection.

use crate::{CallError, Job, TaskIndex, resumed::Resumed};
use bytes::Bytes;
use dewar_blobs::{BlobRef, Digest};
use dewar_proto::{limits, v1};
use dewar_task::TaskKind;
use futures::Stream;
use prost::Message as _;
use std::fmt;
use v1::jobs_client::JobsClient;

const CALL: &str = "watching outcomes";

/// What one task came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The task.
    pub index: TaskIndex,
    /// Position in the job's outcomes, from 1 without gaps.
    pub sequence: u64,
    /// What it came to.
    pub result: TaskResult,
    /// The worker that computed it; empty when none did.
    pub worker_name: String,
    /// How long the successful try ran.
    pub run_ms: u64,
    /// How often the task had been rerun: it has an outcome for each time.
    pub generation: u32,
    /// An equal task had been computed before, and this is its output.
    pub reused: bool,
}

/// The three ends of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskResult {
    /// It has an output.
    Succeeded(TaskOutput),
    /// It will not be tried again.
    Failed(Failure),
    /// Its job was cancelled first.
    Cancelled,
}

/// A task's output, still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutput {
    /// The encoded message; none if it was a blob that has been released since.
    pub message: Option<Bytes>,
    /// The blob the message travelled as, if it was large.
    pub message_blob: Option<BlobRef>,
    /// Larger products, in the kernel's order.
    pub blobs: Vec<BlobRef>,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of trouble it was.
    pub class: FailureClass,
    /// What was wrong, and where, in one line.
    pub message: String,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// A class this release does not know.
    Unknown,
    /// The kernel said no, or panicked.
    KernelError,
    /// The workers that ran it went away.
    WorkerLost,
    /// It ran longer than its limit.
    TimedOut,
    /// Its parameters or inputs are wrong; no retry can help.
    BadInput,
    /// Another task it needs failed.
    Dependency,
    /// It took down three workers by itself.
    KilledWorkers,
}

/// An output decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct TypedOutput<Message> {
    /// The output message of the kind.
    pub message: Message,
    /// Larger products, in the kernel's order; read with [`Job::read_blob`].
    pub blobs: Vec<BlobRef>,
}

/// Why a task has no output to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailed {
    /// It failed.
    #[error("task {index}: {failure}")]
    Failed {
        /// The task.
        index: TaskIndex,
        /// Why.
        failure: Failure,
    },
    /// It was cancelled.
    #[error("task {index} was cancelled")]
    Cancelled {
        /// The task.
        index: TaskIndex,
    },
    /// Its output was released before it was read.
    #[error("the output of task {index} was released")]
    Released {
        /// The task.
        index: TaskIndex,
    },
    /// Its output is not of the kind asked for.
    #[error("the output of task {index} is none of {kind}: {problem}")]
    Undecodable {
        /// The task.
        index: TaskIndex,
        /// The kind asked for.
        kind: String,
        /// What the decoder met.
        problem: String,
    },
}

impl Outcome {
    /// The output of a task of kind `K`.
    ///
    /// # Errors
    /// If the task did not succeed, or was of another kind.
    pub fn output<K: TaskKind>(&self) -> Result<TypedOutput<K::Output>, TaskFailed> {
        let index = self.index;
        let output = match &self.result {
            TaskResult::Succeeded(output) => output,
            TaskResult::Failed(failure) => {
                return Err(TaskFailed::Failed {
                    index,
                    failure: failure.clone(),
                });
            }
            TaskResult::Cancelled => return Err(TaskFailed::Cancelled { index }),
        };
        let message = output.message.clone();
        let message = message.ok_or(TaskFailed::Released { index })?;
        let message = K::Output::decode(message).map_err(|error| TaskFailed::Undecodable {
            index,
            kind: K::kind().to_string(),
            problem: error.to_string(),
        })?;
        Ok(TypedOutput {
            message,
            blobs: output.blobs.clone(),
        })
    }

    /// Every blob the outcome holds, for [`Job::release`].
    pub fn held(&self) -> impl Iterator<Item = Digest> + '_ {
        let output = match &self.result {
            TaskResult::Succeeded(output) => Some(output),
            TaskResult::Failed(_) | TaskResult::Cancelled => None,
        };
        output.into_iter().flat_map(|output| {
            let blobs = output.message_blob.iter().chain(&output.blobs);
            blobs.map(|blob| blob.digest)
        })
    }

    fn from_wire(outcome: v1::Outcome) -> Result<Self, String> {
        use v1::outcome::Result as Wire;
        let result = match outcome.result {
            Some(Wire::Succeeded(output)) => TaskResult::Succeeded(TaskOutput::from_wire(output)?),
            Some(Wire::Failed(failure)) => TaskResult::Failed(failure.into()),
            Some(Wire::Cancelled(v1::Cancelled {})) => TaskResult::Cancelled,
            None => return Err("result is missing".to_owned()),
        };
        Ok(Self {
            index: TaskIndex(outcome.task_index),
            sequence: outcome.sequence,
            result,
            worker_name: outcome.worker_name,
            run_ms: outcome.run_ms,
            generation: outcome.generation,
            reused: outcome.reused,
        })
    }
}

impl TaskOutput {
    fn from_wire(output: v1::Output) -> Result<Self, String> {
        use v1::payload::Place;
        let (message, message_blob) = match output.message.and_then(|payload| payload.place) {
            Some(Place::Inline(message)) => (Some(message), None),
            Some(Place::Blob(blob)) => {
                let blob = BlobRef::from_wire(Some(&blob), "succeeded.message.blob");
                (None, Some(blob.map_err(|error| error.to_string())?))
            }
            None => return Err("succeeded.message is missing".to_owned()),
        };
        let blobs = output.blobs.iter();
        Ok(Self {
            message,
            message_blob,
            blobs: blobs
                .map(|blob| BlobRef::from_wire(Some(blob), "succeeded.blobs"))
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
        })
    }
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Self {
        let class = match failure.class() {
            v1::FailureClass::Unspecified => FailureClass::Unknown,
            v1::FailureClass::KernelError => FailureClass::KernelError,
            v1::FailureClass::WorkerLost => FailureClass::WorkerLost,
            v1::FailureClass::TimedOut => FailureClass::TimedOut,
            v1::FailureClass::BadInput => FailureClass::BadInput,
            v1::FailureClass::Dependency => FailureClass::Dependency,
            v1::FailureClass::KilledWorkers => FailureClass::KilledWorkers,
        };
        Self {
            class,
            message: failure.message,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "failed",
            Self::KernelError => "kernel error",
            Self::WorkerLost => "worker lost",
            Self::TimedOut => "timed out",
            Self::BadInput => "bad input",
            Self::Dependency => "dependency",
            Self::KilledWorkers => "killed workers",
        })
    }
}

/// A job's outcomes in sequence. Connections come and go underneath; nothing is left out or given twice. A task that is
/// rerun has one in each generation.
#[derive(Debug)]
pub struct Outcomes {
    job: Job,
    /// The last sequence number given.
    after_sequence: u64,
    stream: Resumed<v1::Outcome>,
    /// Received, with its message still to be fetched: a call dropped meanwhile must not lose it.
    unfinished: Option<Outcome>,
}

impl Outcomes {
    pub(crate) fn new(job: Job, after_sequence: u64) -> Self {
        Self {
            stream: Resumed::new(&job.client.shared.caller),
            job,
            after_sequence,
            unfinished: None,
        }
    }

    /// The next outcome; `None` once the job is closed and every outcome was given. After a rerun there are more, and the
    /// same stream gives them. A call may be dropped, as in `select!`, without losing anything.
    ///
    /// # Errors
    /// What waiting cannot mend, such as a job the broker has forgotten.
    pub async fn next(&mut self) -> Result<Option<Outcome>, CallError> {
        loop {
            if let Some(outcome) = &mut self.unfinished {
                if let TaskResult::Succeeded(output) = &mut outcome.result {
                    fetch_message(&self.job, output).await?;
                }
                self.after_sequence = outcome.sequence;
                return Ok(self.unfinished.take());
            }
            match self.receive().await? {
                Some(outcome) if outcome.sequence > self.after_sequence => {
                    self.unfinished = Some(outcome);
                }
                Some(_known) => {}
                None if self.is_complete().await? => return Ok(None),
                None => self.stream.pause().await,
            }
        }
    }

    /// The sequence number of the last outcome given, to go on from with [`Job::outcomes_after`].
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.after_sequence
    }

    /// The same as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Outcome, CallError>> + Send {
        futures::stream::try_unfold(self, |mut outcomes| async move {
            let next = outcomes.next().await?;
            Ok(next.map(|outcome| (outcome, outcomes)))
        })
    }

    /// What comes next over the connection, or `None` where the broker ended it.
    async fn receive(&mut self) -> Result<Option<Outcome>, CallError> {
        let (job, after_sequence) = (&self.job, self.after_sequence);
        let open = |channel| async move {
            let jobs = JobsClient::new(channel);
            let mut jobs = jobs.max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
            let request = v1::WatchRequest {
                job_id: job.id().to_wire(),
                after_sequence,
            };
            jobs.watch(request).await
        };
        let caller = &job.client.shared.caller;
        let received = self.stream.next(caller, CALL, open).await?;
        let outcome = received.map(Outcome::from_wire).transpose();
        outcome.map_err(|problem| CallError::Answer {
            call: CALL,
            problem,
        })
    }

    /// A stream also ends when a broker goes down in good order, so its end alone proves nothing.
    async fn is_complete(&self) -> Result<bool, CallError> {
        let status = self.job.status().await?;
        Ok(status.closed
            && status.unfinished_count() == 0
            && status.last_sequence <= self.after_sequence)
    }
}

async fn fetch_message(job: &Job, output: &mut TaskOutput) -> Result<(), CallError> {
    if let (None, Some(blob)) = (&output.message, &output.message_blob) {
        output.message = match job.read_blob(blob).await {
            Ok(message) => Some(message),
            Err(CallError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
    }
    Ok(())
}
