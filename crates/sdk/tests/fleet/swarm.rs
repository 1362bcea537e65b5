//! Data that moves once: workers on machines of their own, which addresses of the loopback net stand for.
//!
//! A worker told to listen on 127.0.1.2 connects from there too, so the broker on 127.0.0.1 takes it for another machine, and
//! all of 127.0.1.0/24 for one site.

use crate::{
    kinds::{self, Await, Echo, EchoParameters, Trouble, pattern},
    lab::{Lab, next, until, within},
};
use dewar_proto::{
    AuthorizedChannel, transport,
    v1::{self, admin_client::AdminClient},
};
use dewar_sdk::{Input, Job, NewTask};
use dewar_testkit::{Mode, Proxy};
use dewar_worker::{DataConfig, Running, Worker};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};
use tokio::net::TcpListener;

const MIB: u64 = 1 << 20;

/// A worker with a cache and an address of its own.
pub fn machine(lab: &Lab, site: u8, host: u8) -> Running {
    machine_with_cache(lab, site, host, 1 << 30)
}

fn machine_with_cache(lab: &Lab, site: u8, host: u8, cache_bytes_max: u64) -> Running {
    let config = dewar_worker::Config {
        cache_bytes_max,
        ..machine_config(lab, site, host)
    };
    Worker::start(config, kinds::registry()).unwrap()
}

fn machine_config(lab: &Lab, site: u8, host: u8) -> dewar_worker::Config {
    dewar_worker::Config {
        name: format!("{site}.{host}"),
        cache_dir: cache(lab, site, host),
        data: Some(DataConfig {
            listen: Some(([127, 0, site, host], 0).into()),
            ..Default::default()
        }),
        ..lab.worker_config(1)
    }
}

pub fn cache(lab: &Lab, site: u8, host: u8) -> PathBuf {
    lab.path(&format!("cache-{site}-{host}"))
}

pub fn admin(lab: &Lab) -> AdminClient<AuthorizedChannel> {
    let token = lab.broker.token().parse().unwrap();
    let channel = transport::channel(&lab.broker.address().to_string(), token).unwrap();
    AdminClient::new(channel)
}

/// The workers, as the broker sees them, by name.
pub async fn workers(lab: &Lab) -> BTreeMap<String, v1::Worker> {
    let listed = admin(lab)
        .list_workers(v1::ListWorkersRequest {})
        .await
        .unwrap();
    let workers = listed.into_inner().workers.into_iter();
    workers
        .map(|worker| (worker.name.clone(), worker))
        .collect()
}

async fn until_workers(
    what: &str,
    lab: &Lab,
    is_so: impl Fn(&BTreeMap<String, v1::Worker>) -> bool,
) -> BTreeMap<String, v1::Worker> {
    within(what, async {
        loop {
            let workers = workers(lab).await;
            if is_so(&workers) {
                return workers;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Has all workers fetch a blob, all at once.
pub async fn precache(lab: &Lab, blob: dewar_sdk::BlobRef) {
    let mut admin = admin(lab);
    let request = v1::PrecacheRequest {
        blobs: vec![blob.into()],
        site: String::new(),
    };
    let mut progress = admin.precache(request).await.unwrap().into_inner();
    let mut last = v1::PrecacheResponse::default();
    while let Some(next) = within("progress", progress.message()).await.unwrap() {
        assert_eq!(next.failures, [] as [String; 0]);
        last = next;
    }
    assert_eq!(last.held_bytes, last.wanted_bytes);
}

/// Waits until so many can be fetched from.
pub async fn until_reached(lab: &Lab, count: usize) {
    until_workers("all are reached", lab, |workers| {
        let reached = workers.values().filter(|one| !one.data_address.is_empty());
        reached.count() == count
    })
    .await;
}

/// Tasks that each read all of a blob.
async fn read_all(job: &Job, blob: dewar_sdk::BlobRef, count: usize) {
    let size = blob.size_bytes;
    let parameters = EchoParameters {
        reads: vec![0, 10, size - 10, 10],
        ..Default::default()
    };
    let task = || NewTask::new::<Echo>(&parameters, vec![Input::whole(blob)]);
    let tasks: Vec<_> = (0..count).map(|_| task()).collect();
    // Before they are submitted: some may have ended by the time that the customer has heard that they were accepted.
    let ended_before = job.status().await.unwrap().outcome_count();
    job.submit_all(tasks).await.unwrap();
    let mut outcomes = job.outcomes_after(ended_before);
    for _ in 0..count {
        let outcome = next(&mut outcomes).await;
        let output = outcome.output::<Echo>().unwrap();
        let bytes = pattern(size as usize);
        assert_eq!(output.message.parts[0], bytes.slice(..10));
        assert_eq!(output.message.parts[1], bytes.slice(size as usize - 10..));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_site_needs_comes_from_the_broker_once() {
    let lab = Lab::open().await;
    let machines: Vec<_> = (2..6).map(|host| machine(&lab, 1, host)).collect();
    until_reached(&lab, machines.len()).await;
    let job = lab.job().await;
    let blob = job.upload(pattern(20 * MIB as usize)).await.unwrap();
    precache(&lab, blob).await;
    let workers = workers(&lab).await;
    assert!(workers.values().all(|one| one.held_bytes == 20 * MIB));
    let counts = |of: fn(&v1::Worker) -> u64| workers.values().map(move |one| of(one) / MIB);
    let from_broker: Vec<_> = counts(|one| one.fetched_from_broker_bytes).collect();
    let from_peers: Vec<_> = counts(|one| one.fetched_from_peers_bytes).collect();
    assert_eq!(
        from_broker.iter().sum::<u64>(),
        20,
        "{from_broker:?} {from_peers:?}"
    );
    assert_eq!(
        from_peers.iter().sum::<u64>(),
        3 * 20,
        "{from_broker:?} {from_peers:?}"
    );
    read_all(&job, blob, 8).await;

    // A site of its own asks the broker, and others for what the broker cannot send at once.
    let _other = machine(&lab, 2, 2);
    until_reached(&lab, 5).await;
    precache(&lab, blob).await;
    let workers = self::workers(&lab).await;
    let other = &workers["2.2"];
    let (from_broker, from_far) = (
        other.fetched_from_broker_bytes,
        other.fetched_from_peers_bytes,
    );
    assert_eq!(from_broker + from_far, 20 * MIB);
    assert!(from_broker > 0 && from_far > 0, "{from_broker} {from_far}");
}

/// Files of cached chunks.
fn chunk_files(cache: &Path) -> Vec<PathBuf> {
    let Ok(shelves) = fs::read_dir(cache.join("chunks")) else {
        return Vec::new();
    };
    let shelves = shelves.filter_map(|shelf| fs::read_dir(shelf.ok()?.path()).ok());
    shelves
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_disk_is_found_out_and_shunned() {
    let lab = Lab::open().await;
    let _first = machine(&lab, 1, 2);
    until_reached(&lab, 1).await;
    let job = lab.job().await;
    let blob = job.upload(pattern(8 * MIB as usize)).await.unwrap();
    read_all(&job, blob, 1).await;
    until("the first has it all", || {
        chunk_files(&cache(&lab, 1, 2)).len() == 8
    })
    .await;
    // The first is kept busy, so that whoever comes next computes what follows, and asks the first for what it has. What
    // it reads meanwhile it does not check again, and so gives to others as it is.
    let folder = lab.folder.path().to_str().unwrap().to_owned();
    let parameters = Trouble { message: folder };
    let busy = NewTask::new::<Await>(&parameters, vec![Input::whole(blob)]);
    job.submit_all(vec![busy]).await.unwrap();
    until("the first is busy", || lab.path("begun").exists()).await;
    for file in chunk_files(&cache(&lab, 1, 2)) {
        let file = File::options().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 12_345).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 12_345).unwrap();
    }
    let _second = machine(&lab, 1, 3);
    until_reached(&lab, 2).await;
    read_all(&job, blob, 1).await;
    let workers = workers(&lab).await;
    fs::write(lab.path("go"), "").unwrap();
    let (first, second) = (&workers["1.2"], &workers["1.3"]);
    assert!(first.corrupt_count >= 1, "{workers:#?}");
    // What was on its way when the first was found out is all that it gave.
    assert!(first.corrupt_count <= 4, "{workers:#?}");
    assert_eq!(second.fetched_from_peers_bytes, 0);
    assert_eq!(second.fetched_from_broker_bytes, 8 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dribbles_is_left_for_another_source() {
    let lab = Lab::open().await;
    // What it gives goes by a slow way, which it names as its own.
    let listen = free_address([127, 0, 4, 2].into()).await;
    let (host, broker) = (Ipv4Addr::new(127, 0, 4, 9), Ipv4Addr::LOCALHOST);
    let proxy = Proxy::start(host, broker, listen).await.unwrap();
    let config = dewar_worker::Config {
        data: Some(DataConfig {
            listen: Some(listen),
            advertise: Some(proxy.address.to_string()),
            ..Default::default()
        }),
        ..machine_config(&lab, 4, 2)
    };
    let _slow = Worker::start(config, kinds::registry()).unwrap();
    until_reached(&lab, 1).await;
    let job = lab.job().await;
    let blob = job.upload(pattern(8 * MIB as usize)).await.unwrap();
    precache(&lab, blob).await;
    proxy.set(Mode::Dribbling);
    let _other = machine(&lab, 4, 3);
    until_reached(&lab, 2).await;
    // A site's own workers are asked first, so this waits for the slow one, and not for long: it would take a minute.
    precache(&lab, blob).await;
    let workers = workers(&lab).await;
    let other = &workers["4.3"];
    assert_eq!(other.fetched_from_broker_bytes, 8 * MIB, "{workers:#?}");
    assert_eq!(workers["4.2"].corrupt_count, 0, "slow is not wrong");
}

/// An address nobody listens on.
async fn free_address(host: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_next_task_reads_comes_while_a_slot_computes() {
    let lab = Lab::open().await;
    let _machine = machine(&lab, 1, 2);
    let job = lab.job().await;
    let blob = job.upload(pattern(3 * MIB as usize)).await.unwrap();
    let folder = lab.folder.path().to_str().unwrap().to_owned();
    let busy = NewTask::new::<Await>(&Trouble { message: folder }, vec![]);
    let reading = NewTask::new::<Echo>(&EchoParameters::default(), vec![Input::whole(blob)]);
    job.submit_all(vec![busy, reading]).await.unwrap();
    until("the only slot is busy", || lab.path("begun").exists()).await;
    until("the next task's input is there", || {
        chunk_files(&cache(&lab, 1, 2)).len() == 3
    })
    .await;
    assert_eq!(job.status().await.unwrap().outcome_count(), 0);
    fs::write(lab.path("go"), "").unwrap();
    let mut outcomes = job.outcomes_after(0);
    next(&mut outcomes).await.output::<Await>().unwrap();
    next(&mut outcomes).await.output::<Echo>().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_full_says_what_it_dropped_and_one_too_small_says_so() {
    let lab = Lab::open().await;
    let _small = machine_with_cache(&lab, 1, 2, 8 * MIB);
    until_reached(&lab, 1).await;
    let job = lab.job().await;
    for size in [5 * MIB, 6 * MIB] {
        let blob = job.upload(pattern(size as usize)).await.unwrap();
        read_all(&job, blob, 1).await;
        until_workers(
            "it has the blob, and no more than it may",
            &lab,
            |workers| (size..=8 * MIB).contains(&workers["1.2"].held_bytes),
        )
        .await;
    }
    let blob = job.upload(pattern(9 * MIB as usize)).await.unwrap();
    let parameters = EchoParameters::default();
    let task = NewTask::new::<Echo>(&parameters, vec![Input::whole(blob)]);
    job.submit_all(vec![task]).await.unwrap();
    let mut outcomes = job.outcomes_after(2);
    let failure = next(&mut outcomes).await.output::<Echo>().unwrap_err();
    let (text, folder) = (failure.to_string(), cache(&lab, 1, 2));
    for part in [folder.to_str().unwrap(), "9437184", "8388608"] {
        assert!(text.contains(part), "{text}");
    }
}
