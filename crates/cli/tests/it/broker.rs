//! Verbs that talk to a broker.

use crate::{
    dewar::{command, ran, word},
    lab::{Lab, SLOTS, TASKS},
};

#[test]
fn a_running_job_is_shown_from_every_side() {
    let lab = Lab::start();

    let status = lab.status();
    assert_eq!(
        (&status["worker_count"], &status["slot_count"]),
        (&1.into(), &SLOTS.into())
    );
    let count = |name: &str| status[name].as_u64().unwrap();
    assert_eq!(
        count("running_count") + count("waiting_count"),
        TASKS as u64
    );
    let text = lab.dewar(&["status"]).ok().stdout;
    assert!(
        text.contains(" running, ") && text.contains(lab.address()),
        "{text}"
    );

    let jobs = lab.dewar(&["jobs", "--json"]).ok().json();
    let job = &jobs["jobs"][0];
    assert_eq!(
        (&job["name"], &job["state"]),
        (&"hold the line".into(), &"running".into())
    );
    assert_eq!(job["task_count"], TASKS as u64);
    let text = lab.dewar(&["jobs"]).ok().stdout;
    assert!(
        text.starts_with("JOB ")
            && text.contains("hold the line")
            && text.contains(&format!("0/{TASKS}")),
        "{text}"
    );

    let tasks = lab.dewar(&["tasks", &lab.job_name(), "--json"]).ok().json();
    assert_eq!(tasks["tasks"].as_array().map(Vec::len), Some(TASKS));
    let first = &tasks["tasks"][0];
    assert_eq!(
        (&first["kind"], &first["state"]),
        (&"test.hold/1".into(), &"running".into())
    );
    let waiting = lab
        .dewar(&["tasks", &lab.job_name(), "--state", "waiting", "--json"])
        .ok()
        .json();
    let waiting = waiting["tasks"].as_array().unwrap();
    assert!(!waiting.is_empty() && waiting.len() <= TASKS - usize::from(SLOTS));
    assert!(waiting.iter().all(|task| task["state"] == "waiting"));

    let workers = lab.dewar(&["workers", "--json"]).ok().json();
    let worker = &workers["workers"][0];
    assert_eq!(
        (&worker["state"], &worker["kinds"][0]),
        (&"up".into(), &"test.hold/1".into())
    );
    let text = lab.dewar(&["workers"]).ok().stdout;
    assert!(
        text.starts_with("WORKER ") && text.contains(&format!("/{SLOTS}")),
        "{text}"
    );
}

#[test]
fn long_lists_come_in_pages() {
    let lab = Lab::start();
    let page = |from: &str| {
        lab.dewar(&[
            "tasks",
            &lab.job_name(),
            "--from",
            from,
            "--limit",
            "2",
            "--json",
        ])
        .ok()
        .json()
    };
    let indices = |page: &serde_json::Value| -> Vec<u64> {
        page["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["index"].as_u64().unwrap())
            .collect()
    };
    let (first, last) = (page("0"), page("8"));
    assert_eq!(
        (indices(&first), first["next_index"].as_u64()),
        (vec![0, 1], Some(2))
    );
    assert_eq!(
        (indices(&last), last["next_index"].as_u64()),
        (vec![8], None)
    );
    let told = lab.dewar(&["tasks", &lab.job_name(), "--limit", "2"]).ok();
    assert!(told.stderr.contains("--from 2"), "{told:?}");
}

#[test]
fn a_cancelled_job_stops() {
    let lab = Lab::start();
    let cancelled = lab
        .dewar(&["cancel", &lab.job_name(), "--json"])
        .ok()
        .json();
    assert_eq!(cancelled["cancelled"][0]["number"], lab.job.number());
    lab.wait_until("nothing runs", |lab| lab.status()["running_count"] == 0);
    let jobs = lab.dewar(&["jobs", "--json"]).ok().json();
    assert_eq!(jobs["jobs"][0]["cancelled_count"], TASKS as u64);
    let none = lab.dewar(&["jobs", "--unfinished"]).ok();
    assert_eq!(none.stdout, "no jobs\n");
}

#[test]
fn all_jobs_are_cancelled_without_a_question_where_nobody_can_answer() {
    let lab = Lab::start();
    let told = lab.dewar(&["cancel", "--all"]).ok();
    assert_eq!(
        told.stdout,
        format!(
            "{} hold the line: {TASKS} tasks cancelled\n",
            lab.job_name()
        )
    );
    assert_eq!(
        lab.dewar(&["cancel", "--all", "--yes"]).ok().stdout,
        "no unfinished jobs\n"
    );
}

#[test]
fn single_tasks_are_cancelled_and_run_again() {
    let lab = Lab::start();
    let job = lab.job_name();
    let tasks = [format!("{job}.0"), format!("{job}.8")];
    let cancel = ["cancel", &tasks[0], &tasks[1], "--json"];
    let told = lab.dewar(&cancel).ok().json();
    assert_eq!(
        told,
        serde_json::json!({ "cancelled": [], "task_count": 2 })
    );
    let cancelled = || {
        let words = ["tasks", &job, "--state", "cancelled", "--json"];
        lab.dewar(&words).ok().json()["tasks"].clone()
    };
    let indices = |tasks: &serde_json::Value| -> Vec<u64> {
        let tasks = tasks.as_array().unwrap().iter();
        tasks.filter_map(|task| task["index"].as_u64()).collect()
    };
    assert_eq!(indices(&cancelled()), [0, 8]);

    let told = lab.dewar(&["rerun", &tasks[0]]).ok();
    assert_eq!(told.stdout, "1 tasks of 1 jobs run again\n");
    let told = lab.dewar(&["rerun", &job, "--json"]).ok().json();
    let expected = serde_json::json!({ "job_count": 1, "task_count": 1, "skipped": [] });
    assert_eq!(told, expected);
    assert_eq!(indices(&cancelled()), [0_u64; 0]);
    let told = lab.dewar(&["tasks", &job, "--from", "8"]).ok().stdout;
    assert!(told.contains("rerun, generation 1"), "{told}");
    let told = lab.dewar(&["rerun", "--all", "--succeeded"]).ok().stdout;
    assert_eq!(told, "nothing to run again\n");
}

#[test]
fn an_owners_jobs_are_cancelled_and_run_again() {
    let lab = Lab::start();
    let jobs = lab.dewar(&["jobs", "--json"]).ok().json();
    let owner = jobs["jobs"][0]["owner"].as_str().unwrap();
    let nobody = lab.dewar(&["cancel", "--owner", "nobody"]).ok();
    assert_eq!(nobody.stdout, "no unfinished jobs\n");
    let told = lab.dewar(&["cancel", "--owner", owner, "--json"]).ok();
    assert_eq!(told.json()["cancelled"][0]["number"], lab.job.number());
    let told = lab.dewar(&["rerun", "--owner", owner, "--json"]).ok();
    assert_eq!(told.json()["task_count"], TASKS as u64);
    lab.wait_until("every slot works again", |lab| {
        lab.status()["running_count"].as_u64() >= Some(SLOTS.into())
    });
}

#[test]
fn what_holds_the_work_up_is_said() {
    let lab = Lab::start();
    lab.submit_what_waits();
    let words = ["tasks", &lab.job_name(), "--from", "9", "--json"];
    let tasks = lab.dewar(&words).ok().json();
    let large = &tasks["tasks"][0];
    assert_eq!(large["key"], "the large one");
    assert_eq!(
        tasks["tasks"][1]["waits_for"],
        serde_json::json!([large["index"]])
    );
    let words = ["tasks", &lab.job_name(), "--from", "9"];
    let text = lab.dewar(&words).ok().stdout;
    assert!(
        text.contains("the large one") && text.contains("waits for 9"),
        "{text}"
    );
    let text = lab.dewar(&["jobs"]).ok().stdout;
    assert!(
        text.contains("blocked") && text.contains("a task needs 4096 slots"),
        "{text}"
    );
}

#[test]
fn a_drained_worker_takes_nothing_new() {
    let lab = Lab::start();
    let told = lab.dewar(&["drain", "--all", "--json"]).ok().json();
    assert_eq!(told["drained"], serde_json::json!(["embedded"]));
    lab.wait_until("the worker drains", |lab| {
        lab.dewar(&["workers", "--json"]).ok().json()["workers"][0]["state"] == "draining"
    });
    assert_eq!(
        lab.status()["running_count"],
        u64::from(SLOTS),
        "what runs is finished"
    );
}

#[test]
fn names_that_are_not_there_are_code_2() {
    let lab = Lab::start();
    lab.dewar(&["tasks", "j4711"])
        .fails(2, &["4711", "try: dewar jobs"]);
    lab.dewar(&["cancel", "j4711"]).fails(2, &["4711"]);
    lab.dewar(&["rerun", "j4711"]).fails(2, &["4711"]);
    let task = format!("{}.4711", lab.job_name());
    lab.dewar(&["cancel", &task]).fails(2, &[&task, "no task"]);
    lab.dewar(&["rerun", &task]).fails(2, &[&task, "no task"]);
    lab.dewar(&["drain", "nobody"]).fails(2, &["nobody"]);
}

#[test]
fn a_wrong_token_is_code_2() {
    let lab = Lab::start();
    let mut status = command();
    status
        .args(["status", "--broker", lab.address()])
        .env("DEWAR_TOKEN", "me.wrong");
    ran(&mut status).fails(2, &["token"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{}\n", lab.token())).unwrap();
    let mut status = command();
    status.args([
        "status",
        "--broker",
        lab.address(),
        "--token-file",
        word(&file),
    ]);
    ran(&mut status).ok();
}
