//! `dewar cancel`: ends jobs, and single tasks.

use super::selection::{SelectionArgs, subject};
use crate::{broker, failure::Failure, listing, output};
use clap::Args;
use dewar_sdk::{JobSelector, JobStatus, TaskSelection};
use dewar_settings::ConnectArgs;
use serde_json::json;
use std::fmt::Write as _;

/// Ends jobs, or single tasks: what runs is stopped within seconds, what waits is never begun.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar cancel j7\n  dewar cancel j7.42 j7.43\n  dewar cancel --owner anna\n  \
    dewar cancel --all --yes\n\n\
    A cancelled refinement goes on from its last finished round when its command is run again, and takes over what its \
    unfinished round had computed. Tasks that wait for a cancelled one fail.\n\
    JSON keys: cancelled, an array of the jobs ended, as `dewar jobs --json` has them; task_count, how many tasks were ended \
    one by one"
)]
pub struct Options {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was ended.
#[derive(Default)]
struct Cancelled {
    jobs: Vec<JobStatus>,
    /// Tasks ended one by one, and what was named of them.
    tasks: Vec<(String, u64)>,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut cancelled = Cancelled::default();
    for selection in options.selection.selections() {
        let jobs = match &selection {
            TaskSelection::Tasks(..) => {
                let ended = options.end_tasks(&selection)?;
                cancelled.tasks.push((subject(&selection), ended));
                continue;
            }
            TaskSelection::Job(job) => vec![options.end_job(*job)?],
            TaskSelection::Owner(_) | TaskSelection::All => options.end_jobs(&selection)?,
        };
        cancelled.jobs.extend(jobs);
    }
    if options.json {
        let task_count: u64 = cancelled.tasks.iter().map(|(_, count)| count).sum();
        output::print_json(&json!({
            "cancelled": listing::to_json(&cancelled.jobs),
            "task_count": task_count,
        }))
    } else {
        output::print(&to_text(&cancelled))
    }
}

impl Options {
    fn end_tasks(&self, selection: &TaskSelection) -> Result<u64, Failure> {
        let ended = broker::ask(&self.connect, async |client| {
            client.cancel_tasks(selection).await
        });
        let ended = ended.map_err(|failure| failure.concerning(subject(selection)))?;
        Ok(ended.task_count)
    }

    fn end_job(&self, job: JobSelector) -> Result<JobStatus, Failure> {
        let ended = broker::ask(&self.connect, async |client| client.cancel_job(job).await);
        ended.map_err(|failure| failure.concerning(job))
    }

    /// Ends all unfinished jobs of a selection at once, when it is sure that they are meant.
    fn end_jobs(&self, selection: &TaskSelection) -> Result<Vec<JobStatus>, Failure> {
        let unfinished = broker::ask(&self.connect, async |client| {
            client.unfinished_jobs(selection).await
        })?;
        if unfinished.is_empty() {
            return Ok(unfinished);
        }
        self.selection.confirm(self.yes, || {
            format!(
                "cancel {}, {} unfinished ones, at {}?",
                subject(selection),
                unfinished.len(),
                self.connect.broker
            )
        })?;
        broker::ask(&self.connect, async |client| {
            client.cancel_jobs(selection).await
        })
    }
}

fn to_text(cancelled: &Cancelled) -> String {
    if cancelled.jobs.is_empty() && cancelled.tasks.is_empty() {
        return "no unfinished jobs\n".to_owned();
    }
    let mut text = String::new();
    for job in &cancelled.jobs {
        let name = output::printable(&job.name);
        let _ = writeln!(
            text,
            "j{} {name}: {} tasks cancelled",
            job.number, job.cancelled_count
        );
    }
    for (named, count) in &cancelled.tasks {
        let _ = writeln!(text, "{named}: {count} tasks cancelled");
    }
    text
}
