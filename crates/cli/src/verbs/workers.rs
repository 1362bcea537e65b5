//! `dewar workers`: the fleet.

use crate::{
    clock,
    failure::Failure,
    listing::{self, Listed},
    table::Column,
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
    program_version, succeeded_count, failed_count, joined_unix_ms, waiting_count (sent ahead of time), memory_bytes (null \
    if not said), held_back_reason (null if it is not)\n\
    States: up, held back (given nothing or little: its machine is busy, or it failed everything it touched), draining \
    (finishes and leaves), away (not heard of; given up soon)"
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
    listing::ask_and_print(&options.connect, options.json, async |client| {
        client.workers().await
    })
}

impl Listed for WorkerStatus {
    const PLURAL: &'static str = "workers";

    const COLUMNS: &'static [Column] = &[
        Column::Text("WORKER"),
        Column::Text("HOST"),
        Column::Text("STATE"),
        Column::Number("RUNNING"),
        Column::Number("DONE"),
        Column::Number("FAILED"),
        Column::Number("HERE FOR"),
        Column::Text("VERSION"),
        Column::Text("WHY"),
    ];

    fn cells(&self) -> Vec<String> {
        let state = state(self);
        vec![
            self.name.clone(),
            self.host_name.clone(),
            state.to_owned(),
            format!("{}/{}", self.running_count, self.slot_count),
            self.succeeded_count.to_string(),
            self.failed_count.to_string(),
            clock::duration(clock::since_unix_ms(self.joined_unix_ms)),
            self.program_version.clone(),
            // That it drains because it drains says nothing.
            match &self.held_back_reason {
                Some(reason) if state == HELD_BACK => reason.clone(),
                _ => String::new(),
            },
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "worker_id": self.id,
            "name": self.name,
            "host_name": self.host_name,
            "state": state(self),
            "slot_count": self.slot_count,
            "running_count": self.running_count,
            "kinds": self.kinds.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "site": self.site,
            "program_version": self.program_version,
            "succeeded_count": self.succeeded_count,
            "failed_count": self.failed_count,
            "joined_unix_ms": self.joined_unix_ms,
            "waiting_count": self.waiting_count,
            "memory_bytes": self.memory_bytes,
            "held_back_reason": self.held_back_reason,
        })
    }
}

/// Up, and yet given nothing or little.
const HELD_BACK: &str = "held back";

fn state(worker: &WorkerStatus) -> &'static str {
    match worker {
        WorkerStatus {
            connected: false, ..
        } => "away",
        WorkerStatus { draining: true, .. } => "draining",
        WorkerStatus {
            held_back_reason: Some(_),
            ..
        } => HELD_BACK,
        _ => "up",
    }
}
