//! `dewar rerun`: runs tasks that have ended once more.

use super::selection::{SelectionArgs, subject};
use crate::{broker, failure::Failure, output};
use clap::Args;
use dewar_sdk::Selected;
use dewar_settings::ConnectArgs;
use serde_json::json;

/// Runs tasks once more that failed or were cancelled.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar rerun j7\n  dewar rerun j7.42\n  dewar rerun j7 --succeeded\n  \
    dewar rerun --owner anna\n\n\
    For after the cause was mended: a disk that was full, a worker with a wrong driver. Each task gets a new generation with \
    an outcome of its own; a customer that still watches its job hears of it. A task whose inputs were given up meanwhile \
    cannot be rerun; of a job, an owner or all it is skipped, and named. A refinement needs no rerun: the same command again goes on where it was.\n\
    JSON keys: job_count, task_count: of how many jobs, and how many tasks, run again; skipped: a line for each job of which \
    some could not"
)]
pub struct Options {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Also those that succeeded. Tasks named one by one are rerun either way.
    #[arg(long)]
    succeeded: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let selections = options.selection.selections();
    options.selection.confirm(options.yes, || {
        let ended = match options.succeeded {
            true => "tasks that have ended",
            false => "tasks that failed or were cancelled",
        };
        let subjects: Vec<String> = selections.iter().map(subject).collect();
        format!(
            "run the {ended} of {} at {} again?",
            subjects.join(", "),
            options.connect.broker
        )
    })?;
    let rerun = broker::ask(&options.connect, async |client| {
        let mut rerun = Selected::default();
        for selection in &selections {
            let some = client.rerun(selection, options.succeeded).await;
            let some = some.map_err(|error| Failure::from(error).concerning(subject(selection)))?;
            rerun.job_count += some.job_count;
            rerun.task_count += some.task_count;
            rerun.skipped.extend(some.skipped);
        }
        Ok::<_, Failure>(rerun)
    })?;
    if options.json {
        return output::print_json(&json!({
            "job_count": rerun.job_count,
            "task_count": rerun.task_count,
            "skipped": rerun.skipped,
        }));
    }
    for line in &rerun.skipped {
        eprintln!("{}", output::printable(line));
    }
    output::print(&match rerun.task_count {
        0 => "nothing to run again\n".to_owned(),
        count => format!("{count} tasks of {} jobs run again\n", rerun.job_count),
    })
}
