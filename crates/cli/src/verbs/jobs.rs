//! `dewar jobs`: the jobs a broker knows.

use crate::{
    broker, clock,
    failure::Failure,
    output,
    table::{Column, Table},
};
use clap::Args;
use dewar_sdk::JobStatus;
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};

/// Lists jobs and how far they are.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar jobs\n  dewar jobs --unfinished --json | jq -r '.jobs[].number'\n\n\
    JSON keys, of each in jobs: job_id, number, name, owner, priority, created_unix_ms, closed, state, task_count, \
    waiting_count, running_count, succeeded_count, failed_count, cancelled_count, blocked_reason\n\
    States: open (more tasks may come), running, blocked, finished"
)]
pub struct Options {
    /// Leave out those whose tasks all have their outcomes.
    #[arg(long)]
    unfinished: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let unfinished_only = options.unfinished;
    let jobs = broker::ask(&options.connect, async |client| {
        client.jobs(unfinished_only).await
    })?;
    if options.json {
        let jobs: Vec<Value> = jobs.iter().map(to_json).collect();
        output::print_json(&json!({ "jobs": jobs }))
    } else {
        output::print(&to_text(&jobs))
    }
}

fn to_text(jobs: &[JobStatus]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::Text("JOB"),
        Column::Text("STATE"),
        Column::Number("DONE"),
        Column::Number("RUNNING"),
        Column::Number("WAITING"),
        Column::Number("FAILED"),
        Column::Number("AGE"),
        Column::Text("OWNER"),
        Column::Text("NAME"),
    ]);
    for job in jobs {
        table.add([
            format!("j{}", job.number),
            state(job).to_owned(),
            format!("{}/{}", job.outcome_count(), job.task_count()),
            job.running_count.to_string(),
            job.waiting_count.to_string(),
            job.failed_count.to_string(),
            clock::duration(clock::since_unix_ms(job.created_unix_ms)),
            job.owner.clone(),
            match &job.blocked_reason {
                Some(reason) => format!("{} ({reason})", job.name),
                None => job.name.clone(),
            },
        ]);
    }
    table.render()
}

/// A word for how a job stands.
fn state(job: &JobStatus) -> &'static str {
    match job {
        JobStatus {
            blocked_reason: Some(_),
            ..
        } => "blocked",
        job if job.unfinished_count() > 0 => "running",
        JobStatus { closed: true, .. } => "finished",
        _ => "open",
    }
}

/// A job as all verbs print it.
pub fn to_json(job: &JobStatus) -> Value {
    json!({
        "job_id": job.id.to_string(),
        "number": job.number,
        "name": job.name,
        "owner": job.owner,
        "priority": job.priority,
        "created_unix_ms": job.created_unix_ms,
        "closed": job.closed,
        "state": state(job),
        "task_count": job.task_count(),
        "waiting_count": job.waiting_count,
        "running_count": job.running_count,
        "succeeded_count": job.succeeded_count,
        "failed_count": job.failed_count,
        "cancelled_count": job.cancelled_count,
        "blocked_reason": job.blocked_reason,
    })
}
