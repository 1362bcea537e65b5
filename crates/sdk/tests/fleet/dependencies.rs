//! Tasks that wait for others, and for a worker that is large enough.

use crate::{
    kinds::{Count, Echo, EchoOutput, EchoParameters, Panic, Trouble, pattern},
    lab::{Lab, next, until_job, within},
};
use bytes::Bytes;
use dewar_sdk::{FailureClass, Input, NewTask, TaskFailed, TaskFilter, TaskIndex};
use prost::Message as _;

/// Of what `input` gives, the whole message of an echo without inputs, or the first bytes of a blob.
fn reading(length: u64) -> EchoParameters {
    EchoParameters {
        reads: vec![0, length],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_task_gives_others_read() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let given = EchoParameters {
        bytes: Bytes::from_static(b"a message"),
        blob_bytes: 3_000_000,
        ..Default::default()
    };
    let message = EchoOutput {
        bytes: given.bytes.clone(),
        ..Default::default()
    }
    .encode_to_vec();
    let first = TaskIndex(0);
    let tasks = vec![
        NewTask::new::<Echo>(&given, vec![]),
        NewTask::new::<Echo>(
            &reading(message.len() as u64),
            vec![Input::output_message(first)],
        ),
        NewTask::new::<Echo>(&reading(3_000_000), vec![Input::output_blob(first, 0)]),
        NewTask::new::<Count>(&lab.count("runs"), vec![]).after([TaskIndex(1), TaskIndex(2)]),
    ];
    job.submit_all(tasks).await.unwrap();
    let page = job.client().tasks(job.id(), TaskFilter::default()).await;
    let waits: Vec<Vec<TaskIndex>> = page
        .unwrap()
        .tasks
        .into_iter()
        .map(|task| task.waits_for)
        .collect();
    let after = vec![TaskIndex(1), TaskIndex(2)];
    assert_eq!(waits, [vec![], vec![first], vec![first], after]);

    let _worker = lab.worker(2);
    let mut outcomes = job.outcomes();
    let mut order = Vec::new();
    for _ in 0..4 {
        let outcome = next(&mut outcomes).await;
        order.push(outcome.index.0);
        match outcome.index.0 {
            1 => {
                let output = outcome.output::<Echo>().unwrap().message;
                assert_eq!(output.parts, [Bytes::from(message.clone())]);
            }
            2 => {
                let output = outcome.output::<Echo>().unwrap().message;
                assert!(output.parts == [pattern(3_000_000)]);
            }
            _ => {}
        }
    }
    assert_eq!((order[0], order[3]), (0, 3), "{order:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_passes_on_to_all_that_wait() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let trouble = Trouble {
        message: "out of luck".to_owned(),
    };
    let tasks = vec![
        NewTask::new::<Panic>(&trouble, vec![]).attempts_max(1),
        NewTask::new::<Echo>(&reading(1), vec![Input::output_message(TaskIndex(0))]),
        NewTask::new::<Count>(&lab.count("runs"), vec![]).after([TaskIndex(1)]),
    ];
    job.submit_all(tasks).await.unwrap();
    let _worker = lab.worker(1);
    let mut outcomes = job.outcomes();
    for (index, class) in [
        (0, FailureClass::KernelError),
        (1, FailureClass::Dependency),
        (2, FailureClass::Dependency),
    ] {
        let outcome = next(&mut outcomes).await;
        assert_eq!(outcome.index, TaskIndex(index));
        let Err(TaskFailed::Failed { failure, .. }) = outcome.output::<Echo>() else {
            panic!("{outcome:?}");
        };
        assert_eq!(failure.class, class, "{failure}");
    }
    assert!(!lab.path("runs").exists(), "what waits in vain never runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_fits_nowhere_waits_for_a_larger_worker() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let _small = lab.worker(1);
    let task = NewTask::new::<Count>(&lab.count("runs"), vec![]).slots(2);
    job.submit_all(vec![task]).await.unwrap();
    let is_told = |reason: &Option<String>| {
        let reason = reason.as_deref().unwrap_or_default();
        reason.contains("needs 2 slots") && reason.contains("have 1 slots")
    };
    until_job("the job is blocked", &job, |job| {
        is_told(&job.blocked_reason)
    })
    .await;

    let mut large = lab.worker_config(2);
    large.cache_dir = lab.path("large-cache");
    large.name = "large".to_owned();
    let _large = dewar_worker::Worker::start(large, crate::kinds::registry()).unwrap();
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    assert_eq!(outcome.unwrap().worker_name, "large");
    assert_eq!(job.status().await.unwrap().blocked_reason, None);
}
