//! `cargo xtask bench`: what Dewar's promises cost on this machine, each figure beside its target.
//!
//! `queue` measures tasks, `data` measures bytes on their way, `search` measures what finds poses, `relion` measures
//! refinements. The processes measured are the real ones; what drives them shares their cores.

pub mod data;
mod machine;
pub mod queue;
pub mod relion;
mod report;
pub mod search;

use crate::lab;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::{
    env,
    path::{Path, PathBuf},
};

pub use report::Report;

/// How to measure, whatever it is.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// Counts and sizes times this: 0.1 for a quick look. Some targets mean nothing then.
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    pub scale: f64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Folder on the disk to measure [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl How {
    /// Fails before anything is measured. The folder on the disk to measure.
    fn begin(&self) -> Result<PathBuf> {
        ensure!(
            self.scale > 0.0 && self.scale <= 100.0,
            "--scale is {}, must be above 0 and at most 100",
            self.scale
        );
        lab::programs()?;
        Ok(self.dir.clone().unwrap_or_else(env::temp_dir))
    }

    fn print(&self, report: &Report) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report.to_json())?);
        } else {
            print!("{report}");
        }
        Ok(())
    }
}

/// `shared/data` beside the project, unless another folder is named.
fn maps_folder(named: Option<&Path>, bench: &str) -> Result<PathBuf> {
    let beside = || dewar_testkit::shared_data(&format!("bench {bench}"));
    let folder = named.map(Path::to_owned).or_else(beside);
    folder.context("there are no maps to simulate from; name their folder with --maps")
}

/// The middle one of several figures, the upper of two.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The parts that were asked for; all if none was.
fn wanted<'a>(parts: &'a [&'a str], only: &'a [String]) -> impl Iterator<Item = &'a str> {
    let is_wanted = |part: &&str| only.is_empty() || only.iter().any(|only| only.as_str() == *part);
    parts.iter().copied().filter(is_wanted)
}
