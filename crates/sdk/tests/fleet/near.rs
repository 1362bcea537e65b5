//! Results that stay at workers, two of them each, and that the broker's link does not carry.

use crate::{
    kinds::{self, Echo, EchoParameters, pattern},
    lab::{Lab, Process, next, start_broker, until, within, worker_config},
    swarm::{admin, cache, machine, precache, until_reached, workers},
};
use dewar_broker::NearPatience;
use dewar_proto::v1;
use dewar_sdk::{BlobRef, Input, Job, NewTask, TaskIndex};
use dewar_worker::{Config, DataConfig, ResultsAt, Running, Worker};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const MIB: u64 = 1 << 20;

/// Set in the process that [`keeper_process`] is for.
const KEEPER_BROKER: &str = "DEWAR_TEST_KEEPER_BROKER";

fn keeper_config(broker: &str, token: &str, cache: PathBuf, host: u8) -> Config {
    Config {
        name: format!("1.{host}"),
        data: Some(DataConfig {
            listen: Some(([127, 0, 1, host], 0).into()),
            ..Default::default()
        }),
        results: ResultsAt::Near { bytes_max: 1 << 30 },
        ..worker_config(broker, token, cache, 1)
    }
}

/// A worker that keeps results, on a machine of its own.
fn keeper(lab: &Lab, host: u8) -> Running {
    keeper_with(lab, host, ResultsAt::Near { bytes_max: 1 << 30 })
}

fn keeper_with(lab: &Lab, host: u8, results: ResultsAt) -> Running {
    let broker = lab.broker.address().to_string();
    let config = Config {
        results,
        ..keeper_config(&broker, lab.broker.token(), cache(lab, 1, host), host)
    };
    Worker::start(config, kinds::registry()).unwrap()
}

/// The same as a process that can be killed.
fn spawn_keeper(lab: &Lab, host: u8) -> Process {
    let broker = lab.broker.address().to_string();
    let spawned = Command::new(env::current_exe().unwrap())
        .args(["near::keeper_process", "--exact", "--nocapture"])
        .env(KEEPER_BROKER, broker)
        .env("DEWAR_TEST_KEEPER_TOKEN", lab.broker.token())
        .env("DEWAR_TEST_KEEPER_CACHE", cache(lab, 1, host))
        .env("DEWAR_TEST_KEEPER_HOST", host.to_string())
        .stdout(Stdio::null())
        .spawn();
    Process(spawned.unwrap())
}

/// Not a test of its own: what [`spawn_keeper`] runs.
#[test]
fn keeper_process() {
    let Ok(broker) = env::var(KEEPER_BROKER) else {
        return;
    };
    let said = |name: &str| env::var(format!("DEWAR_TEST_KEEPER_{name}")).unwrap();
    let (cache, host) = (said("CACHE").into(), said("HOST").parse().unwrap());
    let config = keeper_config(&broker, &said("TOKEN"), cache, host);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut worker = Worker::start(config, kinds::registry()).unwrap();
        worker.serve_until_signalled().await.unwrap();
    });
}

async fn status(lab: &Lab) -> v1::StatusResponse {
    let status = admin(lab).status(v1::StatusRequest {}).await;
    status.unwrap().into_inner()
}

/// Sizes of the blobs that a folder keeps, in order.
fn kept(cache: &Path) -> Vec<u64> {
    let brokers = fs::read_dir(cache.join("near")).into_iter().flatten();
    let files = brokers.filter_map(|folder| fs::read_dir(folder.unwrap().path()).ok());
    let mut sizes: Vec<_> = files
        .flatten()
        .map(|file| file.unwrap())
        .filter(|file| file.file_name().len() == 64 + 1 + 16)
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .collect();
    sizes.sort_unstable();
    sizes
}

/// Whatever is read of the first input, and a blob of this size.
fn giving(size: u64, reads: Vec<u64>) -> EchoParameters {
    EchoParameters {
        blob_bytes: size,
        reads,
        ..Default::default()
    }
}

/// A task that gives a blob of this size, and the blob.
async fn give(job: &Job, size: u64) -> BlobRef {
    let before = job.status().await.unwrap().outcome_count();
    job.submit::<Echo>(&giving(size, vec![]), vec![])
        .await
        .unwrap();
    let outcome = next(&mut job.outcomes_after(before)).await;
    outcome.output::<Echo>().unwrap().blobs[0]
}

async fn read(job: &Job, blob: &BlobRef) {
    let bytes = within("the blob", job.read_blob(blob)).await.unwrap();
    assert!(bytes == pattern(blob.size_bytes as usize));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tasks_give_one_another_never_crosses_the_brokers_link() {
    let lab = Lab::open().await;
    let _keepers = [keeper(&lab, 2), keeper(&lab, 3)];
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let sizes: Vec<_> = (0..5).map(|n| 3 * MIB + n).collect();
    let tasks = sizes.iter().enumerate().map(|(index, size)| {
        let before = (index as u64).checked_sub(1);
        let inputs = before.map(|before| Input::output_blob(TaskIndex(before), 0));
        let reads = before.map_or(vec![], |before| vec![sizes[before as usize] - 10, 10]);
        NewTask::new::<Echo>(&giving(*size, reads), inputs.into_iter().collect())
    });
    job.submit_all(tasks.collect()).await.unwrap();
    let mut outcomes = job.outcomes();
    let mut blobs = Vec::new();
    for index in 0..sizes.len() {
        let outcome = next(&mut outcomes).await;
        let output = outcome.output::<Echo>().unwrap();
        if let Some(before) = index.checked_sub(1) {
            let size = sizes[before] as usize;
            assert_eq!(output.message.parts[0], pattern(size).slice(size - 10..));
        }
        // Both copies are there as soon as the task counts as done.
        for host in [2, 3] {
            assert!(kept(&cache(&lab, 1, host)).contains(&sizes[index]));
        }
        blobs.push(output.blobs[0]);
    }
    let status = self::status(&lab).await;
    assert_eq!((status.sent_blob_bytes, status.blob_bytes), (0, 0));
    let seen = workers(&lab).await;
    assert!(seen.values().all(|one| one.fetched_from_broker_bytes == 0));

    // A customer reads it through the broker, which keeps nothing of it.
    read(&job, &blobs[4]).await;
    let status = self::status(&lab).await;
    assert_eq!((status.sent_blob_bytes, status.blob_bytes), (sizes[4], 0));
    let unneeded: Vec<_> = blobs[..4].iter().map(|blob| blob.digest).collect();
    job.release(&unneeded).await.unwrap();
    until("what is released is gone", || {
        [2, 3].map(|host| kept(&cache(&lab, 1, host))) == [&sizes[4..], &sizes[4..]]
    })
    .await;
    read(&job, &blobs[4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_keeps_a_second_copy_the_broker_gets_it() {
    let lab = Lab::open().await;
    let _alone = keeper(&lab, 2);
    // This one keeps nothing, and that one has no room.
    let _others = [
        keeper_with(&lab, 3, ResultsAt::Broker),
        keeper_with(&lab, 4, ResultsAt::Near { bytes_max: MIB }),
    ];
    until_reached(&lab, 3).await;
    let job = lab.job().await;
    for n in 0..3 {
        let size = 2 * MIB + n;
        let blob = give(&job, size).await;
        read(&job, &blob).await;
    }
    assert_eq!(status(&lab).await.blob_bytes, 6 * MIB + 3);
    until("what went to the broker is not kept", || {
        (2..5).all(|host| kept(&cache(&lab, 1, host)).is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_keeper_that_is_killed_costs_nothing_and_neither_does_the_broker() {
    let mut lab = Lab::open().await;
    let (first, second) = (spawn_keeper(&lab, 2), spawn_keeper(&lab, 3));
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let blob = give(&job, 3 * MIB).await;
    drop(first);
    read(&job, &blob).await;

    let address = lab.broker.address();
    lab.broker.stop();
    lab.broker.wait().await.unwrap();
    lab.broker = start_broker(lab.folder.path(), address).await;
    read(&job, &blob).await;
    // A worker of another site, and one that keeps nothing, read it as well.
    let _reader = keeper_with(&lab, 4, ResultsAt::Broker);
    drop(second);
    let third = spawn_keeper(&lab, 3);
    let reading = giving(0, vec![3 * MIB - 10, 10]);
    let task = NewTask::new::<Echo>(&reading, vec![Input::whole(blob)]);
    job.submit_all(vec![task]).await.unwrap();
    let outcome = next(&mut job.outcomes_after(1)).await;
    let output = outcome.output::<Echo>().unwrap();
    let end = pattern(3 * MIB as usize).slice(3 * MIB as usize - 10..);
    assert_eq!(output.message.parts[0], end);
    drop(third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_for_now_is_waited_for() {
    let lab = Lab::open().await;
    let keepers = [spawn_keeper(&lab, 2), spawn_keeper(&lab, 3)];
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let blob = give(&job, 3 * MIB).await;
    drop(keepers);
    let waiting = tokio::spawn({
        let job = job.clone();
        async move { job.read_blob(&blob).await.unwrap() }
    });
    until_reached(&lab, 0).await;
    assert!(!waiting.is_finished());
    let again = spawn_keeper(&lab, 3);
    let bytes = within("the blob", waiting).await.unwrap();
    assert!(bytes == pattern(3 * MIB as usize));
    drop(again);
}

/// Gives up workers that keep results almost at once.
const IMPATIENT: NearPatience = NearPatience {
    away_max: Duration::from_millis(100),
    lost_after: Duration::from_millis(200),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_folder_kept_another_gets() {
    let lab = Lab::open_with(IMPATIENT).await;
    let keepers = [spawn_keeper(&lab, 2), spawn_keeper(&lab, 3)];
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let blob = give(&job, 3 * MIB).await;
    let [first, second] = keepers;
    drop(first);
    let third = spawn_keeper(&lab, 4);
    until("a third has it", || kept(&cache(&lab, 1, 4)) == [3 * MIB]).await;
    drop(second);
    read(&job, &blob).await;
    // The first comes back to a blob that has copies enough, once the last is there.
    let second = spawn_keeper(&lab, 3);
    until_reached(&lab, 2).await;
    let first = spawn_keeper(&lab, 2);
    until("two are enough", || {
        let count = (2..5).map(|host| kept(&cache(&lab, 1, host)).len());
        count.sum::<usize>() == 2
    })
    .await;
    read(&job, &blob).await;
    drop((first, second, third));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_have_lost_is_computed_again_for_those_who_need_it() {
    let lab = Lab::open_with(IMPATIENT).await;
    let keepers = [spawn_keeper(&lab, 2), spawn_keeper(&lab, 3)];
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let blob = give(&job, 3 * MIB).await;
    drop(keepers);
    let reading = giving(0, vec![3 * MIB - 10, 10]);
    let task = NewTask::new::<Echo>(&reading, vec![Input::whole(blob)]);
    job.submit_all(vec![task]).await.unwrap();
    let others = [spawn_keeper(&lab, 4), spawn_keeper(&lab, 5)];
    let mut outcomes = job.outcomes_after(1);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let outcome = next(&mut outcomes).await;
        seen.push((outcome.index.0, outcome.generation));
        outcome.output::<Echo>().unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, [(0, 1), (1, 0)]);
    read(&job, &blob).await;

    // Nobody computes for a job that is over.
    job.close().await.unwrap();
    drop(others);
    let lost = within("an answer", async {
        loop {
            if let Err(error) = job.read_blob(&blob).await {
                break error.to_string();
            }
        }
    });
    let lost = lost.await;
    for part in [
        "1.4",
        "1.5",
        "no task of a job that goes on",
        "cache folder",
    ] {
        assert!(lost.contains(part), "{lost}");
    }
}

/// A drained worker's last word.
async fn drain(mut keeper: Running) {
    keeper.drain().await;
    within("the worker to leave", keeper.wait()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drains_leaves_nothing_behind_that_only_it_had() {
    let lab = Lab::open().await;
    let [first, second, third] = [2, 3, 4].map(|host| keeper(&lab, host));
    until_reached(&lab, 3).await;
    let job = lab.job().await;
    let blob = give(&job, 3 * MIB).await;
    let has = |host| kept(&cache(&lab, 1, host)) == [3 * MIB];
    let (keepers, others): (Vec<_>, Vec<_>) = [(2, first), (3, second), (4, third)]
        .into_iter()
        .partition(|(host, _)| has(*host));
    assert_eq!((keepers.len(), others.len()), (2, 1));
    // The third takes the place of the first that goes.
    let mut keepers = keepers.into_iter();
    let (gone, one) = keepers.next().unwrap();
    drain(one).await;
    fs::remove_dir_all(cache(&lab, 1, gone)).unwrap();
    assert!(has(others[0].0));
    assert_eq!(status(&lab).await.blob_bytes, 0);
    read(&job, &blob).await;
    // After that there is nobody but the broker.
    for (gone, one) in keepers.chain(others) {
        drain(one).await;
        fs::remove_dir_all(cache(&lab, 1, gone)).unwrap();
    }
    assert_eq!(status(&lab).await.blob_bytes, 3 * MIB);
    read(&job, &blob).await;
    job.release(&[blob.digest]).await.unwrap();
    let released = async { while status(&lab).await.blob_bytes > 0 {} };
    within("the broker to let it go", released).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_to_stop_hands_over_what_it_can_in_that_time() {
    let lab = Lab::open().await;
    let mut keepers = [spawn_keeper(&lab, 2), spawn_keeper(&lab, 3)];
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let blob = give(&job, 3 * MIB).await;
    for keeper in &keepers {
        let pid = rustix::process::Pid::from_child(keeper);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
    for keeper in &mut keepers {
        assert!(keeper.wait().unwrap().success());
    }
    assert_eq!(status(&lab).await.blob_bytes, 3 * MIB);
    read(&job, &blob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_computed_again_with_what_it_was_made_of() {
    let lab = Lab::open_with(IMPATIENT).await;
    let keepers = [spawn_keeper(&lab, 2), spawn_keeper(&lab, 3)];
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let part = give(&job, 2 * MIB).await;
    let summing = giving(3 * MIB, vec![2 * MIB - 10, 10]);
    let inputs = vec![Input::output_blob(TaskIndex(0), 0)];
    let sum = NewTask::new::<Echo>(&summing, inputs);
    job.submit_all(vec![sum]).await.unwrap();
    let outcome = next(&mut job.outcomes_after(1)).await;
    let sum = outcome.output::<Echo>().unwrap().blobs[0];
    // Nobody needs the part any more, until the sum is lost.
    job.release(&[part.digest]).await.unwrap();
    drop(keepers);
    let others = [spawn_keeper(&lab, 4), spawn_keeper(&lab, 5)];
    let mut outcomes = job.outcomes_after(2);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let outcome = next(&mut outcomes).await;
        seen.push((outcome.index.0, outcome.generation));
        outcome.output::<Echo>().unwrap();
    }
    assert_eq!(seen, [(0, 1), (1, 1)]);
    read(&job, &sum).await;
    drop(others);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_site_fetches_from_those_who_keep_it_and_not_through_the_broker() {
    let lab = Lab::open().await;
    let _keepers = [keeper(&lab, 2), keeper(&lab, 3)];
    until_reached(&lab, 2).await;
    let job = lab.job().await;
    let blob = give(&job, 3 * MIB).await;
    let _far = machine(&lab, 2, 2);
    until_reached(&lab, 3).await;
    precache(&lab, blob).await;
    assert_eq!(status(&lab).await.sent_blob_bytes, 0);
    let seen = workers(&lab).await;
    assert_eq!(seen["2.2"].fetched_from_peers_bytes, 3 * MIB);
}
