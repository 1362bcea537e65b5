//! What was computed before: outcomes by everything that their bytes depend on.

use super::Queue;
use crate::{
    InputSource, JobNumber, Made, Outcome, OutcomeResult, Output, Payload, TaskId, holds,
    ready::CANDIDATE_COUNT_MAX,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Hash of kind, parameters, inputs, kernel revision and instruction class.
pub(crate) type MemoKey = [u8; 32];

/// Tasks that gave outputs worth giving again.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// Several may have given the same, and each of them keeps it for as long as its job does.
    tasks: BTreeSet<(MemoKey, TaskId)>,
    keys: HashMap<JobNumber, HashMap<u64, MemoKey>>,
}

impl Memo {
    fn insert(&mut self, key: MemoKey, task: TaskId) {
        self.tasks.insert((key, task));
        self.keys
            .entry(task.job)
            .or_default()
            .insert(task.index, key);
    }

    /// The latest tasks of a key.
    fn of(&self, key: MemoKey) -> impl Iterator<Item = TaskId> {
        let at = |n| TaskId {
            job: JobNumber(n),
            index: n,
        };
        let tasks = self.tasks.range((key, at(0))..=(key, at(u64::MAX)));
        tasks.rev().take(CANDIDATE_COUNT_MAX).map(|(_, task)| *task)
    }

    fn key_of(&self, task: TaskId) -> Option<&MemoKey> {
        self.keys.get(&task.job)?.get(&task.index)
    }

    pub(crate) fn forget_task(&mut self, task: TaskId) {
        let keys = self.keys.get_mut(&task.job);
        if let Some(key) = keys.and_then(|keys| keys.remove(&task.index)) {
            self.tasks.remove(&(key, task));
        }
    }

    pub(crate) fn forget(&mut self, job: JobNumber) {
        for (index, key) in self.keys.remove(&job).unwrap_or_default() {
            self.tasks.remove(&(key, TaskId { job, index }));
        }
    }
}

impl Queue {
    /// Remembers what a task gave, if its job cares for such things.
    pub(crate) fn memorize(&mut self, id: TaskId, outcome: &Outcome) {
        let contents = self.contents_of(id);
        let key = contents.zip(outcome.made_by.as_ref());
        if let Some((contents, made)) = key {
            self.memo.insert(key_of(contents, made), id);
        }
    }

    /// What an equal task gave that is still kept, and its outcome, if one of these made it.
    pub(crate) fn recall<'a>(
        &self,
        id: TaskId,
        mades: impl Iterator<Item = &'a Made>,
    ) -> Option<(&Output, &Arc<Outcome>)> {
        let contents = self.contents_of(id)?;
        let mut equals = mades.flat_map(|made| self.memo.of(key_of(contents, made)));
        equals.find_map(|source| self.kept_output(source))
    }

    fn kept_output(&self, source: TaskId) -> Option<(&Output, &Arc<Outcome>)> {
        let outcome = self.task(source)?.outcome()?;
        let OutcomeResult::Succeeded(output) = &outcome.result else {
            return None;
        };
        let kept = &self.job(source.job)?.outputs;
        let is_kept = holds::given_by(output).all(|digest| kept.contains_key(&digest));
        is_kept.then_some((output, outcome))
    }

    /// Hash of kind, parameters and inputs. None where a part is not known by its contents.
    fn contents_of(&self, id: TaskId) -> Option<[u8; 32]> {
        let named = &self.task(id)?.spec;
        named.parameters_digest?;
        let spec = self.assignment(id)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(spec.kind.name.len() as u64).to_le_bytes());
        hasher.update(spec.kind.name.as_bytes());
        hasher.update(&spec.kind.version.to_le_bytes());
        hasher.update(&spec.parameters_digest?.0);
        for (input, named) in spec.inputs.iter().zip(&named.inputs) {
            let (what, contents) = self.contents_of_input(id.job, &input.source, &named.source)?;
            hasher.update(&[what]);
            hasher.update(&contents);
            hasher.update(&(input.ranges.len() as u64).to_le_bytes());
            for (offset, length) in &input.ranges {
                hasher.update(&offset.to_le_bytes());
                hasher.update(&length.to_le_bytes());
            }
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// By what an input is known, and as what it is named in the task's spec.
    fn contents_of_input(
        &self,
        job: JobNumber,
        source: &InputSource,
        named: &InputSource,
    ) -> Option<(u8, [u8; 32])> {
        match (source, named) {
            (InputSource::Blob(blob), _) => Some((0, blob.digest.0)),
            (InputSource::Message(Payload::Inline(bytes)), _) => {
                Some((1, *blake3::hash(bytes).as_bytes()))
            }
            // Its bytes are on disk, but whoever computes the same gives the same.
            (
                InputSource::Message(Payload::Packed { .. }),
                InputSource::Output { task_index, .. },
            ) => {
                let index = *task_index;
                let key = self.memo.key_of(TaskId { job, index })?;
                Some((2, *key))
            }
            (InputSource::Message(_) | InputSource::Output { .. }, _) => None,
        }
    }
}

fn key_of(contents: [u8; 32], made: &Made) -> MemoKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&contents);
    hasher.update(&made.revision.to_le_bytes());
    hasher.update(made.instruction_class.as_bytes());
    *hasher.finalize().as_bytes()
}
