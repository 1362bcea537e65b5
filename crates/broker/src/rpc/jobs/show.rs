//! Jobs and tasks as people see them.

use crate::{
    engine::{Try, View},
    rpc::convert,
};
use dewar_proto::v1;
use dewar_queue::{AttemptEnd, Input, InputSource, Job, OutcomeResult, Task, TaskId, TaskState};
use std::{collections::HashSet, sync::Arc};

/// Tasks of a job looked at for one page. A page of few finds in a large job is short, and goes on from where it ended.
const PAGE_LOOK_COUNT_MAX: usize = 100_000;

/// Inputs of one task that are told: a thousand of them are read by nobody.
const INPUTS_TOLD_MAX: usize = 4096;

/// Tasks named as those that one waits for.
const WAITS_FOR_COUNT_MAX: usize = 8;

pub(super) fn job_of(view: View<'_>, job: Option<&Job>) -> Option<v1::Job> {
    let job = job?;
    let counts = view.queue.counts_of(job);
    let terms = job.terms();
    Some(v1::Job {
        job_id: job.id().0.into(),
        number: job.number().0,
        name: job.name().to_string(),
        owner: job.owner().to_string(),
        priority: job.priority(),
        created_unix_ms: job.created_unix_ms(),
        closed: job.is_closed(),
        waiting_count: counts.waiting,
        running_count: counts.running,
        succeeded_count: counts.succeeded,
        failed_count: counts.failed,
        cancelled_count: counts.cancelled,
        blocked_reason: view.queue.blocked_reason(job).unwrap_or_default(),
        keep_ms: terms.keep_ms.unwrap_or(view.queue.config().keep_ms),
        absence_ms_max: terms.absence_ms_max.unwrap_or(0),
        reuse: terms.reuse,
        last_sequence: job.outcome_count(),
    })
}

/// Which tasks of a job to list.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) state: Option<TaskState>,
    /// Name of a worker that has or had them.
    pub(super) worker_name: Option<Arc<str>>,
    pub(super) from_index: u64,
    pub(super) limit: u32,
}

impl Wanted {
    fn wants(&self, view: View<'_>, task: &Task, in_diary: &HashSet<u64>, index: u64) -> bool {
        let is_of_state = self
            .state
            .is_none_or(|state| state == view.queue.state_of(task));
        let Some(wanted) = self.worker_name.as_deref().filter(|_| is_of_state) else {
            return is_of_state;
        };
        let outcome = task
            .outcome()
            .and_then(|outcome| outcome.worker_name.as_deref());
        let mut live = task.live().iter();
        in_diary.contains(&index)
            || outcome == Some(wanted)
            || live.any(|(_, id)| {
                let worker = view.queue.worker(*id);
                worker.is_some_and(|worker| *worker.hello().name == *wanted)
            })
    }
}

pub(super) fn tasks_page(view: View<'_>, job: &Job, wanted: &Wanted) -> v1::ListTasksResponse {
    let on_worker = wanted.worker_name.as_deref();
    let in_diary = on_worker.map(|name| view.diary.tasks_on(job.number(), name));
    let in_diary = in_diary.unwrap_or_default();
    let mut tasks = Vec::new();
    let mut next_index = wanted.from_index;
    for _ in 0..PAGE_LOOK_COUNT_MAX {
        if tasks.len() >= wanted.limit as usize {
            break;
        }
        let Some(task) = job.task(next_index) else {
            break;
        };
        if wanted.wants(view, task, &in_diary, next_index) {
            tasks.push(task_of(view, task, next_index));
        }
        next_index += 1;
    }
    let more = next_index < job.task_count();
    v1::ListTasksResponse {
        tasks,
        next_index: if more { next_index } else { 0 },
    }
}

fn task_of(view: View<'_>, task: &Task, index: u64) -> v1::Task {
    let live = || task.live().iter();
    let workers = live().filter_map(|(_, id)| view.queue.worker(*id));
    let progress = live().map(|(attempt, _)| view.fleet.progress(*attempt));
    v1::Task {
        index,
        kind: Some(convert::kind_to_wire(&task.spec().kind)),
        state: convert::state_to_wire(view.queue.state_of(task)).into(),
        attempts_begun: task.attempts_begun(),
        worker_names: workers
            .map(|worker| worker.hello().name.to_string())
            .collect(),
        failure: task.failure().map(convert::failure_to_wire),
        run_ms: task.outcome().map_or(0, |outcome| outcome.run_ms),
        progress: match task.state() {
            TaskState::Succeeded => 1.0,
            _ => progress.fold(0.0, f32::max),
        },
        key: task.spec().key.as_deref().unwrap_or_default().into(),
        generation: task.generation(),
        reused: task.outcome().is_some_and(|outcome| outcome.reused),
        waits_for: task.waits_for().take(WAITS_FOR_COUNT_MAX).collect(),
    }
}

/// All that is known of one task, but for the names of files.
pub(super) fn detail_of(view: View<'_>, job: &Job, index: u64) -> Option<v1::TaskDetail> {
    let task = job.task(index)?;
    let spec = task.spec();
    let id = TaskId {
        job: job.number(),
        index,
    };
    let tries = view.diary.of_task(id).into_iter();
    let outcome = task.outcome();
    let outputs = match outcome.map(|outcome| &outcome.result) {
        Some(OutcomeResult::Succeeded(output)) => output.blobs.as_slice(),
        _ => &[],
    };
    let assigned = view.queue.assignment(id);
    let fed = |position: usize| Some(&assigned.as_ref()?.inputs.get(position)?.source);
    let inputs = spec.inputs.iter().enumerate();
    Some(v1::TaskDetail {
        task: Some(task_of(view, task, index)),
        attempts: tries.map(|entry| attempt_of(view, entry)).collect(),
        inputs: inputs
            .take(INPUTS_TOLD_MAX)
            .map(|(position, input)| input_of(input, fed(position)))
            .collect(),
        attempts_max: spec.attempts_max,
        time_limit_ms: spec.time_limit_ms,
        resources: Some(v1::Resources {
            slot_count: spec.resources.slot_count,
            memory_bytes: spec.resources.memory_bytes,
        }),
        worker_name: outcome
            .and_then(|outcome| outcome.worker_name.as_deref())
            .unwrap_or_default()
            .into(),
        outputs: outputs.iter().map(convert::blob_to_wire).collect(),
    })
}

fn attempt_of(view: View<'_>, entry: &Try) -> v1::Attempt {
    use v1::AttemptState;
    let state = match entry.ended.map(|ended| ended.how) {
        None => AttemptState::Live,
        Some(AttemptEnd::Succeeded) => AttemptState::Succeeded,
        Some(AttemptEnd::Stopped) => AttemptState::Stopped,
        // What is the task's fault is not charged to the worker, which gave the try back then.
        Some(AttemptEnd::GivenBack) if entry.failure.is_none() => AttemptState::HandedBack,
        Some(AttemptEnd::Failed | AttemptEnd::GivenBack | AttemptEnd::OutOfTime) => {
            AttemptState::Failed
        }
    };
    v1::Attempt {
        id: Some(v1::AttemptId {
            broker_start: entry.attempt.broker_start,
            n: entry.attempt.n,
        }),
        worker_name: entry.worker_name.to_string(),
        given_unix_ms: entry.given_unix_ms.unwrap_or(0),
        ended_unix_ms: entry.ended.map_or(0, |ended| ended.at_unix_ms),
        fetch_ms: entry.times.fetch_ms,
        run_ms: entry.times.run_ms,
        state: state.into(),
        failure: entry.failure.as_deref().map(convert::failure_to_wire),
        progress: view.fleet.progress(entry.attempt),
    }
}

/// An input as it was submitted, and what stands for it by now.
fn input_of(input: &Input, fed: Option<&InputSource>) -> v1::TaskInput {
    let task_index = match &input.source {
        InputSource::Output { task_index, .. } => Some(*task_index),
        InputSource::Blob(_) | InputSource::Message(_) => None,
    };
    let blob = match (&input.source, fed) {
        (InputSource::Blob(blob), _) | (_, Some(InputSource::Blob(blob))) => Some(blob),
        _ => None,
    };
    let ranges = input.ranges.iter().map(|(_, length)| *length);
    v1::TaskInput {
        blob: blob.map(convert::blob_to_wire),
        file: String::new(),
        task_index,
        read_bytes: match input.ranges.is_empty() {
            true => blob.map_or(0, |blob| blob.size_bytes),
            false => ranges.fold(0, u64::saturating_add),
        },
    }
}
