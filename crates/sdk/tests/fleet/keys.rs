//! Keys: a customer that starts anew submits everything once more, and nothing is done twice.

use crate::{
    kinds::{Count, runs},
    lab::{Lab, next},
};
use dewar_sdk::{CallError, JobId, JobOptions, NewTask, TaskFilter, TaskIndex};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_submit_is_the_same_tasks() {
    let lab = Lab::open().await;
    let options = JobOptions {
        id: Some(JobId::new()),
        ..JobOptions::named("keyed")
    };
    let keyed = |keys: &[&str]| {
        let parameters = lab.count("runs");
        keys.iter()
            .map(|key| NewTask::new::<Count>(&parameters, vec![]).key(*key))
            .collect()
    };
    let job = lab.job_with(options.clone()).await;
    let given = job.submit_keyed(keyed(&["a", "b"])).await.unwrap();
    assert_eq!(given, [TaskIndex(0), TaskIndex(1)]);
    drop(job);

    // It does not know how far it had come, and has more to do than before.
    let job = lab.job_with(options).await;
    let given = job.submit_keyed(keyed(&["c", "b", "a"])).await.unwrap();
    assert_eq!(given, [TaskIndex(2), TaskIndex(1), TaskIndex(0)]);
    assert_eq!(job.task_count().await, 3);
    let page = job.client().tasks(job.id(), TaskFilter::default()).await;
    let tasks = page.unwrap().tasks;
    let keys: Vec<_> = tasks
        .iter()
        .filter_map(|task| task.key.as_deref())
        .collect();
    assert_eq!(keys, ["a", "b", "c"]);

    let _worker = lab.worker(1);
    job.close().await.unwrap();
    let mut outcomes = job.outcomes();
    for _ in 0..3 {
        next(&mut outcomes).await;
    }
    assert_eq!(runs(&lab.path("runs")), 3);
    // All are known: a closed job has nothing against it.
    let given = job.submit_keyed(keyed(&["a"])).await.unwrap();
    assert_eq!(given, [TaskIndex(0)]);
}

#[tokio::test]
async fn many_keys_go_in_several_messages_and_keep_their_indices() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let tasks = |range: std::ops::Range<u64>| {
        let parameters = lab.count("runs");
        let tasks = range.map(|n| NewTask::new::<Count>(&parameters, vec![]).key(n.to_string()));
        tasks.collect::<Vec<_>>()
    };
    let indices = |range: std::ops::Range<u64>| range.map(TaskIndex).collect::<Vec<_>>();
    let given = job.submit_keyed(tasks(0..3_000)).await.unwrap();
    assert_eq!(given, indices(0..3_000));
    let given = job.submit_keyed(tasks(1_000..5_000)).await.unwrap();
    assert_eq!(given, indices(1_000..5_000));
}

#[tokio::test]
async fn tasks_with_and_without_keys_are_not_mixed() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let task = || NewTask::new::<Count>(&lab.count("runs"), vec![]);
    for refused in [
        job.submit_keyed(vec![task().key("a"), task()]).await.err(),
        job.submit_all(vec![task(), task().key("a")]).await.err(),
    ] {
        let Some(CallError::Refused { message, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(message.contains("key"), "{message}");
    }
    assert_eq!(job.task_count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_of_a_customer_that_vanished_is_cancelled() {
    let lab = Lab::open().await;
    let options = JobOptions {
        absence_max: Some(Duration::from_millis(300)),
        ..JobOptions::named("abandoned")
    };
    let job = lab.job_with(options).await;
    let task = NewTask::new::<Count>(&lab.count("runs"), vec![]);
    job.submit_all(vec![task]).await.unwrap();
    let (id, client) = (job.id(), lab.client().await);
    drop(job);
    // Who only looks at it is not its customer.
    let asking = async {
        while client.job(id).await.unwrap().cancelled_count == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    crate::lab::within("the job's end", asking).await;
    assert!(client.job(id).await.unwrap().closed);
}
