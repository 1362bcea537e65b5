//! What kernels find on their slots.

use crate::{
    kinds::{self, Await, Echo, EchoParameters, Trouble, Where},
    lab::{Lab, until, within},
};
use dewar_worker::{Config, LoadLimit, StartError, Worker};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernels_stand_back_by_as_much_as_was_said() {
    let lab = Lab::open().await;
    let config = Config {
        nice: 7,
        ..lab.worker_config(1)
    };
    let _worker = Worker::start(config, kinds::registry()).unwrap();
    let job = lab.job().await;
    job.submit::<Where>(&(), vec![]).await.unwrap();
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    let output = outcome.unwrap().output::<Where>().unwrap();
    let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let own = own.rsplit(')').next().unwrap().split_whitespace().nth(16);
    let own: i32 = own.unwrap().parse().unwrap();
    assert_eq!(output.message.niceness, (own + 7).min(19));
    assert_eq!(output.message.slot_count, 1);
}

#[tokio::test]
async fn a_machine_that_computes_wrong_does_not_join() {
    let lab = Lab::open().await;
    let kernels = kinds::registry().with_self_test(|| Err("two and two is five".to_owned()));
    let refused = Worker::start(lab.worker_config(1), kernels);
    let Err(StartError::SelfTest(what)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(what, "two and two is five");
    let workers = lab.client().await.workers().await.unwrap();
    assert_eq!(workers.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_machine_finishes_what_runs_and_begins_nothing() {
    let lab = Lab::open().await;
    let load = lab.path("loadavg");
    std::fs::write(&load, "0.50 0.10 0.10 1/100 1234\n").unwrap();
    let config = Config {
        load_limit: Some(LoadLimit {
            max: 4.0,
            file: load.clone(),
            every: Duration::from_millis(20),
        }),
        ..lab.worker_config(1)
    };
    let _worker = Worker::start(config, kinds::registry()).unwrap();
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    job.submit::<Await>(&Trouble { message }, vec![])
        .await
        .unwrap();
    until("the kernel runs", || lab.path("begun").exists()).await;
    std::fs::write(&load, "9.50 0.10 0.10 1/100 1234\n").unwrap();
    job.submit::<Echo>(&EchoParameters::default(), vec![])
        .await
        .unwrap();
    // What waited on the worker is handed back, and people can see why.
    let reason = "of other programs is above 4";
    within("word of the load", async {
        loop {
            let blocked = job.status().await.unwrap().blocked_reason;
            if blocked.is_some_and(|blocked| blocked.contains(reason)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    std::fs::write(lab.path("go"), "").unwrap();
    let mut outcomes = job.outcomes();
    let first = within("the first outcome", outcomes.next()).await;
    first.unwrap().unwrap().output::<Await>().unwrap();
    let status = job.status().await.unwrap();
    assert_eq!((status.waiting_count, status.running_count), (1, 0));

    std::fs::write(&load, "1.00 0.10 0.10 1/100 1234\n").unwrap();
    let next = within("the next outcome", outcomes.next()).await;
    next.unwrap().unwrap().output::<Echo>().unwrap();
}
