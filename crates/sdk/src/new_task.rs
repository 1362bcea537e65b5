//! A task as its customer states it.

use crate::{Input, TaskIndex, job::whole_ms};
use bytes::Bytes;
use dewar_proto::v1;
use dewar_task::{Kind, TaskKind};
use prost::Message as _;
use std::time::Duration;

/// A task to submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    kind: Kind,
    parameters: Bytes,
    inputs: Vec<Input>,
    attempts_max: u32,
    time_limit_ms: u64,
    slot_count: u32,
    memory_bytes: u64,
    key: String,
    after: Vec<TaskIndex>,
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
            slot_count: 1,
            memory_bytes: 0,
            key: String::new(),
            after: Vec::new(),
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
        Self {
            time_limit_ms: whole_ms(limit),
            ..self
        }
    }

    /// Slots of its worker that one try takes, if its kernel uses several cores; without it, one.
    #[must_use]
    pub fn slots(self, slot_count: u32) -> Self {
        Self { slot_count, ..self }
    }

    /// Memory that one try takes: it goes only to a worker that has so much left. Without it, nobody counts.
    #[must_use]
    pub fn memory(self, memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            ..self
        }
    }

    /// A name of the customer's own, distinct within the job, of at most 100 bytes: a task submitted again under the same
    /// key is the task that has it. People see it in `dewar tasks`.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            ..self
        }
    }

    /// Tasks of the job, submitted before, that must succeed first, beside those whose outputs it reads.
    #[must_use]
    pub fn after(self, tasks: impl IntoIterator<Item = TaskIndex>) -> Self {
        Self {
            after: tasks.into_iter().collect(),
            ..self
        }
    }

    /// Its key, if it has one.
    pub(crate) fn known_by(&self) -> Option<&str> {
        (!self.key.is_empty()).then_some(&self.key)
    }

    pub(crate) fn parameters(&self) -> Bytes {
        self.parameters.clone()
    }

    /// What of it the first brokers did not know.
    pub(crate) fn needs_minor_1(&self) -> Option<&'static str> {
        let waits = !self.after.is_empty() || self.inputs.iter().any(Input::is_output);
        [
            (
                self.has_resources(),
                "a task of several slots or stated memory",
            ),
            (!self.key.is_empty(), "a task with a key"),
            (waits, "a task that waits for others"),
        ]
        .into_iter()
        .find_map(|(is_set, what)| is_set.then_some(what))
    }

    fn has_resources(&self) -> bool {
        self.slot_count > 1 || self.memory_bytes > 0
    }

    pub(crate) fn into_wire(self, parameters: v1::payload::Place) -> v1::TaskSpec {
        let resources = self.has_resources().then_some(v1::Resources {
            slot_count: self.slot_count,
            memory_bytes: self.memory_bytes,
        });
        let (inputs, after) = (self.inputs.into_iter(), self.after.into_iter());
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
            resources,
            key: self.key,
            after: after.map(|index| index.0).collect(),
        }
    }
}
