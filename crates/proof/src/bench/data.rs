//! `cargo xtask bench data`: what moving data costs, each figure beside its target.
//!
//! Machines are network namespaces, and the broker's link is made slow by the kernel; where that may not be done, those
//! parts say that they were skipped, and why.

mod bad_disk;
mod cache;
mod link;
mod network;
mod stack;
mod stream;
mod swarm;

use super::{How, report::Report};
use anyhow::{Result, bail};
use clap::Args;
use network::Network;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only this part; may be given several times.
    #[arg(long, value_name = "PART", value_parser = clap::builder::PossibleValuesParser::new(PARTS))]
    pub only: Vec<String>,
    /// Workers behind the slow link.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = workers)]
    pub workers: usize,
    /// How to measure.
    #[command(flatten)]
    pub how: How,
}

const PARTS: [&str; 6] = ["site", "sites", "trouble", "cache", "stream", "stack"];

/// Those that need machines and a slow link.
const LINK_PARTS: [&str; 3] = ["site", "sites", "trouble"];

/// One to kill, one with a bad disk, and one that must not care.
const WORKERS_MIN: usize = 3;

/// What every part needs.
struct Bench {
    dir: PathBuf,
    scale: f64,
    workers: usize,
    report: Report,
    /// Measured before anything is compared with it.
    one_copy_s: Option<f64>,
}

/// Measures, and prints.
///
/// # Errors
/// If something does not work at all. A missed target is no error.
pub fn run(options: &Options) -> Result<()> {
    options.how.print(&measure(options)?)
}

/// Measures.
///
/// # Errors
/// As [`run`].
pub fn measure(options: &Options) -> Result<Report> {
    let dir = options.how.begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut bench = Bench {
        report: Report::new(&dir),
        dir,
        scale: options.how.scale,
        workers: options.workers,
        one_copy_s: None,
    };
    runtime.block_on(async {
        // Whoever interrupts it finds nothing left behind.
        tokio::select! {
            ended = bench.all(&options.only) => ended,
            ended = interrupted() => ended,
        }
    })?;
    Ok(bench.report)
}

async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    bail!("interrupted")
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (WORKERS_MIN..=network::WORKERS_MAX).contains(&count) => Ok(count),
        _ => Err(format!(
            "is no count from {WORKERS_MIN} to {}",
            network::WORKERS_MAX
        )),
    }
}

impl Bench {
    async fn all(&mut self, only: &[String]) -> Result<()> {
        let no_network = Network::create(0).err();
        for part in super::wanted(&PARTS, only) {
            if let Some(why) = no_network.as_ref().filter(|_| LINK_PARTS.contains(&part)) {
                self.report.skip(part, format!("{why:#}"));
                continue;
            }
            eprintln!("bench: {part}");
            self.measure(part).await?;
        }
        Ok(())
    }

    async fn measure(&mut self, part: &str) -> Result<()> {
        match part {
            "site" => self.one_site().await,
            "sites" => self.two_sites().await,
            "trouble" => self.trouble().await,
            "cache" => self.shared_cache().await,
            "stream" => self.stream().await,
            _ => self.stack().await,
        }
    }

    /// A size of full measure, scaled; never so small that nothing is measured.
    fn count(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(1 << 20)
    }
}
