//! The codes scripts rely on, one table. Code 0 and the codes of verbs that do work are met in the other files.

use crate::dewar::{command, dewar, ran};
use std::{fs, net::TcpListener};

#[test]
fn a_wrong_command_line_is_code_2() {
    for words in [
        &["melt"][..],
        &["info"],
        &["status", "--colour"],
        &["cancel"],
        &["cancel", "j7", "--all"],
        &["cancel", "seven"],
        &["cancel", "j7.x"],
        &["rerun"],
        &["rerun", "j7", "--owner", "anna"],
        &["precache"],
        &["tasks", "j7", "--state", "lost"],
        &[
            "refine",
            "a.star",
            "--reference",
            "b.mrc",
            "--out",
            "c",
            "--parallel",
            "mpi:4",
        ],
        &[
            "refine",
            "a.star",
            "--reference",
            "b.mrc",
            "--out",
            "c",
            "--symmetry",
            "X9",
        ],
        &["simulate", "--out", "x", "--pixel-size", "-1"],
        &["fsc", "one.mrc"],
    ] {
        let ran = dewar(words);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(2), ""),
            "{words:?}: {ran:?}"
        );
        assert!(ran.stderr.starts_with("error: "), "{words:?}: {ran:?}");
    }
}

#[test]
fn a_missing_input_is_code_2() {
    dewar(["info", "nowhere.mrc"]).fails(2, &["nowhere.mrc", "No such file"]);
    dewar(["fsc", "nowhere.mrc", "nowhere.mrc"]).fails(2, &["nowhere.mrc"]);
    dewar(["compare", "a.star", "b.star"]).fails(2, &["a.star"]);
    dewar(["precache", "nowhere.mrcs"]).fails(2, &["nowhere.mrcs", "No such file"]);
    dewar(["precache", "/proc"]).fails(2, &["/proc is no file"]);
    dewar(["simulate", "nowhere.mrc", "--out", "nowhere"]).fails(2, &["nowhere.mrc"]);
    dewar([
        "refine",
        "a.star",
        "--reference",
        "b.mrc",
        "--out",
        "/proc/nowhere",
    ])
    .fails(2, &["a.star"]);
}

#[test]
fn no_token_is_code_2_and_says_where_one_is_looked_for() {
    dewar(["status"]).fails(2, &["no token", "--token-file", "DEWAR_TOKEN"]);
    dewar(["status", "--token-file", "/nowhere/token"]).fails(2, &["/nowhere/token"]);
    ran(command().arg("status").env("DEWAR_TOKEN", "not a token")).fails(2, &["token"]);
}

#[test]
fn a_broker_that_is_not_there_is_code_3() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let mut status = command();
    status
        .args(["status", "--broker", &address])
        .env("DEWAR_TOKEN", "me.secret");
    ran(&mut status).fails(3, &["broker at", &address, "not reached", "dewar-broker"]);
}

#[test]
fn a_broker_address_without_a_port_is_code_2() {
    ran(command()
        .args(["status", "--broker", "titan"])
        .env("DEWAR_TOKEN", "me.secret"))
    .fails(2, &["titan", "HOST:PORT"]);
}

#[test]
fn work_that_cannot_be_written_is_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let out = file.join("set");
    dewar([
        "simulate",
        "--particles",
        "1",
        "--out",
        out.to_str().unwrap(),
    ])
    .fails(1, &["cannot make the folder"]);
}

#[test]
fn the_configuration_file_sets_what_flags_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("dewar.toml");
    fs::write(&config, "broker = \"titan\"\n").unwrap();
    let mut status = command();
    status
        .args(["status", "--config", config.to_str().unwrap()])
        .env("DEWAR_TOKEN", "me.secret");
    ran(&mut status).fails(2, &["titan", "HOST:PORT"]);
    fs::write(&config, "brokr = \"titan\"\n").unwrap();
    ran(&mut status).fails(2, &["dewar.toml", "brokr"]);
}

/// Verbs that need a broker, with words that are right.
const BROKER_VERBS: [&[&str]; 8] = [
    &["status"],
    &["jobs"],
    &["tasks", "j7"],
    &["tasks", "j7.42"],
    &["workers"],
    &["cancel", "j7"],
    &["rerun", "j7"],
    &["drain", "--all", "--yes"],
];

#[test]
fn every_verb_says_what_to_try_where_no_broker_is_and_no_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    // At the same time, since each waits for a broker that may be about to start.
    std::thread::scope(|scope| {
        for words in BROKER_VERBS {
            let address = &address;
            scope.spawn(move || {
                dewar(words).fails(2, &["no token", "try: dewar doctor"]);
                let mut lost = command();
                lost.args(words)
                    .args(["--broker", address])
                    .env("DEWAR_TOKEN", "me.secret");
                ran(&mut lost).fails(3, &["not reached", "try: dewar doctor"]);
            });
        }
    });
}

#[test]
fn words_in_the_wrong_order_are_told_with_the_right_one() {
    let told = |words: &[&str], tip: &str| {
        let ran = dewar(words);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(tip), "no {tip:?} in {ran:?}");
    };
    told(&["--json", "status"], "status --json");
    told(&["j7", "tasks"], "try '--help'");
    told(&["stauts"], "status");
    told(&["jobs", "--sate", "open"], "--state");
    told(&["jobs", "--state", "opne"], "open");
    told(&["tasks"], "<JOB[.TASK]>");
    told(&["tasks", "--watch", "j7"], "number of seconds");
}
