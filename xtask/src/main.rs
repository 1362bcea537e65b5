//! What the project does to itself: `cargo xtask demo` does the main job, `cargo xtask test`
//! tells whether all is well.

mod book;
mod demo;
mod dependencies;
mod dist;
mod proof;
mod system;
mod test;
mod test_tools;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Tasks of the Dewar repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Refines a structure through a broker and workers on this machine, killing a worker half-way.
    Demo(demo::Options),
    /// Formatting, clippy, dependencies, all tests, documentation.
    Test(test::Options),
    /// Builds a release: packages for Debian, a tarball for systems from glibc 2.28 on, and their sums.
    Dist,
    /// Measures the queue or the data plane and prints a table with targets: `bench queue`, `bench data`.
    #[command(disable_help_flag = true)]
    Bench(proof::Words),
    /// Kills, stops and cuts off real programs at random under load, and looks for what was promised.
    #[command(disable_help_flag = true)]
    Chaos(proof::Words),
    /// Simulates hours of faults around the real queue and engine, in virtual time.
    #[command(disable_help_flag = true)]
    Sim(proof::Words),
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Demo(options) => demo::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Dist => dist::run(),
        Verb::Bench(words) => proof::run("bench", &words),
        Verb::Chaos(words) => proof::run("chaos", &words),
        Verb::Sim(words) => proof::run("sim", &words),
    }
}

/// The workspace's own folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// Where cargo builds, as cargo itself decides.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
