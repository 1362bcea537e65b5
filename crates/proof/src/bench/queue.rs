//! `cargo xtask bench queue`: what the queue's promises cost on this machine, each figure beside its target.
//!
//! Targets that depend on the disk are ratios to C50 and C99: the time of one small durable commit by the store itself,
//! measured in the same run. The processes measured are the real ones; what drives them shares their cores.

mod commits;
mod depth;
mod idle;
mod latency;
mod throughput;

use super::{
    How, machine,
    report::{self, Report},
};
use crate::interrupt::interrupted;
use anyhow::{Result, bail};
use clap::Args;
use commits::Commits;
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only this part; may be given several times.
    #[arg(long, value_name = "PART", value_parser = clap::builder::PossibleValuesParser::new(PARTS))]
    only: Vec<String>,
    #[command(flatten)]
    how: How,
}

const PARTS: [&str; 6] = ["submit", "noop", "latency", "large", "depth", "idle"];

/// What every part needs.
struct Bench {
    dir: PathBuf,
    scale: f64,
    commits: Commits,
    report: Report,
}

/// Measures, and prints.
///
/// # Errors
/// If something does not work at all. A missed target is no error.
pub fn run(options: &Options) -> Result<()> {
    let dir = options.how.begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let commits = Commits::measure(&dir)?;
    let mut bench = Bench {
        report: Report::new(&dir),
        dir,
        scale: options.how.scale,
        commits,
    };
    bench.commits.tell(&mut bench.report);
    for part in super::wanted(&PARTS, &options.only) {
        eprintln!("bench: {part}");
        runtime.block_on(async {
            tokio::select! {
                biased;
                noticed = interrupted() => {
                    noticed?;
                    bail!("interrupted")
                }
                measured = bench.measure(part) => measured,
            }
        })?;
    }
    options.how.print(&bench.report)
}

impl Bench {
    async fn measure(&mut self, part: &str) -> Result<()> {
        match part {
            "submit" => self.submit().await,
            "noop" => self.noop().await,
            "latency" => self.latency().await,
            "large" => self.large().await,
            "depth" => self.depth().await,
            _ => self.idle().await,
        }
    }

    /// A task count of full size, scaled; never so small that nothing is measured.
    fn count(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(100)
    }
}
