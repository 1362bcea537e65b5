//! The latest failures with their text, and the names of the workers on which they happened.

use dewar_queue::{Failure, Kind, TaskId, WorkerId};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Failures remembered: more than anybody reads.
const FAILURE_COUNT_MAX: usize = 100;

/// Bytes of text remembered of each.
const TEXT_BYTES_MAX: usize = 4096;

/// Names remembered, also of workers that are gone; beyond that, all are forgotten but those that come anew.
const NAME_COUNT_MAX: usize = 32_768;

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) task: TaskId,
    /// Unknown if the job is forgotten.
    pub(crate) kind: Option<Kind>,
    /// Unknown if no worker is to blame, or it came before the broker started.
    pub(crate) worker_name: Option<Arc<str>>,
    pub(crate) failure: Failure,
    pub(crate) at_unix_ms: u64,
    /// The task failed with it; else another try follows.
    pub(crate) is_final: bool,
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    latest: VecDeque<Failed>,
    names: HashMap<WorkerId, Arc<str>>,
}

impl Failures {
    pub(super) fn note_name(&mut self, worker: WorkerId, name: Arc<str>) {
        if self.names.len() >= NAME_COUNT_MAX {
            self.names.clear();
        }
        self.names.insert(worker, name);
    }

    pub(super) fn name_of(&self, worker: WorkerId) -> Option<Arc<str>> {
        self.names.get(&worker).cloned()
    }

    /// A try failed.
    pub(super) fn note_attempt(
        &mut self,
        task: TaskId,
        kind: Option<Kind>,
        worker: Option<WorkerId>,
        failure: &Failure,
        at_unix_ms: u64,
    ) {
        let worker_name = worker.and_then(|worker| self.name_of(worker));
        self.push(Failed {
            task,
            kind,
            worker_name,
            failure: shortened(failure),
            at_unix_ms,
            is_final: false,
        });
    }

    /// A task failed: mostly with the try that was told of just before.
    pub(super) fn note_end(
        &mut self,
        task: TaskId,
        kind: Option<Kind>,
        worker_name: Option<Arc<str>>,
        failure: &Failure,
        at_unix_ms: u64,
    ) {
        let failure = shortened(failure);
        let told = self.latest.back_mut();
        if let Some(told) = told.filter(|told| {
            told.task == task && !told.is_final && told.failure.message == failure.message
        }) {
            told.is_final = true;
            told.failure = failure;
            return;
        }
        self.push(Failed {
            task,
            kind,
            worker_name,
            failure,
            at_unix_ms,
            is_final: true,
        });
    }

    pub(super) fn newest_first(&self) -> Vec<Failed> {
        self.latest.iter().rev().cloned().collect()
    }

    fn push(&mut self, failed: Failed) {
        if self.latest.len() == FAILURE_COUNT_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(failed);
    }
}

fn shortened(failure: &Failure) -> Failure {
    let mut failure = failure.clone();
    if failure.message.len() > TEXT_BYTES_MAX {
        let end = failure.message.floor_char_boundary(TEXT_BYTES_MAX);
        failure.message.truncate(end);
        failure.message.push('…');
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_queue::{FailureClass, JobNumber};

    fn task(index: u64) -> TaskId {
        TaskId {
            job: JobNumber(1),
            index,
        }
    }

    fn failure(message: &str) -> Failure {
        Failure {
            class: FailureClass::KernelError,
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_task_that_failed_with_its_last_try_is_told_once() {
        let mut failures = Failures::default();
        failures.note_name(WorkerId([1; 16]), "node1".into());
        let by = Some(WorkerId([1; 16]));
        failures.note_attempt(task(4), None, by, &failure("no"), 10);
        failures.note_attempt(task(4), None, by, &failure("no"), 20);
        failures.note_end(task(4), None, None, &failure("no"), 20);
        failures.note_end(task(5), None, None, &failure("never began"), 30);
        let told = failures.newest_first();
        let told: Vec<_> = told
            .iter()
            .map(|one| (one.task.index, one.worker_name.as_deref(), one.is_final))
            .collect();
        assert_eq!(
            told,
            [
                (5, None, true),
                (4, Some("node1"), true),
                (4, Some("node1"), false)
            ]
        );
    }

    #[test]
    fn many_and_long_ones_take_no_more_room() {
        let mut failures = Failures::default();
        let long = "é".repeat(TEXT_BYTES_MAX);
        for index in 0..1000 {
            failures.note_end(task(index), None, None, &failure(&long), 0);
        }
        let told = failures.newest_first();
        assert_eq!((told.len(), told[0].task.index), (FAILURE_COUNT_MAX, 999));
        assert!(told[0].failure.message.len() < TEXT_BYTES_MAX + 8);
    }
}
