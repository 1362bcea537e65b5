//! `dewar status`: how the broker stands.

use crate::{broker, clock, failure::Failure, output, size};
use clap::Args;
use dewar_sdk::BrokerStatus;
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Says how the broker stands: its jobs, tasks and workers in numbers.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar status\n  dewar status --broker titan:9990 --json | jq .running_count\n\n\
    JSON keys: broker, host_name, program_version, protocol, started_unix_ms, broker_start, data_dir, job_count, \
    waiting_count, running_count, worker_count, slot_count, blob_bytes, sent_blob_bytes, received_blob_bytes, free_bytes (null if not said), \
    refusing_reason (null unless submits and uploads are refused now)"
)]
pub struct Options {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let status = broker::ask(&options.connect, async |client| client.status().await)?;
    if options.json {
        output::print_json(&to_json(&options.connect.broker, &status))
    } else {
        output::print(&to_text(&options.connect.broker, &status))
    }
}

fn to_text(address: &str, status: &BrokerStatus) -> String {
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
    text
}

fn to_json(address: &str, status: &BrokerStatus) -> Value {
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
    })
}
