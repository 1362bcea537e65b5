//! Refinements by the command `dewar`, as a user runs them.

use crate::{Broker, Guarded, Programs, run};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files that must not depend on who computed them.
const SAME_BYTES: [&str; 5] = [
    "map.mrc",
    "half1.mrc",
    "half2.mrc",
    "mask.mrc",
    "particles.star",
];

/// A data set to refine, and how.
#[derive(Debug, Clone)]
pub struct Case {
    /// The particle file.
    pub particles: PathBuf,
    /// The starting map.
    pub reference: PathBuf,
    /// Further flags of `dewar refine`.
    pub flags: Vec<String>,
}

impl Case {
    /// Simulates particles into `folder` with `dewar simulate` and these flags; the starting map is the true one,
    /// which `dewar refine` low-passes first.
    ///
    /// # Errors
    /// If the simulation fails.
    pub fn simulate(
        programs: &Programs,
        folder: &Path,
        flags: &[&str],
        refine_flags: &[&str],
    ) -> Result<Self> {
        run(programs
            .dewar()
            .arg("simulate")
            .args(flags)
            .arg("--out")
            .arg(folder))?;
        Ok(Self {
            particles: folder.join("particles.star"),
            reference: folder.join("truth.mrc"),
            flags: refine_flags.iter().map(|flag| (*flag).to_owned()).collect(),
        })
    }

    /// Runs it in one process on `threads` threads.
    ///
    /// # Errors
    /// If it fails.
    pub fn refine_in_process(&self, programs: &Programs, threads: usize, out: &Path) -> Result<()> {
        run(self
            .command(programs, out)
            .args(["--parallel", &format!("thread:{threads}")]))
    }

    /// Starts it on the workers of `broker`.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_refine(
        &self,
        programs: &Programs,
        broker: &Broker,
        out: &Path,
    ) -> Result<Guarded> {
        self.start_refine_at(programs, &broker.address, &broker.token_file, out)
    }

    /// Starts it on the workers of the broker at `address`, whether or not that is up.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_refine_at(
        &self,
        programs: &Programs,
        address: &str,
        token_file: &Path,
        out: &Path,
    ) -> Result<Guarded> {
        Guarded::start(
            "dewar refine",
            self.command(programs, out)
                .args(["--parallel", &format!("dc:{address}")])
                .arg("--token-file")
                .arg(token_file),
        )
    }

    fn command(&self, programs: &Programs, out: &Path) -> std::process::Command {
        let mut command = programs.dewar();
        command
            .arg("refine")
            .arg(&self.particles)
            .arg("--reference")
            .arg(&self.reference);
        command.arg("--out").arg(out).args(&self.flags);
        command
    }
}

/// How many rounds are finished in `out`.
pub fn finished_rounds(out: &Path) -> usize {
    (1..)
        .take_while(|round| out.join(format!("it{round:03}")).is_dir())
        .count()
}

/// How many tasks run at the broker now.
///
/// # Errors
/// If the broker is not reached.
pub fn running_tasks(programs: &Programs, broker: &Broker) -> Result<u64> {
    let status = json(
        programs
            .dewar()
            .args(["status", "--json"])
            .args(broker.flags()),
    )?;
    status["running_count"]
        .as_u64()
        .context("status gives running_count")
}

/// What a command printed, as JSON.
///
/// # Errors
/// If it fails or prints something else.
pub fn json(command: &mut std::process::Command) -> Result<Value> {
    Ok(serde_json::from_str(&crate::output(command)?)?)
}

/// The names of outputs that differ between two refinements.
///
/// # Errors
/// If one is missing.
pub fn differing_outputs(first: &Path, second: &Path) -> Result<Vec<&'static str>> {
    let read = |folder: &Path, name: &str| {
        fs::read(folder.join(name)).with_context(|| format!("{} in {}", name, folder.display()))
    };
    let mut differing = Vec::new();
    for name in SAME_BYTES {
        if read(first, name)? != read(second, name)? {
            differing.push(name);
        }
    }
    Ok(differing)
}
