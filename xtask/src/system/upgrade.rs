//! The release before this one, and this one, in one lab: a newer broker takes an older one's store over while an older worker
//! computes for an older customer, and a newer worker joins an older broker.

use super::Kit;
use crate::{
    dist::{self, PROGRAMS},
    root, target_dir,
};
use anyhow::{Context, Result, ensure};
use dewar_testkit::{
    Broker, BrokerOptions, Programs, WorkerOptions,
    refinement::{Case, json},
    wait_until,
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// While there is no release yet: the last commit whose protocol is a minor version behind (1.3) and whose store is of an
/// older format (2).
const BEFORE_RELEASES: &str = "47ac205c2209704897ec6fa9ad1f7ade27d2fecd~1";

const LIMIT: Duration = Duration::from_secs(300);

pub fn run(kit: &Kit) -> Result<()> {
    let Some(revision) = previous()? else {
        eprintln!(
            "SKIPPED the upgrade: this clone has neither a release's tag nor the history before the first"
        );
        return Ok(());
    };
    let old = build(&revision)?;
    let new = Programs::in_folder(&kit.programs)?;
    let folder = tempfile::tempdir()?;
    a_newer_broker_takes_over(&old, &new, folder.path())?;
    a_newer_worker_joins(&old, &new, folder.path())
}

/// The commit of the release before, if this clone has it.
fn previous() -> Result<Option<String>> {
    let ask = |words: &[&str]| -> Result<Option<String>> {
        let mut git = Command::new("git");
        let said = git.current_dir(root()).args(words).output()?;
        let answer = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Ok(said.status.success().then_some(answer))
    };
    let tag = ask(&[
        "describe",
        "--tags",
        "--abbrev=0",
        "--match",
        "v*",
        "HEAD~1",
    ])?;
    let revision = tag.unwrap_or_else(|| BEFORE_RELEASES.to_owned());
    ask(&[
        "rev-parse",
        "--quiet",
        "--verify",
        &format!("{revision}^{{commit}}"),
    ])
}

/// Builds it as a release is built, once for each commit.
fn build(revision: &str) -> Result<Programs> {
    let folder = target_dir().join("system/previous").join(revision);
    if let Ok(programs) = Programs::in_folder(&folder) {
        return Ok(programs);
    }
    let source = tempfile::tempdir()?;
    let mut git = Command::new("git");
    git.current_dir(root())
        .args(["archive", revision])
        .stdout(Stdio::piped());
    let mut archive = git.spawn()?;
    let files = archive.stdout.take().context("it is piped")?;
    dewar_testkit::run(
        Command::new("tar")
            .arg("-x")
            .arg("-C")
            .arg(source.path())
            .stdin(files),
    )?;
    ensure!(archive.wait()?.success(), "git archive {revision} failed");
    dist::zigbuild(source.path())?;
    keep_programs(&folder)?;
    Programs::in_folder(folder)
}

/// Keeps what was built, since the next build of another version takes its place.
pub fn keep_programs(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (program, _) in PROGRAMS {
        // Written beside and renamed: one that was kept before may be running.
        let beside = folder.join(format!(".{program}"));
        fs::copy(dist::programs_dir().join(program), &beside)?;
        fs::rename(beside, folder.join(program))?;
    }
    Ok(())
}

fn a_newer_broker_takes_over(old: &Programs, new: &Programs, folder: &Path) -> Result<()> {
    let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
    let data = "--particles 600 --snr 0.5 --box 48 --pixel-size 5 --seed 7";
    let case = Case::simulate(
        old,
        &folder.join("data"),
        &words(data),
        &words("--iterations 3 --diameter 150"),
    )?;
    case.refine_in_process(old, 2, &folder.join("alone"))?;

    let mut options = BrokerOptions {
        data_dir: folder.join("store"),
        exports: vec![folder.join("data")],
        listen: "127.0.0.1:0".to_owned(),
    };
    let broker = old.start_broker(&options)?;
    let _worker = old.start_worker(&broker, &worker("older", folder))?;
    let mut refinement = case.start_refine(old, &broker, &folder.join("out"))?;
    let mut running = Vec::new();
    wait_until("a running task", LIMIT, || {
        running = indices(&ask(new, &broker, "tasks j1 --state running").unwrap_or_default());
        Ok(!running.is_empty())
    })?;
    let before = protocol(new, &broker)?;
    options.listen = broker.address.clone();
    broker.stop()?;

    let broker = new.start_broker(&options)?;
    wait_until("the refinement", LIMIT, || Ok(!refinement.is_running()?))?;
    for name in ["map.mrc", "particles.star"] {
        let read = |out: &str| fs::read(folder.join(out).join(name));
        ensure!(
            read("alone")? == read("out")?,
            "the upgraded refinement has another {name}"
        );
    }
    let jobs = ask(new, &broker, "jobs")?;
    let job = &jobs["jobs"][0];
    ensure!(
        job["state"] == "finished" && job["failed_count"] == 0,
        "the job is {job}"
    );
    // Of tries before its start a broker knows nothing.
    let tasks = ask(new, &broker, "tasks j1")?;
    let tasks = tasks["tasks"].as_array().context("a job has tasks")?;
    let begun_again = tasks.iter().find(|task| {
        let index = task["index"].as_u64();
        index.is_some_and(|index| running.contains(&index)) && task["attempts_begun"] != 0
    });
    ensure!(
        begun_again.is_none(),
        "a task was begun again after the upgrade: {begun_again:?}"
    );
    eprintln!(
        "from protocol {before} to {}, {} tasks",
        protocol(new, &broker)?,
        tasks.len()
    );
    broker.stop()
}

fn a_newer_worker_joins(old: &Programs, new: &Programs, folder: &Path) -> Result<()> {
    let broker = old.start_broker(&BrokerOptions {
        data_dir: folder.join("older-store"),
        exports: Vec::new(),
        listen: "127.0.0.1:0".to_owned(),
    })?;
    let mut newer = new.start_worker(&broker, &worker("newer", folder))?;
    wait_until("the newer worker", LIMIT, || {
        Ok(ask(new, &broker, "workers")?["workers"][0]["name"] == "newer")
    })?;
    let mut drain = new.dewar();
    dewar_testkit::run(drain.args(["drain", "newer", "--yes"]).args(broker.flags()))?;
    wait_until("the drained worker to leave", LIMIT, || {
        Ok(!newer.is_running()?)
    })?;
    broker.stop()
}

/// The numbers of listed tasks.
fn indices(listed: &serde_json::Value) -> Vec<u64> {
    let tasks = listed["tasks"].as_array().into_iter().flatten();
    tasks.filter_map(|task| task["index"].as_u64()).collect()
}

fn worker(name: &str, folder: &Path) -> WorkerOptions {
    WorkerOptions {
        name: name.to_owned(),
        slot_count: 1,
        cache_dir: folder.join(format!("cache-{name}")),
    }
}

fn protocol(new: &Programs, broker: &Broker) -> Result<String> {
    let status = ask(new, broker, "status")?;
    let version = status["protocol"].as_str();
    Ok(version.context("a broker tells its protocol")?.to_owned())
}

/// What a verb of the newer command says of a broker of either version.
fn ask(new: &Programs, broker: &Broker, words: &str) -> Result<serde_json::Value> {
    let mut dewar = new.dewar();
    json(
        dewar
            .args(words.split(' '))
            .arg("--json")
            .args(broker.flags()),
    )
}
