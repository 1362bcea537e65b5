//! What is interrupted leaves no process behind.

use anyhow::{Context as _, Result};
use dewar_testkit::{Guarded, Signal, wait_until};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The fourth field; the second is a name in brackets, which may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    pids.filter(of_parent).collect()
}

fn ends_with_its_children(words: &[&str]) -> Result<()> {
    // Chaos that was cut short leaves its logs.
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_dewar-proof"));
    command.env("TMPDIR", folder.path());
    command
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut proof = Guarded::start("dewar-proof", &mut command)?;
    let mut begun = Vec::new();
    wait_until("a broker", PATIENCE, || {
        begun = children(proof.pid());
        anyhow::ensure!(proof.child().try_wait()?.is_none(), "it ended by itself");
        Ok(!begun.is_empty())
    })?;
    proof.signal(Signal::TERM)?;
    wait_until("its end", PATIENCE, || {
        Ok(proof.child().try_wait()?.is_some())
    })?;
    let left = begun
        .iter()
        .find(|pid| Path::new(&format!("/proc/{pid}")).exists());
    left.map_or(Ok(()), |pid| Err(anyhow::anyhow!("{pid} is left")))
}

#[test]
fn a_bench_of_the_queue() -> Result<()> {
    ends_with_its_children(&["bench", "queue", "--only", "noop"]).context("noop")
}

#[test]
fn chaos() -> Result<()> {
    ends_with_its_children(&["chaos", "--kills", "100000"])?;
    ends_with_its_children(&["chaos", "--no-refinement"])
}
