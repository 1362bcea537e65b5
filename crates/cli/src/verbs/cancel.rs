//! `dewar cancel`: ends jobs.

use super::jobs;
use crate::{broker, confirm::confirm, failure::Failure, output};
use clap::Args;
use dewar_sdk::{JobSelector, JobStatus};
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Ends jobs: what runs is stopped within seconds, what waits is never begun.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar cancel j7\n  dewar cancel --all --yes\n\n\
    A cancelled refinement goes on from its last finished round when its command is run again.\n\
    JSON keys: cancelled, an array of jobs as `dewar jobs --json` has them"
)]
pub struct Options {
    /// The jobs, such as j7.
    #[arg(value_name = "JOB", required_unless_present = "all")]
    jobs: Vec<JobSelector>,
    /// Every unfinished job.
    #[arg(long, conflicts_with = "jobs")]
    all: bool,
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
    let selected = if options.all {
        options.unfinished()?
    } else {
        options.jobs.clone()
    };
    let cancelled = broker::ask(&options.connect, async |client| {
        let mut cancelled = Vec::new();
        for job in selected {
            let ended = client.cancel_job(job).await;
            cancelled.push(ended.map_err(|error| Failure::from(error).concerning(job))?);
        }
        Ok::<_, Failure>(cancelled)
    })?;
    if options.json {
        let cancelled: Vec<Value> = cancelled.iter().map(jobs::to_json).collect();
        output::print_json(&json!({ "cancelled": cancelled }))
    } else {
        output::print(&to_text(&cancelled))
    }
}

impl Options {
    /// All unfinished jobs, once it is sure that they are meant.
    fn unfinished(&self) -> Result<Vec<JobSelector>, Failure> {
        let jobs = broker::ask(&self.connect, async |client| client.jobs(true).await)?;
        if !self.yes && !jobs.is_empty() {
            confirm(&format!(
                "cancel all {} unfinished jobs at {}?",
                jobs.len(),
                self.connect.broker
            ))?;
        }
        Ok(jobs.iter().map(|job| job.id.into()).collect())
    }
}

fn to_text(cancelled: &[JobStatus]) -> String {
    if cancelled.is_empty() {
        return "no unfinished jobs\n".to_owned();
    }
    cancelled.iter().fold(String::new(), |mut text, job| {
        let name = output::printable(&job.name);
        let _ = writeln!(
            text,
            "j{} {name}: {} tasks cancelled",
            job.number, job.cancelled_count
        );
        text
    })
}
