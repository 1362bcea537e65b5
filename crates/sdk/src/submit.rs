//! Tasks on their way to the broker: sent in bulk, in order, and known by index or by key.

use crate::{CallError, Input, Job, NewTask, TaskIndex, job::Submitted};
use dewar_proto::{limits, v1};
use dewar_task::TaskKind;
use prost::Message as _;
use std::{ops::Range, sync::Arc};
use tonic::Code;
use v1::jobs_client::JobsClient;

/// Bytes of tasks in one message: half of what the broker decodes.
const MESSAGE_TASKS_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX / 2;

/// Messages in one call. A broken connection costs at most this much sent again.
const CALL_MESSAGES_MAX: usize = 16;

impl Job {
    /// Adds one task.
    ///
    /// # Errors
    /// As [`Job::submit_all`]. After [`CallError::InPart`] the broker has the task, or may have it.
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

    /// Adds tasks without keys, and gives their indices: the first, and the one after the last. When this returns, the
    /// broker has them on disk. A call that is dropped half-way still ends its work.
    ///
    /// A task may read the output of one that comes before it in the same call: its index is [`Job::task_count`] and
    /// its position.
    ///
    /// # Errors
    /// What the broker refuses, such as a closed job; tasks with keys. Many tasks go in several messages, and the broker
    /// may take the first of them before it refuses one: then this is [`CallError::InPart`], which says which it has, and
    /// only the others may be submitted again. After any other error it has none of them.
    pub async fn submit_all(&self, tasks: Vec<NewTask>) -> Result<Range<TaskIndex>, CallError> {
        if let Some(key) = tasks.iter().find_map(NewTask::known_by) {
            return Err(refused(format!(
                "the task {key:?} has a key; Job::submit_keyed gives the index of each of those"
            )));
        }
        let Sent { range, .. } = self.submit_whole(tasks).await?;
        Ok(range)
    }

    /// Adds tasks that have keys, and gives the index of each, in order. Those whose keys the job has already are not
    /// added again, and keep the index they had: a customer that starts anew may submit everything once more.
    ///
    /// A task may read the outputs of those that earlier calls gave the index of, not of those in the same call.
    ///
    /// # Errors
    /// What the broker refuses, such as a closed job or tasks without keys among the others. After
    /// [`CallError::InPart`] all may be submitted again: those that were accepted are known by their keys.
    pub async fn submit_keyed(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskIndex>, CallError> {
        let task_count = tasks.len();
        let Sent { indices, .. } = self.submit_whole(tasks).await?;
        if indices.len() == task_count {
            return Ok(indices);
        }
        let without = task_count.saturating_sub(indices.len());
        Err(refused(format!(
            "{without} of {task_count} tasks have no key; give all of them one, or use Job::submit_all"
        )))
    }

    async fn submit_whole(&self, tasks: Vec<NewTask>) -> Result<Sent, CallError> {
        if let Some(what) = tasks.iter().find_map(NewTask::needs_minor_1) {
            self.client.shared.require_minor(1, what)?;
        }
        let job = self.clone();
        // Indices given out must match what was sent, so this must not stop in the middle, whatever the caller does.
        let submitting = tokio::spawn(async move {
            let mut submitted = Arc::clone(&job.submitted).lock_owned().await;
            job.settle(&mut submitted).await?;
            let first = submitted.next_index;
            match job.submit_in_order(&mut submitted, tasks).await {
                Ok(sent) => Ok(sent),
                Err(error) => Err(job.after_failure(&mut submitted, first, error).await),
            }
        });
        submitting.await.unwrap_or_else(|error| {
            Err(CallError::Answer {
                call: CALL,
                problem: error.to_string(),
            })
        })
    }

    /// Asks the broker how many tasks the job has, if we cannot know.
    pub(crate) async fn settle(&self, submitted: &mut Submitted) -> Result<(), CallError> {
        if submitted.unsure {
            // It answers from what is on disk, and after all that was sent to it before.
            submitted.next_index = self.status().await?.task_count();
            submitted.unsure = false;
        }
        Ok(())
    }

    /// The error of a submit that began at an index, with what was accepted of it all the same.
    async fn after_failure(
        &self,
        submitted: &mut Submitted,
        first: u64,
        error: CallError,
    ) -> CallError {
        let accepted = match self.settle(submitted).await {
            Ok(()) if submitted.next_index <= first => return error,
            Ok(()) => Some(TaskIndex(first)..TaskIndex(submitted.next_index)),
            Err(asking) => {
                tracing::debug!(%asking, "what was submitted is not known");
                None
            }
        };
        CallError::InPart {
            accepted,
            source: Box::new(error),
        }
    }

    async fn submit_in_order(
        &self,
        submitted: &mut Submitted,
        tasks: Vec<NewTask>,
    ) -> Result<Sent, CallError> {
        let first = TaskIndex(submitted.next_index);
        let mut indices = Vec::new();
        let mut batch = Batch::default();
        for task in tasks {
            let spec = self.specify(task).await?;
            if let Some(full) = batch.push(spec) {
                indices.extend(self.send(submitted, full).await?);
            }
        }
        indices.extend(self.send(submitted, batch.messages).await?);
        Ok(Sent {
            range: first..TaskIndex(submitted.next_index),
            indices,
        })
    }

    /// Large parameters become a blob of the job.
    async fn specify(&self, task: NewTask) -> Result<v1::TaskSpec, CallError> {
        use v1::payload::Place;
        let parameters = task.parameters();
        let place = if parameters.len() <= limits::PAYLOAD_INLINE_BYTES_MAX {
            Place::Inline(parameters)
        } else {
            Place::Blob(self.upload(parameters).await?.into())
        };
        Ok(task.into_wire(place))
    }

    /// Sends one call's messages, and gives the indices that the broker tells of tasks with keys.
    async fn send(
        &self,
        submitted: &mut Submitted,
        messages: Vec<Vec<v1::TaskSpec>>,
    ) -> Result<Vec<TaskIndex>, CallError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let has_keys = messages.iter().flatten().any(|spec| !spec.key.is_empty());
        let job_id = self.id().to_wire();
        let mut next_index = submitted.next_index;
        let mut requests = Vec::with_capacity(messages.len());
        for tasks in messages {
            let first_index = next_index;
            // How many of those with keys are new is for the broker to say; where all are known, nothing is added.
            if !has_keys {
                next_index += tasks.len() as u64;
            }
            requests.push(v1::SubmitRequest {
                job_id: job_id.clone(),
                first_index,
                tasks,
            });
        }
        // Until the broker has answered; also if this panics.
        submitted.unsure = true;
        let caller = &self.client.shared.caller;
        let answer = caller
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
        submitted.next_index = if has_keys {
            answer.task_count
        } else {
            next_index
        };
        submitted.unsure = false;
        Ok(answer.indices.into_iter().map(TaskIndex).collect())
    }
}

/// What came of a submit.
#[derive(Debug)]
struct Sent {
    /// The indices that are new.
    range: Range<TaskIndex>,
    /// Those of tasks with keys, in the order of the call.
    indices: Vec<TaskIndex>,
}

fn refused(message: String) -> CallError {
    CallError::Refused {
        call: CALL,
        code: Code::InvalidArgument,
        message,
    }
}

const CALL: &str = "submitting tasks";

/// Messages gathered for one call.
#[derive(Debug, Default)]
struct Batch {
    messages: Vec<Vec<v1::TaskSpec>>,
    last_bytes: usize,
    last_inputs: usize,
}

impl Batch {
    /// Adds a task; gives the messages so far if there is no room for it among them.
    fn push(&mut self, spec: v1::TaskSpec) -> Option<Vec<Vec<v1::TaskSpec>>> {
        let (bytes, inputs) = (spec.encoded_len(), spec.inputs.len());
        if let Some(last) = self.messages.last_mut()
            && last.len() < limits::SUBMIT_TASKS_MAX
            && self.last_bytes + bytes <= MESSAGE_TASKS_BYTES_MAX
            && self.last_inputs + inputs <= limits::SUBMIT_INPUTS_MAX
        {
            last.push(spec);
            self.last_bytes += bytes;
            self.last_inputs += inputs;
            return None;
        }
        let full =
            (self.messages.len() == CALL_MESSAGES_MAX).then(|| std::mem::take(&mut self.messages));
        self.messages.push(vec![spec]);
        (self.last_bytes, self.last_inputs) = (bytes, inputs);
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
