//! `dewar refine`, on a set small enough for every test run. What it finds is tested with the refinement itself.

use crate::{
    dewar::{command, dewar, keys, word},
    lab::Lab,
};
use dewar_testkit::Guarded;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    sync::mpsc,
    thread,
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
fn wrong_inputs_leave_nothing_behind_and_may_be_mended() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let out = folder.path().join("refined");
    let rounds = ["--iterations", "1", "--parallel", "thread:2"].map(str::to_owned);
    let words: Vec<String> = words(&set, &out).into_iter().chain(rounds).collect();
    let reference = set.join("truth.mrc");
    let good = fs::read(&reference).unwrap();
    fs::write(&reference, &good[..2000]).unwrap();
    dewar(&words).fails(2, &["truth.mrc", "truncated"]);
    assert!(!out.exists(), "a wrong map left the output folder");
    fs::write(&reference, good).unwrap();

    // Found only when images are read.
    let stack = set.join("particles.mrcs");
    let good = fs::read(&stack).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 4;
    bad[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&stack, bad).unwrap();
    dewar(&words).fails(2, &["particle 40", "NaN"]);
    assert!(!out.exists(), "a wrong image left the output folder");
    fs::write(&stack, good).unwrap();
    dewar(&words).ok();
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
            "resolution_masked_angstrom",
            "b_factor_angstrom2",
            "coverage",
            "has_own_detail",
            "warnings",
            "iterations",
            "converged",
            "seconds",
            "map",
            "map_sharpened",
            "particles",
            "record"
        ]
    );
    assert_eq!(json["iterations"], 1);
    for name in [
        "map.mrc",
        "half1.mrc",
        "half2.mrc",
        "map_sharpened.mrc",
        "mask.mrc",
        "particles.star",
        "model.star",
        "fsc.star",
        "postprocess.json",
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
    // What the verb of its own makes of the same half-maps is the same, to the last bit.
    let alone = folder.path().join("alone");
    let halves = [out.join("half1.mrc"), out.join("half2.mrc")];
    dewar([
        "postprocess",
        word(&halves[0]),
        word(&halves[1]),
        "--out",
        word(&alone),
    ])
    .ok();
    for name in ["map_sharpened.mrc", "mask.mrc", "fsc.star"] {
        let bytes = [&alone, &out].map(|folder| fs::read(folder.join(name)).unwrap());
        assert!(bytes[0] == bytes[1], "{name} differs");
    }
    // The poses are of the same images, so the set can judge them.
    dewar([
        "compare",
        word(&out.join("particles.star")),
        word(&set.join("truth.star")),
    ])
    .ok();
}

#[test]
fn a_refinement_goes_on_with_more_rounds_to_the_bytes_it_would_have_had() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let [parts, whole] = ["parts", "whole"].map(|name| folder.path().join(name));
    let rounds = |out, count| {
        let more = ["--iterations", count, "--parallel", "thread:2"].map(str::to_owned);
        dewar(words(&set, out).into_iter().chain(more)).ok();
    };
    rounds(&parts, "1");
    rounds(&whole, "2");
    // On another number of workers too.
    let words = ["refine", "--continue", word(&parts), "--iterations", "2"];
    let ran = dewar(words.iter().chain(&["--parallel", "thread:1", "--json"])).ok();
    assert_eq!(ran.json()["iterations"], 2);
    for name in [
        "map.mrc",
        "half1.mrc",
        "map_sharpened.mrc",
        "particles.star",
    ] {
        let bytes = [&parts, &whole].map(|out| fs::read(out.join(name)).unwrap());
        assert!(bytes[0] == bytes[1], "{name} differs");
    }
    // As it was stated last, all is done; other sharpening is made of the same half-maps.
    let going_on = [
        "refine",
        "--continue",
        word(&parts),
        "--parallel",
        "thread:1",
    ];
    let ran = dewar(going_on).ok();
    assert!(ran.stderr.contains("done already"), "{ran:?}");
    let ran = dewar(going_on.iter().chain(&["--b-factor", "-50", "--json"])).ok();
    assert_eq!(ran.json()["b_factor_angstrom2"], -50.0);
    assert!(!ran.stderr.contains("round 3"), "{ran:?}");
}

#[test]
fn only_a_refinement_can_be_gone_on_with_and_only_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["refine", "--continue", word(folder.path())];
    dewar(words).fails(2, &["holds no refinement"]);
    let ran = dewar(words.iter().chain(&["--symmetry", "C2"]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--symmetry"), "{ran:?}");
    assert_eq!(dewar(["refine"]).code, Some(2));
}

/// Each key of a record, and of the records in it.
fn all_keys(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => members.iter().for_each(|(key, value)| {
            found.push(key.clone());
            all_keys(value, found);
        }),
        serde_json::Value::Array(values) => values.iter().for_each(|value| all_keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_record_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let out = folder.path().join("refined");
    let more = ["--iterations", "2", "--parallel", "thread:2"].map(str::to_owned);
    dewar(words(&set, &out).into_iter().chain(more)).ok();
    let text = fs::read_to_string(out.join("refine.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    all_keys(&record, &mut found);
    assert!(found.len() > 50, "{found:?}");
    let page = include_str!("../../../../docs/refine-json.md");
    for key in found {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
    assert_eq!(record["rounds"].as_array().unwrap().len(), 2);
}

/// A refinement under way, and the lines it says.
struct Running {
    process: Guarded,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(set: &Path, out: &Path, parallel: &str, token: &str) -> Self {
        let mut command = command();
        command
            .args(words(set, out))
            .args(["--parallel", parallel])
            .env("DEWAR_TOKEN", token)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = Guarded::start("dewar refine", &mut command).unwrap();
        let stderr = BufReader::new(process.child().stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    fn interrupt(&mut self) {
        kill_process(Pid::from_child(self.process.child()), Signal::INT).unwrap();
    }

    /// Waits for a line that starts so.
    #[track_caller]
    fn says(&self, start: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("{error} for {start:?} after {before:?}"),
            }
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.process.child().wait().unwrap().code()
    }
}

#[test]
fn an_interrupted_refinement_is_code_1_and_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let out = folder.path().join("refined");
    let mut refinement = Running::start(&set, &out, "thread:1", "");
    let begun = || Ok(out.join(".dewar").exists());
    dewar_testkit::wait_until("the refinement has begun", Duration::from_secs(20), begun).unwrap();
    refinement.interrupt();
    refinement.says("stopping: ");
    refinement.says("error: the job was cancelled; the same command goes on");
    assert_eq!(refinement.exit_code(), Some(1));
    assert!(!out.join("map.mrc").exists());
    let words = words(&set, &out);
    dewar(
        words
            .iter()
            .map(String::as_str)
            .chain(["--iterations", "1"]),
    )
    .ok();
    assert!(out.join("map.mrc").exists());
}

#[test]
fn the_report_of_a_killed_refinement_says_by_when_it_would_have_moved() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let out = folder.path().join("refined");
    let report = || fs::read_to_string(out.join("report.html")).unwrap_or_default();
    let refinement = Running::start(&set, &out, "thread:1", "");
    let begun = || Ok(report().contains("Round 1, comparing"));
    dewar_testkit::wait_until("the first round", Duration::from_secs(20), begun).unwrap();
    refinement.process.kill().unwrap();
    assert!(report().contains("data-state=\"running\""));
    assert!(report().contains(" UTC</strong> now, the run was killed"));
    let words = words(&set, &out);
    let more = ["--iterations", "1", "--parallel", "thread:2"];
    dewar(words.iter().map(String::as_str).chain(more)).ok();
    assert!(report().contains("data-state=\"finished\""));
}

#[test]
fn ctrl_c_cancels_the_job_at_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    // Its worker does not offer what a refinement needs, so the job waits.
    let lab = Lab::start();
    let parallel = format!("dc:{}", lab.address());
    let mut refinement =
        Running::start(&set, &folder.path().join("refined"), &parallel, lab.token());
    let refine_job = |lab: &Lab| {
        let jobs = lab.dewar(&["jobs", "--json"]).ok().json();
        let jobs = jobs["jobs"].as_array().unwrap().clone();
        jobs.into_iter()
            .find(|job| job["name"] == "refine particles.star")
    };
    lab.wait_until("the tasks are there", |lab| {
        refine_job(lab).is_some_and(|job| job["waiting_count"] != 0)
    });
    let told = refinement.says("waiting: ");
    assert!(told.contains("em."), "which kind is missing: {told}");
    let report = folder.path().join("refined/report.html");
    lab.wait_until("the report says so", |_| {
        let text = fs::read_to_string(&report).unwrap_or_default();
        text.contains("data-state=\"running\"") && text.contains(": waiting: ")
    });
    refinement.interrupt();
    refinement.says("error: the job was cancelled");
    assert_eq!(refinement.exit_code(), Some(1));
    let job = refine_job(&lab).unwrap();
    assert_eq!(
        (&job["waiting_count"], &job["cancelled_count"]),
        (&0.into(), &job["task_count"])
    );
}

#[test]
fn an_absent_broker_is_waited_for_until_ctrl_c_comes_twice() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let lab = Lab::start();
    let parallel = format!("dc:{}", lab.address());
    let mut refinement =
        Running::start(&set, &folder.path().join("refined"), &parallel, lab.token());
    lab.wait_until("the job is there", |lab| {
        lab.dewar(&["jobs", "--json"])
            .ok()
            .stdout
            .contains("refine particles.star")
    });
    lab.stop();
    let told = refinement.says("broker away since ");
    assert!(told.contains(" UTC, waiting ("), "{told}");
    refinement.interrupt();
    refinement.says("stopping: ");
    assert!(
        refinement.process.is_running().unwrap(),
        "the job is still to be cancelled"
    );
    refinement.interrupt();
    assert_eq!(refinement.exit_code(), Some(1));
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
