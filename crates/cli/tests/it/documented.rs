//! What `--json` prints, held against `docs/json.md` and `--help`.

use crate::{
    dewar::{command, dewar, keys},
    lab::Lab,
};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// The keys in the first column of the tables below a heading, up to the next.
pub fn documented(heading: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let page = fs::read_to_string(page).unwrap();
    let below = page
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'));
    let keys: Vec<String> = below
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    assert!(!keys.is_empty(), "nothing stands below {heading:?}");
    keys
}

/// An object has exactly these keys, and the help of its verb names each.
#[track_caller]
fn check(object: &Value, heading: &str, verb: &str) {
    let (printed, documented) = (keys(object), documented(heading));
    assert_eq!(printed, documented, "{heading}");
    let help = dewar([verb, "--help"]).ok().stdout;
    let (_, promised) = help.split_once("JSON keys").unwrap();
    let words: BTreeSet<&str> = promised
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .collect();
    for key in printed {
        assert!(
            words.contains(key),
            "`dewar {verb} --help` does not name {key}"
        );
    }
}

#[test]
fn every_listing_prints_what_is_documented() {
    let lab = Lab::start();
    let json = |words: &[&str]| lab.dewar(words).ok().json();
    check(&json(&["status", "--json"]), "## `dewar status`", "status");
    let jobs = json(&["jobs", "--json"]);
    check(&jobs["jobs"][0], "## `dewar jobs`", "jobs");
    let job = lab.job_name();
    let tasks = json(&["tasks", &job, "--json"]);
    check(&tasks["tasks"][0], "## `dewar tasks j7`", "tasks");
    assert_eq!(keys(&tasks), ["tasks", "next_index"]);
    let workers = json(&["workers", "--json"]);
    check(&workers["workers"][0], "## `dewar workers`", "workers");
}

#[test]
fn a_single_task_prints_what_is_documented() {
    let lab = Lab::start();
    let name = format!("{}.{}", lab.job_name(), lab.submit_what_fails());
    let task = || lab.dewar(&["tasks", &name, "--json"]).ok().json();
    lab.wait_until("the task has failed", |_| task()["state"] == "failed");
    let task = task();
    let mut expected = documented("## `dewar tasks j7`");
    expected.extend(documented("## `dewar tasks j7.42`"));
    assert_eq!(keys(&task), expected);
    check(&task["attempts"][0], "### `attempts`", "tasks");
    check(&task["inputs"][0], "### `inputs`", "tasks");

    // The same for people: who had it, how it ended, the whole text, and what it reads.
    let attempt = &task["attempts"][0];
    assert_eq!(attempt["state"], "failed");
    assert_eq!(attempt["failure"]["class"], "bad input");
    assert_eq!(attempt["worker"], "embedded");
    let text = lab.dewar(&["tasks", &name]).ok().stdout;
    for word in [
        "bad input: there is nothing to hold",
        "embedded",
        "failed",
        "WAITED",
        "FETCHED",
        "RAN",
        "INPUT",
    ] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }

    // And status leads there.
    let status = lab.dewar(&["status"]).ok().stdout;
    assert!(
        status.contains(&format!("try: dewar tasks {name}")),
        "{status}"
    );
    let failed = &lab.status()["failed_jobs"][0];
    check(failed, "### `failed_jobs`", "status");
    assert_eq!(failed["command"], format!("dewar tasks {name}"));

    // Who had it is known by name, and others had nothing.
    let on = |worker: &str| {
        let words = [
            "tasks",
            &lab.job_name(),
            "--state",
            "failed",
            "--worker",
            worker,
            "--json",
        ];
        lab.dewar(&words).ok().json()["tasks"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!((on("embedded"), on("nobody")), (1, 0));
}

#[test]
fn filters_leave_out_what_was_not_asked_for() {
    let lab = Lab::start();
    let count = |words: &[&str], list: &str| {
        let words = [words, &["--json"]].concat();
        lab.dewar(&words).ok().json()[list]
            .as_array()
            .unwrap()
            .len()
    };
    let jobs = lab.dewar(&["jobs", "--json"]).ok().json();
    let owner = jobs["jobs"][0]["owner"].as_str().unwrap().to_owned();
    assert_eq!(count(&["jobs", "--owner", &owner], "jobs"), 1);
    assert_eq!(count(&["jobs", "--owner", "nobody"], "jobs"), 0);
    assert_eq!(count(&["jobs", "--state", "running"], "jobs"), 1);
    assert_eq!(count(&["jobs", "--state", "finished"], "jobs"), 0);
    assert_eq!(count(&["workers", "--owner", &owner], "workers"), 1);
    assert_eq!(count(&["workers", "--owner", "nobody"], "workers"), 0);
    assert_eq!(count(&["workers", "--state", "up"], "workers"), 1);
    assert_eq!(count(&["workers", "--state", "draining"], "workers"), 0);
    let single = format!("{}.0", lab.job_name());
    lab.dewar(&["tasks", &single, "--state", "failed"])
        .fails(2, &["one task", "dewar tasks"]);
}

/// A child that watches, with its output in pipes.
fn watching(lab: &Lab, words: &[&str]) -> std::process::Child {
    let mut command = command();
    command
        .args(words)
        .env("DEWAR_BROKER", lab.address())
        .env("DEWAR_TOKEN", lab.token())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn watching_prints_a_document_a_line_until_it_is_interrupted() {
    use std::io::{BufRead as _, BufReader};
    let lab = Lab::start();
    for verb in [
        &["status"][..],
        &["jobs"],
        &["workers"],
        &["tasks", &lab.job_name()],
    ] {
        let words = [verb, &["--json", "--watch", "0.1"]].concat();
        let mut child = watching(&lab, &words);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            let line = lines.next().unwrap().unwrap();
            let document: Value = serde_json::from_str(&line).unwrap();
            assert!(document.is_object(), "{line}");
        }
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        // Whoever reads on hears the end.
        for line in lines {
            line.unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(0), "{words:?}");
    }
}

#[test]
fn watching_ends_when_nobody_reads_any_more() {
    use std::io::{BufRead as _, BufReader};
    let lab = Lab::start();
    let mut child = watching(&lab, &["jobs", "--watch", "0.1"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("Ctrl-C ends"), "{first}");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
