//! `dewar status`: how the broker stands.

use super::tasks::{failure_json, why};
use crate::{
    clock,
    failure::Failure,
    output,
    showing::{ShowArgs, Shown, show},
    size,
};
use clap::Args;
use dewar_sdk::{
    BrokerStatus, CallError, Client, JobSelector, JobStatus, TaskFilter, TaskState, TaskStatus,
};
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Says how the broker stands: its jobs, tasks and workers in numbers, and which jobs have failed tasks.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar status\n  dewar status --watch\n  dewar status --broker titan:9990 --json | jq .running_count\n\n\
    JSON keys: broker, host_name, program_version, protocol, started_unix_ms, broker_start, data_dir, job_count, \
    waiting_count, running_count, worker_count, slot_count, blob_bytes, sent_blob_bytes, received_blob_bytes, free_bytes (null if not said), \
    refusing_reason (null unless submits and uploads are refused now), failed_jobs (the latest five with failed tasks; of each \
    number, name, failed_count, task_index, failure of its first failed task, and command, which shows why)"
)]
pub struct Options {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    show: ShowArgs,
}

/// Jobs whose failures are told: whoever has more of them begins with the latest.
const FAILED_JOBS_MAX: usize = 5;

/// A job with failed tasks, and the first of those.
struct Failed {
    job: JobStatus,
    first: TaskStatus,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let address = &options.connect.broker;
    show(&options.connect, &options.show, async |client| {
        let status = client.status().await?;
        let failed = failed_jobs(client).await?;
        Ok(Shown {
            text: to_text(address, &status, &failed),
            json: to_json(address, &status, &failed),
            notes: Vec::new(),
        })
    })
}

async fn failed_jobs(client: &Client) -> Result<Vec<Failed>, CallError> {
    let mut jobs = client.jobs(false).await?;
    jobs.retain(|job| job.failed_count > 0);
    jobs.sort_by_key(|job| std::cmp::Reverse(job.number));
    jobs.truncate(FAILED_JOBS_MAX);
    let mut failed = Vec::new();
    for job in jobs {
        let filter = TaskFilter {
            state: Some(TaskState::Failed),
            limit: 1,
            ..TaskFilter::default()
        };
        // It may be forgotten by now, or run again.
        let page = client.tasks(JobSelector::Number(job.number), filter).await;
        if let Some(first) = page.ok().and_then(|page| page.tasks.into_iter().next()) {
            failed.push(Failed { job, first });
        }
    }
    Ok(failed)
}

impl Failed {
    /// What shows why: the one task, or all that failed.
    fn command(&self) -> String {
        let number = self.job.number;
        match self.job.failed_count {
            1 => format!("dewar tasks j{number}.{}", self.first.index),
            _ => format!("dewar tasks j{number} --state failed"),
        }
    }

    fn line(&self) -> String {
        let (number, index) = (self.job.number, self.first.index);
        let reason = self.first.failure.as_ref().map_or_else(String::new, why);
        format!(
            "{} of j{number} {}; j{number}.{index}: {reason} (try: {})",
            self.job.failed_count,
            self.job.name,
            self.command()
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "number": self.job.number,
            "name": self.job.name,
            "failed_count": self.job.failed_count,
            "task_index": self.first.index.0,
            "failure": self.first.failure.as_ref().map(failure_json),
            "command": self.command(),
        })
    }
}

fn to_text(address: &str, status: &BrokerStatus, failed: &[Failed]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{}", output::printable(&value));
    };
    let up = clock::duration(clock::since_unix_ms(status.started_unix_ms));
    row(
        "broker",
        format!(
            "{address} on {}, dewar {}, up {up}",
            status.host_name, status.program_version
        ),
    );
    let free = status.free_bytes.map(size::rounded);
    row(
        "data",
        format!(
            "{}, {} of blobs, {} sent, {} received{}",
            status.data_dir,
            size::rounded(status.blob_bytes),
            size::rounded(status.sent_blob_bytes),
            size::rounded(status.received_blob_bytes),
            free.map_or_else(String::new, |free| format!(", {free} free"))
        ),
    );
    row("jobs", status.job_count.to_string());
    row(
        "tasks",
        format!(
            "{} running, {} waiting",
            status.running_count, status.waiting_count
        ),
    );
    row(
        "workers",
        format!("{} with {} slots", status.worker_count, status.slot_count),
    );
    if let Some(reason) = &status.refusing_reason {
        row("refuses", format!("submits and uploads: {reason}"));
    }
    for job in failed {
        row("failed", job.line());
    }
    text
}

fn to_json(address: &str, status: &BrokerStatus, failed: &[Failed]) -> Value {
    json!({
        "broker": address,
        "host_name": status.host_name,
        "program_version": status.program_version,
        "protocol": format!("{}.{}", status.protocol.major, status.protocol.minor),
        "started_unix_ms": status.started_unix_ms,
        "broker_start": status.broker_start,
        "data_dir": status.data_dir,
        "job_count": status.job_count,
        "waiting_count": status.waiting_count,
        "running_count": status.running_count,
        "worker_count": status.worker_count,
        "slot_count": status.slot_count,
        "blob_bytes": status.blob_bytes,
        "sent_blob_bytes": status.sent_blob_bytes,
        "received_blob_bytes": status.received_blob_bytes,
        "free_bytes": status.free_bytes,
        "refusing_reason": status.refusing_reason,
        "failed_jobs": failed.iter().map(Failed::to_json).collect::<Vec<_>>(),
    })
}
