//! `bench`, `chaos` and `sim` are programs of their own, in `crates/proof`: they must be as optimised as what they
//! drive, and building them must not hold up every other verb.

use crate::{root, target_dir};
use anyhow::Result;
use clap::Args;
use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

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
    // In this one's place, so that a signal to end reaches whoever has processes to end.
    let error = Command::new(target_dir().join("release/dewar-proof"))
        .arg(verb)
        .args(&words.words)
        .exec();
    Err(error.into())
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
