//! `dewar tasks`: one job's tasks.

mod detail;

use crate::{
    clock,
    failure::Failure,
    listing::{self, Listed},
    showing::{ShowArgs, Shown, show},
    table::Column,
};
use anyhow::anyhow;
use clap::{Args, ValueEnum};
use dewar_sdk::{
    CallError, Client, FailureClass, JobSelector, MalformedJob, TaskFilter, TaskIndex, TaskPage,
    TaskSelection, TaskState, TaskStatus,
};
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};
use std::time::Duration;

/// Lists a job's tasks: where each runs, what it waits for, and why those that failed did. Or tells all of a single one.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar tasks j7\n  dewar tasks j7 --state failed --worker node3-4711\n  dewar tasks j7.42\n  \
    dewar tasks j7 --watch\n  dewar tasks j7 --json | jq '.tasks[].failure'\n\n\
    A single task comes with its tries, who had them and how they ended, and what it reads and gave. The broker remembers the \
    latest tries of all tasks, and none from before its last start.\n\
    JSON keys: tasks, next_index (null when these are all); of each task: index, kind, state, attempts_begun, workers, \
    failure (null, or class and message), run_ms, progress (0 to 1), key (null, or the name its customer gave it), generation \
    (how often it was rerun), reused (an equal task had been computed before), waits_for (the first few it waits for)\n\
    Of a single task the same, and besides: computed_by, attempts_max, time_limit_ms, slot_count, memory_bytes; attempts (of each \
    attempt, worker, state, given_unix_ms, ended_unix_ms, fetch_ms, run_ms, failure, progress); inputs (of each digest, \
    size_bytes, file, task_index, read_bytes); outputs (of each digest, size_bytes)"
)]
pub struct Options {
    /// The job, such as j7; or one of its tasks, such as j7.42.
    #[arg(value_name = "JOB[.TASK]", value_parser = job_or_task)]
    of: Of,
    /// Only tasks in this state.
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only tasks that a worker of this name has or had, as far as the broker remembers.
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
    /// Begin with this task.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// List at most so many.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Waiting,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// A job, or a single task of it.
#[derive(Debug, Clone, Copy)]
struct Of {
    job: JobSelector,
    index: Option<TaskIndex>,
}

fn job_or_task(text: &str) -> Result<Of, MalformedJob> {
    match text.parse::<TaskSelection>()? {
        TaskSelection::Tasks(job, indices) => Ok(Of {
            job,
            index: indices.first().copied(),
        }),
        _ => text
            .parse::<JobSelector>()
            .map(|job| Of { job, index: None }),
    }
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let Of { job, index } = options.of;
    match index {
        Some(index) => options.show_task(job, index),
        None => show(&options.connect, &options.show, async |client| {
            let page = list(client, job, options.filter()).await;
            let page = page.map_err(|error| Failure::from(error).concerning(job))?;
            Ok(page_shown(job, &page))
        }),
    }
}

fn page_shown(job: JobSelector, page: &TaskPage) -> Shown {
    let more = page
        .next_index
        .map(|next| format!("there are more (try: dewar tasks {job} --from {next})"));
    Shown {
        json: json!({ "tasks": listing::to_json(&page.tasks), "next_index": page.next_index }),
        notes: more.into_iter().collect(),
        ..listing::shown(&page.tasks)
    }
}

impl Options {
    fn show_task(&self, job: JobSelector, index: TaskIndex) -> Result<(), Failure> {
        let name = format!("{job}.{index}");
        if self.state.is_some() || self.worker.is_some() {
            let error = anyhow!("{name} is one task: there is nothing to filter");
            return Err(Failure::input(error).try_next(format!("dewar tasks {name}")));
        }
        show(&self.connect, &self.show, async |client| {
            let task = client.task(job, index).await;
            let task = task.map_err(|error| Failure::from(error).concerning(&name))?;
            Ok(detail::shown(&name, &task))
        })
    }

    fn filter(&self) -> TaskFilter {
        let state = self.state.map(|state| match state {
            State::Waiting => TaskState::Waiting,
            State::Running => TaskState::Running,
            State::Succeeded => TaskState::Succeeded,
            State::Failed => TaskState::Failed,
            State::Cancelled => TaskState::Cancelled,
        });
        TaskFilter {
            state,
            worker_name: self.worker.clone(),
            from_index: self.from,
            limit: self.limit,
        }
    }
}

/// The broker gives what fits into a message; a page that fits a person may take several.
async fn list(
    client: &Client,
    job: JobSelector,
    filter: TaskFilter,
) -> Result<TaskPage, CallError> {
    let limit = filter.limit as usize;
    let mut all = client.tasks(job, filter.clone()).await?;
    while let Some(from_index) = all.next_index.filter(|_| all.tasks.len() < limit) {
        let rest = TaskFilter {
            from_index,
            limit: (limit - all.tasks.len()) as u32,
            ..filter.clone()
        };
        let next = client.tasks(job, rest).await?;
        all.tasks.extend(next.tasks);
        all.next_index = next.next_index;
    }
    Ok(all)
}

impl Listed for TaskStatus {
    const PLURAL: &'static str = "tasks";

    const COLUMNS: &'static [Column] = &[
        Column::Number("TASK"),
        Column::Text("KIND"),
        Column::Text("STATE"),
        Column::Number("TRIES"),
        Column::Number("TOOK"),
        Column::SpareText("KEY"),
        Column::Text("ABOUT"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.index.to_string(),
            self.kind.to_string(),
            state(self.state).to_owned(),
            self.attempts_begun.to_string(),
            match self.state {
                TaskState::Succeeded => clock::duration(Duration::from_millis(self.run_ms)),
                _ => String::new(),
            },
            self.key.clone().unwrap_or_default(),
            about(self),
        ]
    }

    fn to_json(&self) -> Value {
        let waits_for = self.waits_for.iter().map(|index| index.0);
        json!({
            "index": self.index.0,
            "kind": self.kind.to_string(),
            "state": state(self.state),
            "attempts_begun": self.attempts_begun,
            "workers": self.worker_names,
            "failure": self.failure.as_ref().map(failure_json),
            "run_ms": self.run_ms,
            "progress": self.progress,
            "key": self.key,
            "generation": self.generation,
            "reused": self.reused,
            "waits_for": waits_for.collect::<Vec<_>>(),
        })
    }
}

pub(super) fn failure_json(failure: &dewar_sdk::Failure) -> Value {
    json!({ "class": class(failure.class), "message": failure.message })
}

/// Why something failed: the class, and what was said.
pub(super) fn why(failure: &dewar_sdk::Failure) -> String {
    format!("{}: {}", class(failure.class), failure.message)
}

/// Where a task runs and how far it is, what it waits for, how it came by its output, or what went wrong last.
pub(super) fn about(task: &TaskStatus) -> String {
    let running = (task.state == TaskState::Running).then(|| {
        format!(
            "{:.0} % on {}",
            100.0 * task.progress,
            task.worker_names.join(", ")
        )
    });
    let waits = (!task.waits_for.is_empty()).then(|| {
        let indices = task.waits_for.iter().map(ToString::to_string);
        format!("waits for {}", indices.collect::<Vec<_>>().join(", "))
    });
    let reused = task
        .reused
        .then(|| "answered from an earlier run".to_owned());
    let rerun = (task.generation > 0).then(|| format!("rerun, generation {}", task.generation));
    let failure = task.failure.as_ref().map(why);
    [running, waits, reused, rerun, failure]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

pub(super) fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::Waiting => "waiting",
        TaskState::Running => "running",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    }
}

fn class(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Unknown => "unknown",
        FailureClass::KernelError => "kernel error",
        FailureClass::WorkerLost => "worker lost",
        FailureClass::TimedOut => "timed out",
        FailureClass::BadInput => "bad input",
        FailureClass::Dependency => "dependency",
        FailureClass::KilledWorkers => "killed workers",
    }
}
