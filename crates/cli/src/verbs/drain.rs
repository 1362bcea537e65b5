//! `dewar drain`: lets workers finish and leave.

use crate::{broker, confirm::confirm, failure::Failure, output};
use clap::Args;
use dewar_settings::ConnectArgs;
use serde_json::json;

/// Lets workers finish what they run, take nothing new, and leave.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar drain node3-4711\n  dewar drain --all --yes\n\n\
    Nothing is lost: what a worker has not begun goes to the others, or waits.\n\
    JSON keys: drained, an array of workers' names"
)]
pub struct Options {
    /// The workers, by name or id as `dewar workers` has them.
    #[arg(value_name = "WORKER", required_unless_present = "all")]
    workers: Vec<String>,
    /// Every worker.
    #[arg(long, conflicts_with = "workers")]
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
    let drained = if options.all {
        if !options.yes {
            confirm(&format!(
                "drain every worker of {}?",
                options.connect.broker
            ))?;
        }
        broker::ask(&options.connect, async |client| client.drain_all().await)?
    } else {
        let workers = options.workers.clone();
        broker::ask(&options.connect, async |client| {
            client.drain(&workers).await
        })?
    };
    if options.json {
        return output::print_json(&json!({ "drained": drained }));
    }
    if drained.is_empty() {
        return output::print("no workers\n");
    }
    let lines: Vec<String> = drained
        .iter()
        .map(|name| format!("{} drains\n", output::printable(name)))
        .collect();
    output::print(&lines.concat())
}
