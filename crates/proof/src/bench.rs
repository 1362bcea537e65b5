//! `cargo xtask bench queue`: what the queue's promises cost on this machine, each figure beside its target.
//!
//! Targets that depend on the disk are ratios to C50 and C99: the time of one small durable commit by the store itself,
//! measured in the same run. The processes measured are the real ones; what drives them shares their cores.

mod commits;
mod depth;
mod idle;
mod latency;
mod machine;
mod report;
mod throughput;

use crate::lab;
use anyhow::{Result, ensure};
use clap::Args;
use commits::Commits;
use machine::Machine;
use report::Report;
use std::{env, path::PathBuf};

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only this part; may be given several times.
    #[arg(long, value_name = "PART", value_parser = clap::builder::PossibleValuesParser::new(PARTS))]
    only: Vec<String>,
    /// Task counts times this: 0.1 for a quick look. Targets of depth mean nothing then.
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    scale: f64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Folder on the disk to measure [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
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
    ensure!(
        options.scale > 0.0 && options.scale <= 100.0,
        "--scale is {}, must be above 0 and at most 100",
        options.scale
    );
    // Fails before anything is measured.
    lab::programs()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let dir = options.dir.clone().unwrap_or_else(env::temp_dir);
    let commits = Commits::measure(&dir)?;
    let mut bench = Bench {
        report: Report::new(Machine::look(&dir), &commits),
        dir,
        scale: options.scale,
        commits,
    };
    let is_wanted =
        |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    for part in PARTS.into_iter().filter(|part| is_wanted(part)) {
        eprintln!("bench: {part}");
        runtime.block_on(bench.measure(part))?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&bench.report.to_json())?);
    } else {
        print!("{}", bench.report);
    }
    Ok(())
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
