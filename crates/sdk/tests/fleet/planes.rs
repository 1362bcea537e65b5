//! What is said and what is moved go separate ways: bytes that stand still hold up neither heartbeats nor tasks.
//!
//! A slow link is made by a proxy that carries so many bytes on each connection and then none, which is as slow as a link
//! can be. Were both on one connection, nothing would be heard of the worker from then on.

use crate::{
    kinds::{self, Echo, EchoParameters, pattern},
    lab::{LEASE, Lab, next, within},
    swarm::{cache, workers},
};
use dewar_sdk::{Input, Job, NewTask, TaskFilter};
use dewar_testkit::{Mode, Proxy};
use dewar_worker::{Config, DataConfig, Worker};
use std::{net::Ipv4Addr, time::Instant};

const MIB: u64 = 1 << 20;

/// More than is said of all the tasks here, and less than any of the transfers.
const CLOGGED_AFTER: u64 = 3 * MIB;

/// Where the worker and its proxy are: a machine of its own, to the broker.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 2);

/// A task of no size, to its end. How often it was tried.
async fn run_small(job: &Job) -> u32 {
    let ended_before = job.status().await.unwrap().outcome_count();
    let index = job
        .submit::<Echo>(&EchoParameters::default(), vec![])
        .await
        .unwrap();
    let outcome = next(&mut job.outcomes_after(ended_before)).await;
    outcome.output::<Echo>().unwrap();
    let only = TaskFilter {
        from_index: index.0,
        limit: 1,
        ..Default::default()
    };
    let page = job.client().tasks(job.id(), only).await.unwrap();
    page.tasks[0].attempts_begun
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_that_stand_still_hold_up_no_heartbeats_and_no_tasks() {
    let lab = Lab::open().await;
    let proxy = Proxy::start(HOST, HOST, lab.broker.address())
        .await
        .unwrap();
    let config = Config {
        broker: proxy.address.to_string(),
        cache_dir: cache(&lab, 3, 2),
        data: Some(DataConfig {
            listen: Some((HOST, 0).into()),
            ..Default::default()
        }),
        ..lab.worker_config(4)
    };
    let _worker = Worker::start(config, kinds::registry()).unwrap();
    let (bulk, small) = (lab.job().await, lab.job().await);
    assert_eq!(run_small(&small).await, 1, "the worker is there");

    // One has to fetch its input, and one to send what it gives.
    let blob = bulk.upload(pattern(16 * MIB as usize)).await.unwrap();
    proxy.set(Mode::Clogging(CLOGGED_AFTER));
    let giving = EchoParameters {
        blob_bytes: 16 * MIB,
        ..Default::default()
    };
    let giving = NewTask::new::<Echo>(&giving, vec![]);
    let reading = NewTask::new::<Echo>(&EchoParameters::default(), vec![Input::whole(blob)]);
    bulk.submit_all(vec![giving, reading]).await.unwrap();
    within("both ways to clog", proxy.until_clogged(2)).await;

    // For longer than the broker waits for a worker that says nothing.
    let begun = Instant::now();
    while begun.elapsed() < LEASE + LEASE / 2 {
        assert_eq!(run_small(&small).await, 1);
    }
    let status = bulk.status().await.unwrap();
    assert_eq!(status.outcome_count(), 0, "the transfers stand still");
    let seen = workers(&lab).await;
    assert!(seen.values().all(|worker| worker.connected), "{seen:#?}");

    proxy.set(Mode::Open);
    let mut outcomes = bulk.outcomes();
    for _ in 0..2 {
        next(&mut outcomes).await.output::<Echo>().unwrap();
    }
    let page = bulk.client().tasks(bulk.id(), Default::default()).await;
    for task in page.unwrap().tasks {
        assert_eq!(task.attempts_begun, 1, "nobody was given up");
    }
}
