//! `dewar workers`: the fleet.

use crate::{
    broker, clock,
    failure::Failure,
    output,
    table::{Column, Table},
};
use clap::Args;
use dewar_sdk::WorkerStatus;
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};

/// Lists workers and what they do.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar workers\n  dewar workers --json | jq '[.workers[].slot_count] | add'\n\n\
    JSON keys, of each in workers: worker_id, name, host_name, state, slot_count, running_count, kinds, site, \
    program_version, succeeded_count, failed_count, joined_unix_ms\n\
    States: up, draining (finishes and leaves), away (not heard of; given up soon)"
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
    let workers = broker::ask(&options.connect, async |client| client.workers().await)?;
    if options.json {
        let workers: Vec<Value> = workers.iter().map(to_json).collect();
        output::print_json(&json!({ "workers": workers }))
    } else {
        output::print(&to_text(&workers))
    }
}

fn to_text(workers: &[WorkerStatus]) -> String {
    if workers.is_empty() {
        return "no workers\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::Text("WORKER"),
        Column::Text("HOST"),
        Column::Text("STATE"),
        Column::Number("RUNNING"),
        Column::Number("DONE"),
        Column::Number("FAILED"),
        Column::Number("HERE FOR"),
        Column::Text("VERSION"),
    ]);
    for worker in workers {
        table.add([
            worker.name.clone(),
            worker.host_name.clone(),
            state(worker).to_owned(),
            format!("{}/{}", worker.running_count, worker.slot_count),
            worker.succeeded_count.to_string(),
            worker.failed_count.to_string(),
            clock::duration(clock::since_unix_ms(worker.joined_unix_ms)),
            worker.program_version.clone(),
        ]);
    }
    table.render()
}

fn to_json(worker: &WorkerStatus) -> Value {
    json!({
        "worker_id": worker.id,
        "name": worker.name,
        "host_name": worker.host_name,
        "state": state(worker),
        "slot_count": worker.slot_count,
        "running_count": worker.running_count,
        "kinds": worker.kinds.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "site": worker.site,
        "program_version": worker.program_version,
        "succeeded_count": worker.succeeded_count,
        "failed_count": worker.failed_count,
        "joined_unix_ms": worker.joined_unix_ms,
    })
}

fn state(worker: &WorkerStatus) -> &'static str {
    match (worker.connected, worker.draining) {
        (false, _) => "away",
        (true, true) => "draining",
        (true, false) => "up",
    }
}
