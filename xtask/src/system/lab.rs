//! A lab on one machine: the packages of a release, a broker that is reached by name, somebody with an account, and particles
//! to refine.

use super::{Kit, machine::Machine};
use anyhow::{Context, Result, ensure};
use dewar_testkit::{Guarded, refinement, wait_until};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Far longer than anything here takes on a machine that is busy otherwise.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Whoever refines here.
pub const ACCOUNT: &str = "lab";

/// A machine with everything installed.
pub struct Lab {
    /// The machine, called titan as in the book.
    pub machine: Machine,
}

/// A task that runs.
pub struct RunningTask {
    job: String,
    /// Its number in its job.
    pub index: u64,
    /// The process that computes it, as the machine numbers it.
    pub worker_pid: String,
}

impl Lab {
    /// Installs the packages, starts the broker and makes the particles.
    pub fn open(kit: &Kit) -> Result<Self> {
        let machine = Machine::boot(&kit.image, "titan")?;
        let lab = Self { machine };
        lab.install(&kit.packages[0])?;
        lab.machine.run(&format!(
            "printf 'DEWAR_LISTEN=0.0.0.0:9990\\nDEWAR_INSECURE=true\\nDEWAR_EXPORT=/srv\\n' >> /etc/dewar/broker.env
             systemctl restart dewar-broker
             useradd --create-home --shell /bin/bash {ACCOUNT}
             install --mode 600 --owner {ACCOUNT} /var/lib/dewar/token /home/{ACCOUNT}/dewar-token
             dewar simulate --out /srv/data --particles 600 --snr 0.5 --box 48 --pixel-size 5 --seed 7"
        ))?;
        let alone = refine("/srv/data", "--out alone --parallel thread:2");
        dewar_testkit::run(&mut lab.person(&alone))?;
        Ok(lab)
    }

    /// Installs packages, as an administrator would, or replaces them by newer ones.
    pub fn install(&self, packages: &[PathBuf]) -> Result<()> {
        let root = self.machine.root().join("root");
        let mut names = Vec::new();
        for package in packages {
            let name = package.file_name().context("a package has a name")?;
            std::fs::copy(package, root.join(name))?;
            names.push(name.to_string_lossy());
        }
        self.machine.run(&format!(
            "cd; export DEBIAN_FRONTEND=noninteractive; dpkg --install {} 2>&1",
            names.join(" ")
        ))
    }

    /// What the person's shell does, at home, where `dewar` finds the broker.
    pub fn person(&self, script: &str) -> Command {
        let mut command = self.machine.shell_of(ACCOUNT, script);
        command.env("DEWAR_BROKER", "titan:9990");
        command.env("DEWAR_TOKEN_FILE", format!("/home/{ACCOUNT}/dewar-token"));
        command
    }

    /// What a verb of `dewar` prints as JSON.
    pub fn dewar(&self, words: &str) -> Result<Value> {
        refinement::json(&mut self.person(&format!("dewar {words} --json")))
    }

    /// Starts to refine the particles on the broker's workers.
    pub fn start_refinement(&self, out: &str) -> Result<Guarded> {
        self.start_refinement_of("/srv/data", out)
    }

    /// The same with those of a folder.
    pub fn start_refinement_of(&self, data: &str, out: &str) -> Result<Guarded> {
        let line = refine(data, &format!("--out {out} --parallel dc:titan:9990"));
        Guarded::start("dewar refine", &mut self.person(&line))
    }

    /// Waits for it, and compares what it wrote with what comes of a single process.
    pub fn finish(&self, mut refinement: Guarded, out: &str) -> Result<()> {
        wait_until("the refinement", LIMIT, || Ok(!refinement.is_running()?))?;
        let home = self.machine.root().join("home").join(ACCOUNT);
        let differing = refinement::differing_outputs(&home.join("alone"), &home.join(out))?;
        ensure!(differing.is_empty(), "{out} differs in {differing:?}");
        Ok(())
    }

    /// Waits until so many workers are there.
    pub fn await_workers(&self, count: usize) -> Result<()> {
        wait_until(&format!("{count} workers"), LIMIT, || {
            let workers = self.dewar("workers")?;
            let workers = workers["workers"].as_array().map_or(0, Vec::len);
            Ok(workers == count)
        })
    }

    /// Waits until a task runs.
    pub fn await_task(&self) -> Result<RunningTask> {
        let mut found = None;
        wait_until("a running task", LIMIT, || {
            found = self.running_task()?;
            Ok(found.is_some())
        })?;
        found.context("it was waited for")
    }

    fn running_task(&self) -> Result<Option<RunningTask>> {
        let jobs = self.dewar("jobs --unfinished")?;
        let Some(number) = jobs["jobs"][0]["number"].as_u64() else {
            return Ok(None);
        };
        let job = format!("j{number}");
        let tasks = self.dewar(&format!("tasks {job} --state running"))?;
        let task = &tasks["tasks"][0];
        let worker = task["workers"][0].as_str();
        Ok(task["index"]
            .as_u64()
            .zip(worker)
            .and_then(|(index, worker)| {
                // By default a worker is called by its machine and its process.
                let (_, pid) = worker.rsplit_once('-')?;
                Some(RunningTask {
                    job: job.clone(),
                    index,
                    worker_pid: pid.to_owned(),
                })
            }))
    }

    /// How a task ended: how often it was begun, if it has succeeded.
    pub fn tries_of(&self, task: &RunningTask) -> Result<u64> {
        let (job, index) = (&task.job, task.index);
        let tasks = self.dewar(&format!("tasks {job} --from {index} --limit 1"))?;
        let task = &tasks["tasks"][0];
        ensure!(task["state"] == "succeeded", "{job}.{index} is {task}");
        task["attempts_begun"].as_u64().context("a task tells it")
    }

    /// A page of the book.
    pub fn page(name: &str) -> Result<String> {
        let path: &Path = &crate::root().join("docs").join(name);
        std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))
    }
}

fn refine(data: &str, words: &str) -> String {
    format!(
        "dewar refine {data}/particles.star --reference {data}/truth.mrc --iterations 3 --diameter 150 {words}"
    )
}
