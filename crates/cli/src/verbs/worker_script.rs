//! `dewar worker-script`: what a batch system or ssh starts workers with.

mod script;

use crate::{failure::Failure, output};
use clap::Args;
use script::{Script, Starter, WallTime};
use serde_json::json;

/// Prints a script that starts workers: for a batch system to run, or one that starts them over ssh.
///
/// Batch systems start each worker by itself, so that they join one by one as there is room. They leave when idle.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar worker-script slurm --broker titan:9990 --token-file ~/dewar-token --slots 16 --workers 8 \
    > workers.sh && sbatch workers.sh\n  dewar worker-script ssh --broker titan:9990 --token-file ~/dewar-token > workers.sh \
    && sh workers.sh node1 node2\n\n\
    The file with the token must be where the script runs. `dewar drain --all` ends the workers early.\n\
    JSON keys: starter, submit (the command that runs it, as saved in workers.sh), script"
)]
pub struct Options {
    /// What starts the workers.
    #[arg(value_name = "STARTER", value_enum)]
    starter: Starter,
    /// The broker, as workers reach it.
    #[arg(long, value_name = "HOST:PORT", env = "DEWAR_BROKER")]
    broker: String,
    /// File that holds the token, where the script runs.
    #[arg(long, value_name = "FILE", env = "DEWAR_TOKEN_FILE")]
    token_file: String,
    /// Slots of each worker, and the cores to ask for [default: one core, or over ssh all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    slots: Option<u16>,
    /// How many workers a batch system is to start.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// How long each may run at most [default: the batch system's own limit].
    #[arg(long, value_name = "HH:MM")]
    time: Option<WallTime>,
    /// Name of their site [default: the broker tells by subnet].
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// They leave after this long without a task.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    exit_when_idle: humantime::Duration,
    /// They leave after this long without the broker.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    exit_when_unreachable: humantime::Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let script = options.stated().to_string();
    if options.json {
        return output::print_json(&json!({
            "starter": options.starter.name(),
            "submit": options.starter.submit(),
            "script": script,
        }));
    }
    output::print(&script)
}

impl Options {
    fn stated(&self) -> Script {
        Script {
            starter: self.starter,
            broker: self.broker.clone(),
            token_file: self.token_file.clone(),
            slots: self.slots,
            worker_count: self.workers,
            time: self.time,
            site: self.site.clone(),
            exit_when_idle: self.exit_when_idle.to_string(),
            exit_when_unreachable: self.exit_when_unreachable.to_string(),
        }
    }
}
