//! What became of tries, for people who ask why: the latest of them, in memory alone.
//!
//! The queue remembers what decides about further tries. When one was given out, how long it fetched and what it said is of
//! use to nobody but people, so none of it is written down, and it never takes more room than told: the oldest go first.

use dewar_queue::{
    AttemptEnd, AttemptId, Event, Failure, JobNumber, OutcomeResult, Queue, TaskId, WorkerId,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// Room for tries that have ended: some hundred thousand without a failure.
const ENDED_BYTES_MAX: usize = 16 << 20;

/// The tries that run, and the latest of those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    live: HashMap<AttemptId, Try>,
    ended: VecDeque<Try>,
    ended_bytes: usize,
}

/// One try at a task.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    pub(crate) task: TaskId,
    pub(crate) attempt: AttemptId,
    pub(crate) worker_name: Arc<str>,
    /// None if its worker had it from an earlier start of the broker.
    pub(crate) given_unix_ms: Option<u64>,
    /// None while it is not over.
    pub(crate) ended: Option<Ended>,
    /// As its worker says.
    pub(crate) times: Times,
    pub(crate) failure: Option<Box<Failure>>,
}

/// The end of a try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) how: AttemptEnd,
    pub(crate) at_unix_ms: u64,
}

/// What a try took on its worker; 0 for what was not said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) fetch_ms: u64,
    pub(crate) run_ms: u64,
}

impl Diary {
    /// What its worker says that a try took, just before it says how it ended.
    pub(super) fn note_times(&mut self, attempt: AttemptId, times: Times) {
        if let Some(entry) = self.live.get_mut(&attempt) {
            entry.times = times;
        }
    }

    /// Takes down what an event, which the queue has folded in, says of tries.
    pub(super) fn note(&mut self, event: &Event, queue: &Queue, unix_ms: u64) {
        match event {
            Event::AttemptStarted {
                task,
                attempt,
                worker,
                ..
            } => self.begin(*task, *attempt, name_of(queue, *worker), Some(unix_ms)),
            Event::WorkerJoined { hello, .. } => {
                for held in &hello.held {
                    if !self.live.contains_key(&held.attempt) {
                        self.begin(held.task, held.attempt, hello.name.clone(), None);
                    }
                }
            }
            Event::AttemptFailed {
                attempt, failure, ..
            } => {
                if let Some(entry) = self.live.get_mut(attempt) {
                    entry.failure = Some(Box::new(failure.clone()));
                }
            }
            Event::AttemptEnded {
                task, attempt, end, ..
            } => {
                let ended = Ended {
                    how: *end,
                    at_unix_ms: unix_ms,
                };
                self.end(*attempt, ended, || last_failure(queue, *task));
            }
            _ => {}
        }
    }

    /// All that is known of the tries at a task, the oldest first.
    pub(crate) fn of_task(&self, task: TaskId) -> Vec<&Try> {
        let mut tries: Vec<_> = self.all().filter(|entry| entry.task == task).collect();
        tries.sort_by_key(|entry| entry.attempt);
        tries
    }

    /// Tasks of a job that workers of this name have or had.
    pub(crate) fn tasks_on(&self, job: JobNumber, worker_name: &str) -> HashSet<u64> {
        let on_it = self
            .all()
            .filter(|entry| entry.task.job == job && *entry.worker_name == *worker_name);
        on_it.map(|entry| entry.task.index).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Try> {
        self.ended.iter().chain(self.live.values())
    }

    fn begin(
        &mut self,
        task: TaskId,
        attempt: AttemptId,
        worker_name: Arc<str>,
        given_unix_ms: Option<u64>,
    ) {
        let begun = Try {
            task,
            attempt,
            worker_name,
            given_unix_ms,
            ended: None,
            times: Times::default(),
            failure: None,
        };
        self.live.insert(attempt, begun);
    }

    fn end(
        &mut self,
        attempt: AttemptId,
        ended: Ended,
        last_failure: impl FnOnce() -> Option<Failure>,
    ) {
        let Some(mut entry) = self.live.remove(&attempt) else {
            return;
        };
        let may_have_failed = !matches!(ended.how, AttemptEnd::Succeeded | AttemptEnd::Stopped);
        if entry.failure.is_none() && may_have_failed {
            entry.failure = last_failure().map(Box::new);
        }
        entry.ended = Some(ended);
        self.ended_bytes += entry.bytes();
        self.ended.push_back(entry);
        while self.ended_bytes > ENDED_BYTES_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.ended_bytes -= oldest.bytes();
        }
    }
}

impl Try {
    fn bytes(&self) -> usize {
        let failure = self.failure.as_ref();
        let text = failure.map_or(0, |failure| size_of::<Failure>() + failure.message.len());
        size_of::<Self>() + text
    }
}

fn name_of(queue: &Queue, worker: WorkerId) -> Arc<str> {
    let worker = queue.worker(worker);
    worker.map_or_else(Arc::default, |worker| worker.hello().name.clone())
}

/// Why a task has failed for good, if it has: that is told of the task, and not of its last try.
fn last_failure(queue: &Queue, task: TaskId) -> Option<Failure> {
    match &queue.task(task)?.outcome()?.result {
        OutcomeResult::Failed(failure) => Some(failure.clone()),
        OutcomeResult::Succeeded(_) | OutcomeResult::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_queue::FailureClass;

    fn attempt(n: u64) -> AttemptId {
        AttemptId { broker_start: 1, n }
    }

    fn task(index: u64) -> TaskId {
        TaskId {
            job: JobNumber(1),
            index,
        }
    }

    fn failure(message: &str) -> Option<Failure> {
        Some(Failure {
            class: FailureClass::KernelError,
            message: message.to_owned(),
        })
    }

    fn ended(how: AttemptEnd) -> Ended {
        Ended {
            how,
            at_unix_ms: 20,
        }
    }

    #[test]
    fn the_tries_of_a_task_are_told_in_order_with_what_they_said() {
        let mut diary = Diary::default();
        diary.begin(task(0), attempt(1), "w1".into(), Some(10));
        diary.begin(task(0), attempt(2), "w2".into(), Some(11));
        diary.begin(task(7), attempt(3), "w2".into(), None);
        let times = Times {
            fetch_ms: 3,
            run_ms: 4,
        };
        diary.note_times(attempt(1), times);
        diary.end(attempt(1), ended(AttemptEnd::Failed), || failure("no"));
        diary.end(attempt(2), ended(AttemptEnd::Stopped), || failure("no"));
        let tries = diary.of_task(task(0));
        let told: Vec<_> = tries
            .iter()
            .map(|entry| (&*entry.worker_name, entry.failure.is_some()))
            .collect();
        assert_eq!(told, [("w1", true), ("w2", false)]);
        assert_eq!((tries[0].times.fetch_ms, tries[0].times.run_ms), (3, 4));
        let on_w2 = diary.tasks_on(JobNumber(1), "w2");
        assert_eq!(on_w2, HashSet::from([0, 7]));
        assert_eq!(diary.tasks_on(JobNumber(2), "w2"), HashSet::new());
    }

    #[test]
    fn it_takes_no_more_room_than_told() {
        let mut diary = Diary::default();
        let long = "x".repeat(1 << 20);
        for n in 0..40 {
            diary.begin(task(n), attempt(n), "w1".into(), Some(10));
            diary.end(attempt(n), ended(AttemptEnd::Failed), || failure(&long));
        }
        assert!(diary.ended_bytes <= ENDED_BYTES_MAX);
        assert_eq!(diary.ended.len(), 15);
        assert!(diary.of_task(task(0)).is_empty());
        assert_eq!(diary.of_task(task(39)).len(), 1);
    }
}
