//! What was computed before: outcomes by everything that their bytes depend on.

use super::Queue;
use crate::{
    Input, InputSource, JobNumber, Made, Outcome, OutcomeResult, Output, Payload, TaskId, TaskSpec,
    holds,
};
use std::{collections::HashMap, sync::Arc};

/// Hash of kind, parameters, inputs, kernel revision and instruction class.
pub(crate) type MemoKey = [u8; 32];

/// Tasks that gave outputs worth giving again.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    tasks: HashMap<MemoKey, TaskId>,
    keys: HashMap<JobNumber, Vec<MemoKey>>,
}

impl Memo {
    fn insert(&mut self, key: MemoKey, task: TaskId) {
        self.tasks.insert(key, task);
        self.keys.entry(task.job).or_default().push(key);
    }

    pub(crate) fn forget(&mut self, job: JobNumber) {
        for key in self.keys.remove(&job).unwrap_or_default() {
            // It may be a later job's by now.
            if self.tasks.get(&key).is_some_and(|task| task.job == job) {
                self.tasks.remove(&key);
            }
        }
    }
}

impl Queue {
    /// Remembers what a task gave, if its job cares for such things.
    pub(crate) fn memorize(&mut self, id: TaskId, outcome: &Outcome) {
        let spec = self.assignment(id);
        let key = spec.zip(outcome.made_by.as_ref());
        if let Some(key) = key.and_then(|(spec, made)| key_of(&spec, made)) {
            self.memo.insert(key, id);
        }
    }

    /// What an equal task gave that is still kept, and its outcome.
    pub(crate) fn recall(&self, id: TaskId, made: &Made) -> Option<(&Output, &Arc<Outcome>)> {
        let spec = self.assignment(id)?;
        let key = key_of(&spec, made)?;
        let source = self.memo.tasks.get(&key)?;
        let outcome = self.task(*source)?.outcome()?;
        let OutcomeResult::Succeeded(output) = &outcome.result else {
            return None;
        };
        let kept = &self.job(source.job)?.outputs;
        let is_kept = holds::given_by(output).all(|digest| kept.contains_key(&digest));
        is_kept.then_some((output, outcome))
    }
}

/// None where a part is not known by its contents.
fn key_of(spec: &TaskSpec, made: &Made) -> Option<MemoKey> {
    let mut hasher = blake3::Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(&spec.kind.name);
    text(&made.instruction_class);
    hasher.update(&spec.kind.version.to_le_bytes());
    hasher.update(&made.revision.to_le_bytes());
    hasher.update(&spec.parameters_digest?.0);
    for Input { source, ranges } in &spec.inputs {
        hasher.update(&contents_of(source)?);
        hasher.update(&(ranges.len() as u64).to_le_bytes());
        for (offset, length) in ranges {
            hasher.update(&offset.to_le_bytes());
            hasher.update(&length.to_le_bytes());
        }
    }
    Some(*hasher.finalize().as_bytes())
}

fn contents_of(source: &InputSource) -> Option<[u8; 32]> {
    match source {
        InputSource::Blob(blob) => Some(blob.digest.0),
        InputSource::Message(Payload::Inline(bytes)) => Some(*blake3::hash(bytes).as_bytes()),
        InputSource::Message(Payload::Packed { .. } | Payload::Blob(_))
        | InputSource::Output { .. } => None,
    }
}
