//! What tasks come to when brokers and workers are lost on the way.

use crate::{
    kinds::{self, Await, AwaitLarge, Echo, EchoParameters, LARGE_BYTES, Trouble},
    lab::{Lab, Process, start_broker, until, within, worker_config},
};
use dewar_sdk::{Client, ConnectError, ConnectOptions, JobOptions, Link, NewTask};
use dewar_worker::{RunningError, StuckKernel, Worker};
use std::{
    env,
    net::SocketAddr,
    path::Path,
    process::{Command, ExitStatus, Stdio},
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

    let mut first = spawn_worker(&lab, 1);
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

/// The work is done while the broker is away; then the worker dies too, by a kill or in good order.
async fn results_outlive_both(kill: impl AsyncFnOnce(Process)) {
    let mut lab = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let folder = Trouble { message };
    job.submit::<Await>(&folder, vec![]).await.unwrap();
    job.submit::<AwaitLarge>(&folder, vec![]).await.unwrap();
    let mut outcomes = job.outcomes();
    let first = spawn_worker(&lab, 2);
    let have_begun = || ["begun", "begun-large"].map(|name| lab.path(name).exists());
    until("both run", || have_begun() == [true; 2]).await;

    let address = lab.broker.address();
    lab.broker.stop();
    lab.broker.wait().await.unwrap();
    for (go, reports_count) in [("go", 1), ("go-large", 2)] {
        std::fs::write(lab.path(go), "").unwrap();
        until("the result is on disk", || {
            let names = names_in_results(&lab);
            names
                .iter()
                .filter(|name| name.ends_with(".reports"))
                .count()
                == reports_count
        })
        .await;
    }
    kill(first).await;
    for name in ["begun", "begun-large"] {
        std::fs::remove_file(lab.path(name)).unwrap();
    }

    lab.broker = start_broker(lab.folder.path(), address).await;
    let mut second = spawn_worker(&lab, 2);
    for _ in 0..2 {
        let outcome = within("an outcome", outcomes.next()).await.unwrap();
        let outcome = outcome.unwrap();
        match outcome.index.0 {
            0 => drop(outcome.output::<Await>().unwrap()),
            _ => {
                let output = outcome.output::<AwaitLarge>().unwrap();
                let blob = job.read_blob(&output.blobs[0]).await.unwrap();
                assert!(blob == kinds::pattern(LARGE_BYTES));
            }
        }
    }
    let have_begun = ["begun", "begun-large"].map(|name| lab.path(name).exists());
    assert_eq!(have_begun, [false; 2], "the work was done once");
    until("nothing is kept", || names_in_results(&lab) == ["lock"]).await;
    second.kill().unwrap();
    second.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_outlive_an_absent_broker_and_a_killed_worker() {
    results_outlive_both(async |mut worker| {
        worker.kill().unwrap();
        worker.wait().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_outlive_an_absent_broker_and_a_stopped_worker() {
    results_outlive_both(async |mut worker| {
        terminate(&worker);
        assert!(ended(&mut worker).await.success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_wait_for_their_own_broker() {
    let mut lab = Lab::open().await;
    let other = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    job.submit::<Await>(&Trouble { message }, vec![])
        .await
        .unwrap();
    let mut first = lab.worker(1);
    until("the kernel runs", || lab.path("begun").exists()).await;
    let address = lab.broker.address();
    lab.broker.stop();
    lab.broker.wait().await.unwrap();
    std::fs::write(lab.path("go"), "").unwrap();
    until("the result is on disk", || kept_count(&lab) == 1).await;
    first.stop();
    within("the worker", first.wait()).await.unwrap();
    std::fs::remove_file(lab.path("begun")).unwrap();

    // The same machine works for another broker meanwhile, with the same cache folder.
    let elsewhere = dewar_worker::Config {
        cache_dir: lab.path("cache"),
        ..other.worker_config(1)
    };
    let mut second = Worker::start(elsewhere, kinds::registry()).unwrap();
    let side_job = other.job().await;
    side_job
        .submit::<Echo>(&EchoParameters::default(), vec![])
        .await
        .unwrap();
    let outcome = within("an outcome", side_job.outcomes().next()).await;
    outcome.unwrap().unwrap().output::<Echo>().unwrap();
    second.stop();
    within("the worker", second.wait()).await.unwrap();
    assert_eq!(kept_count(&lab), 1, "it is still there");

    lab.broker = start_broker(lab.folder.path(), address).await;
    let _third = lab.worker(1);
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    outcome.unwrap().output::<Await>().unwrap();
    assert!(!lab.path("begun").exists(), "the work was done once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_follow_their_broker_to_another_address() {
    let mut lab = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    job.submit::<Await>(&Trouble { message }, vec![])
        .await
        .unwrap();
    let mut first = spawn_worker(&lab, 1);
    until("the kernel runs", || lab.path("begun").exists()).await;
    lab.broker.stop();
    lab.broker.wait().await.unwrap();
    std::fs::write(lab.path("go"), "").unwrap();
    let is_kept = || {
        names_in_results(&lab)
            .iter()
            .any(|name| name.ends_with(".reports"))
    };
    until("the result is on disk", is_kept).await;
    terminate(&first);
    assert!(ended(&mut first).await.success());
    // Whoever computes it again waits for ever.
    std::fs::remove_file(lab.path("go")).unwrap();

    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    lab.broker = start_broker(lab.folder.path(), any_port).await;
    let mut second = spawn_worker(&lab, 1);
    let moved = JobOptions {
        id: Some(job.id()),
        ..JobOptions::named("test")
    };
    let moved = lab.job_with(moved).await;
    let outcome = within("the outcome", moved.outcomes().next()).await;
    outcome.unwrap().unwrap().output::<Await>().unwrap();
    terminate(&second);
    assert!(ended(&mut second).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_broker_at_the_same_address_gets_nothing_of_it() {
    let mut lab = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    job.submit::<Await>(&Trouble { message }, vec![])
        .await
        .unwrap();
    let config = dewar_worker::Config {
        cache_dir: lab.path("killed-cache"),
        ..lab.worker_config(1)
    };
    let mut worker = Worker::start(config, kinds::registry()).unwrap();
    until("the kernel runs", || lab.path("begun").exists()).await;
    let address = lab.broker.address();
    lab.broker.stop();
    lab.broker.wait().await.unwrap();
    std::fs::write(lab.path("go"), "").unwrap();
    let is_kept = || {
        names_in_results(&lab)
            .iter()
            .any(|name| name.ends_with(".reports"))
    };
    until("the result is on disk", is_kept).await;
    std::fs::remove_file(lab.path("go")).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(elsewhere.path().join("exported")).unwrap();
    std::fs::create_dir_all(elsewhere.path().join("broker")).unwrap();
    let token = |folder: &Path| folder.join("broker/token");
    std::fs::copy(token(lab.folder.path()), token(elsewhere.path())).unwrap();
    let mut other = start_broker(elsewhere.path(), address).await;
    let ended = within("the worker", worker.wait()).await;
    assert!(
        matches!(ended, Err(RunningError::OtherBroker { .. })),
        "{ended:?}"
    );
    other.stop();
    other.wait().await.unwrap();

    assert!(is_kept(), "it is still there");
    lab.broker = start_broker(lab.folder.path(), address).await;
    let mut second = spawn_worker(&lab, 1);
    let outcome = within("the outcome", job.outcomes().next()).await;
    outcome.unwrap().unwrap().output::<Await>().unwrap();
    terminate(&second);
    assert!(self::ended(&mut second).await.success());
}

/// Files of reports of the workers in this process.
fn kept_count(lab: &Lab) -> usize {
    let folders = std::fs::read_dir(lab.path("cache/results")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let names = files.map(|file| file.unwrap().file_name());
    names
        .filter(|name| name.as_encoded_bytes().ends_with(b".reports"))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_process_hands_back_and_ends_well() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    // Its only try: a charge would end it.
    let task = NewTask::new::<Await>(&Trouble { message }, vec![]).attempts_max(1);
    job.submit_all(vec![task]).await.unwrap();
    let mut first = spawn_worker(&lab, 1);
    until("the kernel runs", || lab.path("begun").exists()).await;
    terminate(&first);
    assert!(ended(&mut first).await.success());
    assert!(lab.path("stopped").exists());
    assert_eq!(
        names_in_results(&lab),
        [""; 0],
        "an identity without results ends"
    );

    std::fs::write(lab.path("go"), "").unwrap();
    let _second = lab.worker(1);
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    outcome.unwrap().output::<Await>().unwrap();
}

/// Names of all files of the only worker's results.
fn names_in_results(lab: &Lab) -> Vec<String> {
    let folders = std::fs::read_dir(lab.path("killed-cache/results")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    let folders = folders.filter(|folder| !folder.ends_with("brokers"));
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}

pub fn terminate(worker: &Process) {
    let pid = rustix::process::Pid::from_child(worker);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

pub async fn ended(worker: &mut Process) -> ExitStatus {
    let mut status = None;
    until("the worker ends", || {
        status = worker.try_wait().unwrap();
        status.is_some()
    })
    .await;
    status.unwrap()
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

pub fn spawn_worker(lab: &Lab, slot_count: u16) -> Process {
    let broker = lab.broker.address().to_string();
    let process = Command::new(env::current_exe().unwrap())
        .args(["losses::worker_process", "--exact", "--nocapture"])
        .env(WORKER_BROKER, broker)
        .env("DEWAR_TEST_WORKER_TOKEN", lab.broker.token())
        .env("DEWAR_TEST_WORKER_CACHE", lab.path("killed-cache"))
        .env("DEWAR_TEST_WORKER_SLOTS", slot_count.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(process)
}

/// Not a test of its own: what [`spawn_worker`] runs, in a process that can be killed.
#[test]
fn worker_process() {
    let Ok(broker) = env::var(WORKER_BROKER) else {
        return;
    };
    let token = env::var("DEWAR_TEST_WORKER_TOKEN").unwrap();
    let cache = env::var("DEWAR_TEST_WORKER_CACHE").unwrap();
    let slot_count = env::var("DEWAR_TEST_WORKER_SLOTS").unwrap();
    let slot_count = slot_count.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = dewar_worker::Config {
            stuck: StuckKernel::End,
            ..worker_config(&broker, &token, cache.into(), slot_count)
        };
        let mut worker = Worker::start(config, kinds::registry()).unwrap();
        match worker.serve_until_signalled().await {
            Ok(()) => {}
            Err(error) => match error.anew_as(worker.worker_id()) {
                Some(worker_id) => panic!("{}", dewar_worker::begin_anew(worker_id)),
                None => panic!("{error}"),
            },
        }
    });
}
