//! What tasks come to when brokers and workers are lost on the way.

use crate::{
    kinds::{self, Await, Echo, EchoParameters, Trouble},
    lab::{Lab, start_broker, until, within, worker_config},
};
use dewar_sdk::{Client, ConnectError, ConnectOptions, Link};
use dewar_worker::Worker;
use std::{
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Set in the process that [`worker_process`] is for.
const WORKER_BROKER: &str = "DEWAR_TEST_WORKER_BROKER";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_broker_costs_nothing() {
    let mut lab = Lab::open().await;
    let _worker = lab.worker(1);
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let parameters = Trouble { message };
    job.submit::<Await>(&parameters, vec![]).await.unwrap();
    let mut outcomes = job.outcomes();
    until("the kernel runs", || lab.path("begun").exists()).await;
    std::fs::remove_file(lab.path("begun")).unwrap();

    let address = lab.broker.address();
    lab.broker.stop();
    lab.broker.wait().await.unwrap();
    // The result comes while nobody is there to take it.
    std::fs::write(lab.path("go"), "").unwrap();
    let mut link = job.client().link();
    let waiting = tokio::spawn(async move { outcomes.next().await.unwrap().unwrap() });
    let away = link.wait_for(|link| matches!(link, Link::Away { .. }));
    within("word of the absence", away).await.unwrap();

    lab.broker = start_broker(lab.folder.path(), address).await;
    let outcome = within("the outcome", waiting).await.unwrap();
    outcome.output::<Await>().unwrap();
    assert!(!lab.path("begun").exists(), "the work was done once");
    // And the same customer goes on.
    job.submit::<Echo>(&EchoParameters::default(), vec![])
        .await
        .unwrap();
    let next = within("the next outcome", job.outcomes_after(1).next()).await;
    next.unwrap().unwrap().output::<Echo>().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_costs_its_running_tasks_and_no_more() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let parameters = Trouble { message };
    job.submit::<Await>(&parameters, vec![]).await.unwrap();

    let mut first = spawn_worker(&lab);
    until("the kernel runs", || lab.path("begun").exists()).await;
    first.kill().unwrap();
    first.wait().unwrap();
    std::fs::write(lab.path("go"), "").unwrap();
    let _second = lab.worker(1);
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    let outcome = outcome.unwrap();
    outcome.output::<Await>().unwrap();
    let page = job
        .client()
        .tasks(job.id(), Default::default())
        .await
        .unwrap();
    assert_eq!(page.tasks[0].attempts_begun, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_hands_back_at_once() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let parameters = Trouble { message };
    job.submit::<Await>(&parameters, vec![]).await.unwrap();
    let mut first = lab.worker(1);
    until("the kernel runs", || lab.path("begun").exists()).await;
    first.stop();
    within("the worker", first.wait()).await.unwrap();
    assert!(lab.path("stopped").exists());

    std::fs::write(lab.path("go"), "").unwrap();
    let _second = lab.worker(1);
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    outcome.unwrap().output::<Await>().unwrap();
}

#[tokio::test]
async fn a_broker_that_never_answers_is_not_waited_for() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let options = ConnectOptions {
        reach_within: Duration::from_millis(300),
        ..Default::default()
    };
    let client = Client::connect_with(&address, "me.0123".parse().unwrap(), options).await;
    let Err(ConnectError::NotReached { reason, .. }) = client else {
        panic!("{client:?}");
    };
    assert!(reason.contains("refused"), "{reason}");
}

fn spawn_worker(lab: &Lab) -> Child {
    let broker = lab.broker.address().to_string();
    Command::new(env::current_exe().unwrap())
        .args(["losses::worker_process", "--exact", "--nocapture"])
        .env(WORKER_BROKER, broker)
        .env("DEWAR_TEST_WORKER_TOKEN", lab.broker.token())
        .env("DEWAR_TEST_WORKER_CACHE", lab.path("killed-cache"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what [`spawn_worker`] runs, in a process that can be killed.
#[test]
fn worker_process() {
    let Ok(broker) = env::var(WORKER_BROKER) else {
        return;
    };
    let token = env::var("DEWAR_TEST_WORKER_TOKEN").unwrap();
    let cache = env::var("DEWAR_TEST_WORKER_CACHE").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = worker_config(&broker, &token, cache.into(), 1);
        let mut worker = Worker::start(config, kinds::registry()).unwrap();
        worker.wait().await.unwrap();
    });
}
