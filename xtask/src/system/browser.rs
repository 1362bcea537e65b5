//! The broker's page in a real Chromium.

use crate::root;
use anyhow::Result;
use std::process::Command;

/// Builds the programs as for the other tests, and has Chromium look at them.
pub fn run() -> Result<()> {
    super::install_missing(&[("chromium", "chromium"), ("fc-list", "fontconfig")])?;
    let cargo = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(root()).args(words);
        dewar_testkit::run(&mut command)
    };
    cargo(&["build", "--workspace", "--bins"])?;
    cargo(&[
        "test",
        "--workspace",
        "--test",
        "browser",
        "--",
        "--ignored",
    ])
}
