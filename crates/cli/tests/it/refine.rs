//! `dewar refine`, on a set small enough for every test run. What it finds is tested with the refinement itself.

use crate::dewar::{command, dewar, keys, word};
use dewar_testkit::Guarded;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// A simulated set's folder.
fn set(folder: &Path) -> PathBuf {
    let out = folder.join("set");
    let words = [
        "simulate",
        "--particles",
        "40",
        "--box",
        "32",
        "--pixel-size",
        "8",
        "--snr",
        "1",
        "--out",
        word(&out),
    ];
    dewar(words).ok();
    out
}

fn words(set: &Path, out: &Path) -> Vec<String> {
    let [particles, reference] =
        ["particles.star", "truth.mrc"].map(|name| word(&set.join(name)).to_owned());
    let words = [
        "refine",
        &particles,
        "--reference",
        &reference,
        "--out",
        word(out),
        "--low-pass",
        "40",
    ];
    words.map(str::to_owned).to_vec()
}

#[test]
fn a_refinement_ends_with_its_outputs_told() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let out = folder.path().join("refined");
    let words = words(&set, &out);
    let more = ["--iterations", "1", "--parallel", "thread:2", "--json"].map(str::to_owned);
    let ran = dewar(words.iter().chain(&more)).ok();
    let json = ran.json();
    assert_eq!(
        keys(&json),
        [
            "resolution_angstrom",
            "iterations",
            "converged",
            "seconds",
            "map",
            "particles",
            "record"
        ]
    );
    assert_eq!(json["iterations"], 1);
    for name in [
        "map.mrc",
        "half1.mrc",
        "half2.mrc",
        "mask.mrc",
        "particles.star",
        "fsc.star",
        "refine.json",
    ] {
        assert!(out.join(name).exists(), "{name}");
    }
    assert!(
        !out.join(".dewar").exists(),
        "the embedded broker's data goes when it is needed no more"
    );
    assert!(
        ran.stderr.lines().any(|line| line.starts_with("round 1: ")),
        "{ran:?}"
    );
    // The poses are of the same images, so the set can judge them.
    dewar([
        "compare",
        word(&out.join("particles.star")),
        word(&set.join("truth.star")),
    ])
    .ok();
}

#[test]
fn an_interrupted_refinement_cancels_its_job_and_is_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let out = folder.path().join("refined");
    let mut command = command();
    command
        .args(words(&set, &out))
        .args(["--parallel", "thread:1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut refinement = Guarded::start("dewar refine", &mut command).unwrap();
    let broker_runs = || Ok(out.join(".dewar").exists());
    dewar_testkit::wait_until(
        "the refinement has begun",
        Duration::from_secs(20),
        broker_runs,
    )
    .unwrap();
    let pid = rustix::process::Pid::from_child(refinement.child());
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = refinement.child().wait().unwrap();
    let stderr = std::io::read_to_string(refinement.child().stderr.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(
        stderr.lines().any(|line| line.starts_with("stopping: ")),
        "{stderr}"
    );
    assert!(
        stderr
            .lines()
            .last()
            .unwrap()
            .contains("the same command goes on"),
        "{stderr}"
    );
    assert!(!out.join("map.mrc").exists());
}

#[test]
fn inputs_that_do_not_fit_are_code_2_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let out = folder.path().join("refined");
    let mut words = words(&set, &out);
    words[3] = word(&set.join("particles.mrcs")).to_owned();
    dewar(words).fails(2, &["particles.mrcs", "cube"]);
    assert!(fs::read_dir(&out).map_or(true, |mut entries| {
        entries.all(|entry| entry.unwrap().file_name() == ".dewar")
    }));
}
