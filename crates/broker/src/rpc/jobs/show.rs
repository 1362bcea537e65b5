//! Jobs and tasks as people see them.

use crate::{engine::View, rpc::convert};
use dewar_proto::v1;
use dewar_queue::{Job, TaskState};

/// Tasks of a job looked at for one page. A page of few finds in a large job is short, and goes on from where it ended.
const PAGE_LOOK_COUNT_MAX: usize = 100_000;

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

pub(super) fn tasks_page(
    view: View<'_>,
    job: &Job,
    state: Option<TaskState>,
    from_index: u64,
    limit: u32,
) -> v1::ListTasksResponse {
    let mut tasks = Vec::new();
    let mut next_index = from_index;
    for _ in 0..PAGE_LOOK_COUNT_MAX {
        if tasks.len() >= limit as usize {
            break;
        }
        let Some(task) = job.task(next_index) else {
            break;
        };
        let task_state = view.queue.state_of(task);
        if state.is_none_or(|state| state == task_state) {
            let workers = task
                .live()
                .iter()
                .filter_map(|(_, id)| view.queue.worker(*id));
            let progress = task
                .live()
                .iter()
                .map(|(attempt, _)| view.fleet.progress(*attempt));
            tasks.push(v1::Task {
                index: next_index,
                kind: Some(convert::kind_to_wire(&task.spec().kind)),
                state: convert::state_to_wire(task_state).into(),
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
            });
        }
        next_index += 1;
    }
    let more = next_index < job.task_count();
    v1::ListTasksResponse {
        tasks,
        next_index: if more { next_index } else { 0 },
    }
}
