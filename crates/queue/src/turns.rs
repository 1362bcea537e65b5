//! Tasks of one owner in the order in which they go out, kept as runs of neighbours.
//!
//! Tasks are submitted in bulk and leave from the front, so a million of them are a few runs: they take no memory to
//! speak of, and the next one is found as fast as among ten.

use crate::{JobNumber, TaskId};
use std::{cmp::Reverse, collections::BTreeMap};

/// The order in which one owner's tasks go out: priority, then as submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    priority: Reverse<i32>,
    pub(crate) task: TaskId,
}

/// A set of turns.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// For each job, the first index of each run and the one after its last. No run is empty or touches another.
    jobs: BTreeMap<(Reverse<i32>, JobNumber), BTreeMap<u64, u64>>,
}

impl Turn {
    pub(crate) fn new(priority: i32, task: TaskId) -> Self {
        Self {
            priority: Reverse(priority),
            task,
        }
    }
}

impl Turns {
    /// Adds a turn that is not there.
    pub(crate) fn insert(&mut self, turn: Turn) {
        let index = turn.task.index;
        let runs = self.jobs.entry((turn.priority, turn.task.job)).or_default();
        let before = runs.range_mut(..=index).next_back();
        let start = match before {
            Some((start, end)) if *end == index => {
                *end = index + 1;
                *start
            }
            _ => {
                runs.insert(index, index + 1);
                index
            }
        };
        // The run behind it may touch it now.
        if let Some(end) = runs.remove(&(index + 1)) {
            runs.insert(start, end);
        }
    }

    /// Takes a turn out. Whether it was there.
    pub(crate) fn remove(&mut self, turn: Turn) -> bool {
        let index = turn.task.index;
        let key = (turn.priority, turn.task.job);
        let Some(runs) = self.jobs.get_mut(&key) else {
            return false;
        };
        let run = runs.range(..=index).next_back();
        let Some((start, end)) = run.map(|(start, end)| (*start, *end)) else {
            return false;
        };
        if index >= end {
            return false;
        }
        runs.remove(&start);
        if start < index {
            runs.insert(start, index);
        }
        if index + 1 < end {
            runs.insert(index + 1, end);
        }
        if runs.is_empty() {
            self.jobs.remove(&key);
        }
        true
    }

    /// Whose turn it is.
    pub(crate) fn first(&self) -> Option<Turn> {
        let ((priority, job), runs) = self.jobs.first_key_value()?;
        let (index, _) = runs.first_key_value()?;
        Some(Turn {
            priority: *priority,
            task: TaskId {
                job: *job,
                index: *index,
            },
        })
    }

    /// The next ones, as long as they are of the priority of the first.
    pub(crate) fn next(&self) -> impl Iterator<Item = Turn> {
        let first = self.jobs.keys().next().map(|(priority, _)| *priority);
        let equal = self.jobs.iter();
        let equal = equal.take_while(move |((priority, _), _)| Some(*priority) == first);
        equal.flat_map(|((priority, job), runs)| {
            let indices = runs.iter().flat_map(|(start, end)| *start..*end);
            indices.map(|index| Turn {
                priority: *priority,
                task: TaskId { job: *job, index },
            })
        })
    }

    /// Whether there are turns of a job.
    pub(crate) fn has_job(&self, priority: i32, job: JobNumber) -> bool {
        self.jobs.contains_key(&(Reverse(priority), job))
    }

    pub(crate) fn contains(&self, turn: Turn) -> bool {
        let runs = self.jobs.get(&(turn.priority, turn.task.job));
        let run = runs.and_then(|runs| runs.range(..=turn.task.index).next_back());
        run.is_some_and(|(_, end)| turn.task.index < *end)
    }

    /// How many there are. For checks.
    pub(crate) fn len(&self) -> usize {
        let runs = self.jobs.values().flatten();
        runs.map(|(start, end)| usize::try_from(end - start).unwrap_or(usize::MAX))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn runs_are_a_set(steps in prop::collection::vec((any::<bool>(), 0..3u64, -1..2i32, 0..12u64), 0..200)) {
            let (mut turns, mut model) = (Turns::default(), BTreeSet::new());
            for (adds, job, priority, index) in steps {
                let turn = Turn::new(priority, TaskId { job: JobNumber(job), index });
                if !adds {
                    prop_assert_eq!(turns.remove(turn), model.remove(&turn));
                } else if model.insert(turn) {
                    turns.insert(turn);
                }
                prop_assert_eq!(turns.first(), model.first().copied());
                let first = model.first().map(|turn: &Turn| turn.priority);
                let equal = model.iter().copied().filter(|turn| Some(turn.priority) == first);
                prop_assert!(turns.next().eq(equal));
                prop_assert_eq!(turns.len(), model.len());
                prop_assert_eq!(turns.contains(turn), model.contains(&turn));
                let of_job = |other: &Turn| (other.priority, other.task.job) == (turn.priority, turn.task.job);
                prop_assert_eq!(turns.has_job(priority, JobNumber(job)), model.iter().any(of_job));
            }
            for runs in turns.jobs.values() {
                let runs: Vec<_> = runs.iter().collect();
                prop_assert!(runs.iter().all(|(start, end)| start < end));
                prop_assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0), "runs touch: {:?}", runs);
            }
        }
    }
}
