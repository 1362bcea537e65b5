//! `dewar tasks`: one job's tasks.

use crate::{
    broker, clock,
    failure::Failure,
    listing::{self, Listed},
    output,
    table::Column,
};
use clap::{Args, ValueEnum};
use dewar_sdk::{
    CallError, Client, FailureClass, JobSelector, TaskFilter, TaskPage, TaskState, TaskStatus,
};
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};
use std::time::Duration;

/// Lists a job's tasks: where each runs, what it waits for, and why those that failed did.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar tasks j7\n  dewar tasks j7 --state failed\n  dewar tasks j7 --json | jq '.tasks[].failure'\n\n\
    JSON keys: tasks, next_index (null when these are all); of each task: index, kind, state, attempts_begun, workers, \
    failure (null, or class and message), run_ms, progress (0 to 1), key (null, or the name its customer gave it), generation \
    (how often it was rerun), reused (an equal task had been computed before), waits_for (the first few it waits for)"
)]
pub struct Options {
    /// The job, such as j7.
    #[arg(value_name = "JOB")]
    job: JobSelector,
    /// Only tasks in this state.
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Begin with this task.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// List at most so many.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Waiting,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let job = options.job;
    let page = broker::ask(&options.connect, async |client| {
        list(&client, job, options.filter())
            .await
            .map_err(|error| Failure::from(error).concerning(job))
    })?;
    if options.json {
        let tasks = listing::to_json(&page.tasks);
        return output::print_json(&json!({ "tasks": tasks, "next_index": page.next_index }));
    }
    output::print(&listing::to_text(&page.tasks))?;
    if let Some(next) = page.next_index {
        eprintln!("there are more (try: dewar tasks {job} --from {next})");
    }
    Ok(())
}

impl Options {
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
    let mut all = client.tasks(job, filter).await?;
    while let Some(from_index) = all.next_index.filter(|_| all.tasks.len() < limit) {
        let rest = TaskFilter {
            from_index,
            limit: (limit - all.tasks.len()) as u32,
            ..filter
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
        Column::Text("KEY"),
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
            "failure": self.failure.as_ref().map(|failure| json!({
                "class": class(failure.class),
                "message": failure.message,
            })),
            "run_ms": self.run_ms,
            "progress": self.progress,
            "key": self.key,
            "generation": self.generation,
            "reused": self.reused,
            "waits_for": waits_for.collect::<Vec<_>>(),
        })
    }
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
    let failure = task
        .failure
        .as_ref()
        .map(|failure| format!("{}: {}", class(failure.class), failure.message));
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
