//! Tasks on their way to the broker: stated typed, sent in bulk.

use crate::{CallError, Job, TaskIndex, job::Submitted};
use bytes::Bytes;
use dewar_blobs::BlobRef;
use dewar_proto::{limits, v1};
use dewar_task::{Kind, TaskKind};
use prost::Message as _;
use std::{ops::Range, sync::Arc, time::Duration};
use v1::jobs_client::JobsClient;

/// Bytes of tasks in one message: half of what the broker decodes.
const MESSAGE_TASKS_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX / 2;

/// Messages in one call. A broken connection costs at most this much sent again.
const CALL_MESSAGES_MAX: usize = 16;

/// A blob, or parts of one, that a task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    blob: BlobRef,
    ranges: Vec<Range<u64>>,
}

impl Input {
    /// All of a blob.
    #[must_use]
    pub fn whole(blob: BlobRef) -> Self {
        Self {
            blob,
            ranges: Vec::new(),
        }
    }

    /// Parts of a blob, in bytes: only the chunks that cover them travel. Parts may come in any order and overlap;
    /// none at all means the whole blob.
    #[must_use]
    pub fn parts(blob: BlobRef, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        Self {
            blob,
            ranges: ascending_disjoint(ranges.into_iter().collect()),
        }
    }
}

impl From<BlobRef> for Input {
    fn from(blob: BlobRef) -> Self {
        Self::whole(blob)
    }
}

/// A task as its customer states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    kind: Kind,
    parameters: Bytes,
    inputs: Vec<Input>,
    attempts_max: u32,
    time_limit_ms: u64,
}

impl NewTask {
    /// A task of kind `K` that reads `inputs`.
    #[must_use]
    pub fn new<K: TaskKind>(parameters: &K::Parameters, inputs: Vec<Input>) -> Self {
        Self {
            kind: K::kind(),
            parameters: parameters.encode_to_vec().into(),
            inputs,
            attempts_max: 0,
            time_limit_ms: 0,
        }
    }

    /// Tries before the task counts as failed; 0 for the broker's default, 3.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self {
            attempts_max,
            ..self
        }
    }

    /// How long one try may run; without it, there is no limit.
    #[must_use]
    pub fn time_limit(self, limit: Duration) -> Self {
        // A limit under a millisecond is a limit still, and not the wire's 0 for none.
        let time_limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            time_limit_ms,
            ..self
        }
    }

    fn into_wire(self, parameters: v1::payload::Place) -> v1::TaskSpec {
        let inputs = self.inputs.into_iter();
        v1::TaskSpec {
            kind: Some(v1::Kind {
                name: self.kind.name,
                version: self.kind.version,
            }),
            parameters: Some(v1::Payload {
                place: Some(parameters),
            }),
            inputs: inputs.map(Into::into).collect(),
            attempts_max: self.attempts_max,
            time_limit_ms: self.time_limit_ms,
            ..Default::default()
        }
    }
}

impl From<Input> for v1::Input {
    fn from(input: Input) -> Self {
        let ranges = input.ranges.into_iter();
        Self {
            blob: Some(input.blob.into()),
            ranges: ranges
                .map(|range| v1::ByteRange {
                    offset_bytes: range.start,
                    length_bytes: range.end - range.start,
                })
                .collect(),
            ..Default::default()
        }
    }
}

impl Job {
    /// Adds one task.
    ///
    /// # Errors
    /// As [`Job::submit_all`].
    pub async fn submit<K: TaskKind>(
        &self,
        parameters: &K::Parameters,
        inputs: Vec<Input>,
    ) -> Result<TaskIndex, CallError> {
        let first = self
            .submit_all(vec![NewTask::new::<K>(parameters, inputs)])
            .await?;
        Ok(first.start)
    }

    /// Adds tasks, and gives their indices: the first, and the one after the last. When this returns, the broker has
    /// them on disk. A call that is dropped half-way still ends its work.
    ///
    /// # Errors
    /// What the broker refuses, such as a closed job.
    pub async fn submit_all(&self, tasks: Vec<NewTask>) -> Result<Range<TaskIndex>, CallError> {
        let job = self.clone();
        // Indices given out must match what was sent, so this must not stop in the middle, whatever the caller does.
        let submitting = tokio::spawn(async move { job.submit_in_order(tasks).await });
        submitting.await.unwrap_or_else(|error| {
            Err(CallError::Answer {
                call: CALL,
                problem: error.to_string(),
            })
        })
    }

    async fn submit_in_order(self, tasks: Vec<NewTask>) -> Result<Range<TaskIndex>, CallError> {
        let mut submitted = Arc::clone(&self.submitted).lock_owned().await;
        let first_index = submitted.next_index;
        let mut batch = Batch::default();
        for task in tasks {
            let spec = self.specify(task).await?;
            if let Some(full) = batch.push(spec) {
                self.send(&mut submitted, full).await?;
            }
        }
        self.send(&mut submitted, batch.messages).await?;
        Ok(TaskIndex(first_index)..TaskIndex(submitted.next_index))
    }

    /// Large parameters become a blob of the job.
    async fn specify(&self, task: NewTask) -> Result<v1::TaskSpec, CallError> {
        use v1::payload::Place;
        let parameters = task.parameters.clone();
        let place = if parameters.len() <= limits::PAYLOAD_INLINE_BYTES_MAX {
            Place::Inline(parameters)
        } else {
            Place::Blob(self.upload(parameters).await?.into())
        };
        Ok(task.into_wire(place))
    }

    async fn send(
        &self,
        submitted: &mut Submitted,
        messages: Vec<Vec<v1::TaskSpec>>,
    ) -> Result<(), CallError> {
        if messages.is_empty() {
            return Ok(());
        }
        let job_id = self.id().to_wire();
        let mut next_index = submitted.next_index;
        let requests: Vec<_> = messages
            .into_iter()
            .map(|tasks| {
                let first_index = next_index;
                next_index += tasks.len() as u64;
                v1::SubmitRequest {
                    job_id: job_id.clone(),
                    first_index,
                    tasks,
                }
            })
            .collect();
        let answer = self
            .client
            .shared
            .caller
            .call(CALL, |channel| {
                let requests = requests.clone();
                async move {
                    JobsClient::new(channel)
                        .submit(tokio_stream::iter(requests))
                        .await
                }
            })
            .await?;
        if answer.task_count < next_index {
            return Err(CallError::Answer {
                call: CALL,
                problem: format!("{} tasks after {next_index} were sent", answer.task_count),
            });
        }
        submitted.next_index = next_index;
        Ok(())
    }
}

const CALL: &str = "submitting tasks";

/// Messages gathered for one call.
#[derive(Debug, Default)]
struct Batch {
    messages: Vec<Vec<v1::TaskSpec>>,
    last_bytes: usize,
}

impl Batch {
    /// Adds a task; gives the messages so far if there is no room for it among them.
    fn push(&mut self, spec: v1::TaskSpec) -> Option<Vec<Vec<v1::TaskSpec>>> {
        let bytes = spec.encoded_len();
        if let Some(last) = self.messages.last_mut()
            && last.len() < limits::SUBMIT_TASKS_MAX
            && self.last_bytes + bytes <= MESSAGE_TASKS_BYTES_MAX
        {
            last.push(spec);
            self.last_bytes += bytes;
            return None;
        }
        let full =
            (self.messages.len() == CALL_MESSAGES_MAX).then(|| std::mem::take(&mut self.messages));
        self.messages.push(vec![spec]);
        self.last_bytes = bytes;
        full
    }
}

/// Sorts ranges and joins those that touch; empty ones vanish.
fn ascending_disjoint(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_put_in_order() {
        for (given, expected) in [
            (vec![], vec![]),
            (vec![5..5, 9..9], vec![]),
            (vec![8..9, 0..4], vec![0..4, 8..9]),
            (vec![0..4, 4..6, 5..8, 20..21], vec![0..8, 20..21]),
            (vec![0..10, 2..3, 12..13], vec![0..10, 12..13]),
        ] {
            assert_eq!(ascending_disjoint(given.clone()), expected, "{given:?}");
        }
    }

    fn spec(parameter_bytes: usize) -> v1::TaskSpec {
        v1::TaskSpec {
            parameters: Some(v1::Payload {
                place: Some(v1::payload::Place::Inline(vec![0; parameter_bytes].into())),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn messages_keep_within_count_and_size() {
        for (task_count, parameter_bytes) in
            [(0, 0), (1, 10), (2_500, 10), (300, 64 << 10), (40_000, 10)]
        {
            let mut batch = Batch::default();
            let mut calls: Vec<_> = (0..task_count)
                .filter_map(|_| batch.push(spec(parameter_bytes)))
                .collect();
            calls.push(batch.messages);
            for messages in &calls {
                assert!(messages.len() <= CALL_MESSAGES_MAX);
                for message in messages {
                    assert!((1..=limits::SUBMIT_TASKS_MAX).contains(&message.len()));
                    let request = v1::SubmitRequest {
                        tasks: message.clone(),
                        ..Default::default()
                    };
                    assert!(request.encoded_len() < limits::MESSAGE_BYTES_MAX);
                }
            }
            let sent: usize = calls.iter().flatten().map(Vec::len).sum();
            assert_eq!(sent, task_count);
        }
    }
}
