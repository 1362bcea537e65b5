//! Everything CI runs, in the order in which it fails fastest; and by itself what needs much of the machine.

use crate::{
    book, dependencies, root,
    system::{self, Trial},
    test_tools::TestTools,
};
use anyhow::Result;
use clap::Args;
use std::{
    process::{Command, Stdio},
    time::Instant,
};

/// Which tests.
#[derive(Args)]
pub struct Options {
    /// Run instead what needs much of the machine: Chromium; packages, a batch system and ssh, in a Debian booted in a container.
    /// Needs root on Debian.
    #[arg(long)]
    system: bool,
    /// Of these, only this one. May be given several times.
    #[arg(long, value_name = "TEST", value_enum, requires = "system")]
    only: Vec<Trial>,
}

/// Runs all checks; stops at the first that fails.
pub fn run(options: &Options) -> Result<()> {
    if options.system {
        return system::run(&options.only);
    }
    let start = Instant::now();
    let cargo = |words: &[&str]| {
        eprintln!(
            "\n==> cargo {} ({:.0} s)",
            words.join(" "),
            start.elapsed().as_secs_f64()
        );
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(root()).args(words);
        command
    };
    dewar_testkit::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    dewar_testkit::run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;

    let tools = TestTools::install()?;
    dependencies::check(&tools)?;
    book::build(&tools)?;
    // Tests of the whole system start the real programs.
    dewar_testkit::run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let tests: &[&str] = if has_nextest() {
        &["nextest", "run", "--workspace", "--no-fail-fast"]
    } else {
        &[
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
        ]
    };
    dewar_testkit::run(tools.offer_to(&mut cargo(tests)))?;
    dewar_testkit::run(&mut cargo(&["test", "--workspace", "--doc"]))?;
    dewar_testkit::run(
        cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    eprintln!(
        "\nall checks passed in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn has_nextest() -> bool {
    Command::new(env!("CARGO"))
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
