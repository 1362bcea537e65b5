//! `bench`, `chaos` and `sim` are programs of their own, in `crates/proof`: they must be as optimised as what they
//! drive, and building them must not hold up every other verb.

use crate::{root, target_dir};
use anyhow::Result;
use clap::Args;
use std::{ffi::OsString, process::Command};

/// What is passed on; `--help` says what there is.
#[derive(Args)]
pub struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Builds for release, and hands over.
pub fn run(verb: &str, words: &Words) -> Result<()> {
    build(&["dewar-broker", "dewar-worker", "dewar-cli"])?;
    // By itself: its features are not to leak into what it measures.
    build(&["dewar-proof"])?;
    let status = Command::new(target_dir().join("release/dewar-proof"))
        .arg(verb)
        .args(&words.words)
        .status()?;
    if !status.success() {
        // It has said why.
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

fn build(packages: &[&str]) -> Result<()> {
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    dewar_testkit::run(
        Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["build", "--quiet", "--release", "--bins"])
            .args(packages),
    )
}
