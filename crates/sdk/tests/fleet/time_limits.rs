//! Tries that take longer than they may, while no broker is there to say so.

use crate::{
    kinds::{Await, Deaf, Trouble},
    lab::{Lab, Process, next, start_broker, until, within},
    losses::{ended, spawn_worker, terminate},
};
use dewar_sdk::{FailureClass, NewTask, TaskResult};
use std::{
    env,
    process::{Command, Stdio},
    time::Duration,
};

/// Set in the process that [`broker_process`] is for.
const BROKER_FOLDER: &str = "DEWAR_TEST_BROKER_FOLDER";

/// Long enough for the broker to be killed before it is over.
const LIMIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_while_the_broker_is_dead_and_for_a_deaf_kernel_too() {
    let mut lab = Lab::open().await;
    let address = lab.broker.address();
    lab.broker.stop();
    lab.broker.wait().await.unwrap();
    let mut broker = spawn_broker(&lab);
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let folder = Trouble { message };
    let limited = |task: NewTask| task.attempts_max(1).time_limit(LIMIT);
    let tasks = vec![
        limited(NewTask::new::<Await>(&folder, vec![])),
        limited(NewTask::new::<Deaf>(&folder, vec![])),
    ];
    job.submit_all(tasks).await.unwrap();
    let mut worker = spawn_worker(&lab, 2);
    let have_begun = || ["begun", "deaf"].map(|name| lab.path(name).exists());
    until("both run", || have_begun() == [true; 2]).await;
    broker.kill().unwrap();
    broker.wait().unwrap();
    assert!(!lab.path("stopped").exists(), "the broker was too slow");

    until("it is told to stop", || lab.path("stopped").exists()).await;
    until("both reports are on disk", || kept_count(&lab) == 2).await;
    lab.broker = start_broker(lab.folder.path(), address).await;
    let mut outcomes = job.outcomes();
    for _ in 0..2 {
        let outcome = next(&mut outcomes).await;
        let TaskResult::Failed(failure) = outcome.result else {
            panic!("{outcome:?}");
        };
        assert_eq!(failure.class, FailureClass::TimedOut);
        assert!(failure.message.contains("limit of 2000 ms"));
    }
    terminate(&worker);
    assert!(within("the worker", ended(&mut worker)).await.success());
}

/// Reports on disk of tries that were out of time.
fn kept_count(lab: &Lab) -> usize {
    let folders = std::fs::read_dir(lab.path("killed-cache/results")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let reports = files.map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default());
    let words = b"after its limit";
    let said = |report: Vec<u8>| {
        let places = report.windows(words.len());
        places.filter(|place| place == words).count()
    };
    reports.map(said).sum()
}

/// The lab's broker in a process that can be killed.
fn spawn_broker(lab: &Lab) -> Process {
    let process = Command::new(env::current_exe().unwrap())
        .args(["time_limits::broker_process", "--exact", "--nocapture"])
        .env(BROKER_FOLDER, lab.folder.path())
        .env("DEWAR_TEST_BROKER_LISTEN", lab.broker.address().to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(process)
}

/// Not a test of its own: what [`spawn_broker`] runs.
#[test]
fn broker_process() {
    let Ok(folder) = env::var(BROKER_FOLDER) else {
        return;
    };
    let listen = env::var("DEWAR_TEST_BROKER_LISTEN").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut broker = start_broker(folder.as_ref(), listen.parse().unwrap()).await;
        broker.wait().await.unwrap();
    });
}
