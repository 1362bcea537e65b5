//! When tasks were submitted, so that it can be told how long the oldest one has waited: kept by runs of tasks that came
//! together, since a million of them may wait.

use dewar_queue::{JobNumber, Queue, TaskId, TaskState};
use std::collections::HashMap;

/// Runs remembered of one job. Tasks that come later count as submitted with the last of them.
const RUN_COUNT_MAX: usize = 1024;

/// Tasks that came within this are one run.
const RUN_MS: u64 = 1000;

/// Tasks of a job looked at for one answer: a longer search goes on from there the next time.
const LOOK_COUNT_MAX: usize = 10_000;

/// Of all jobs.
#[derive(Debug, Default)]
pub(super) struct Ages {
    jobs: HashMap<JobNumber, Age>,
}

#[derive(Debug, Default)]
struct Age {
    /// Index of the first task of each run, and when the run came.
    runs: Vec<(u64, u64)>,
    /// No task before this one waits.
    cursor: u64,
}

impl Ages {
    /// Tasks came.
    pub(super) fn note_submitted(&mut self, job: JobNumber, first_index: u64, unix_ms: u64) {
        let age = self.jobs.entry(job).or_default();
        let is_near = |(_, last): &(u64, u64)| unix_ms.saturating_sub(*last) < RUN_MS;
        if age.runs.len() < RUN_COUNT_MAX && !age.runs.last().is_some_and(is_near) {
            age.runs.push((first_index, unix_ms));
        }
    }

    /// A task waits again.
    pub(super) fn note_waiting(&mut self, job: JobNumber, index: u64) {
        if let Some(age) = self.jobs.get_mut(&job) {
            age.cursor = age.cursor.min(index);
        }
    }

    pub(super) fn forget(&mut self, job: JobNumber) {
        self.jobs.remove(&job);
    }

    /// When a task came; not known of those of before the restart.
    pub(super) fn submitted_unix_ms(&self, task: TaskId) -> Option<u64> {
        let runs = &self.jobs.get(&task.job)?.runs;
        let after = runs.partition_point(|(first, _)| *first <= task.index);
        Some(runs[after.checked_sub(1)?].1)
    }

    /// When the first task of a job that waits came: before the restart, no earlier than its job.
    pub(super) fn oldest_waiting(&mut self, queue: &Queue, number: JobNumber) -> Option<u64> {
        let job = queue.job(number)?;
        let age = self.jobs.entry(number).or_default();
        for _ in 0..LOOK_COUNT_MAX {
            let task = job.task(age.cursor)?;
            if queue.state_of(task) == TaskState::Waiting {
                break;
            }
            age.cursor += 1;
        }
        let index = age.cursor;
        let submitted = self.submitted_unix_ms(TaskId { job: number, index });
        Some(submitted.unwrap_or_else(|| job.created_unix_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobNumber = JobNumber(1);

    fn task(index: u64) -> TaskId {
        TaskId { job: JOB, index }
    }

    #[test]
    fn a_task_is_as_old_as_its_run() {
        let mut ages = Ages::default();
        assert_eq!(ages.submitted_unix_ms(task(0)), None);
        // The first three were there before the restart.
        for (first, at) in [(3, 5_000), (5, 5_500), (9, 9_000)] {
            ages.note_submitted(JOB, first, at);
        }
        for (index, at) in [
            (2, None),
            (3, Some(5_000)),
            (8, Some(5_000)),
            (9, Some(9_000)),
            (1_000, Some(9_000)),
        ] {
            assert_eq!(ages.submitted_unix_ms(task(index)), at, "{index}");
        }
        ages.forget(JOB);
        assert_eq!(ages.submitted_unix_ms(task(9)), None);
    }

    #[test]
    fn runs_without_end_take_no_more_room() {
        let mut ages = Ages::default();
        for at in 0..2 * RUN_COUNT_MAX as u64 {
            ages.note_submitted(JOB, at, at * RUN_MS);
        }
        assert_eq!(ages.jobs[&JOB].runs.len(), RUN_COUNT_MAX);
        let last = (RUN_COUNT_MAX as u64 - 1) * RUN_MS;
        assert_eq!(ages.submitted_unix_ms(task(u64::MAX)), Some(last));
    }
}
