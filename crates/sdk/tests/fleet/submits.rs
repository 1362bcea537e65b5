//! Submits that fail half-way: what was accepted is told, and no index stands for two tasks.

use crate::{
    kinds::{Echo, EchoParameters},
    lab::{Lab, next},
};
use dewar_sdk::{CallError, NewTask, TaskIndex};
use std::ops::Range;

/// More than the broker allows.
const ATTEMPTS_REFUSED: u32 = 1000;

fn echo(text: &str) -> NewTask {
    let parameters = EchoParameters {
        bytes: text.as_bytes().to_vec().into(),
        ..Default::default()
    };
    NewTask::new::<Echo>(&parameters, vec![])
}

/// Tasks that know their number; one of them may be such that the broker refuses it.
fn numbered(range: Range<u64>, refused: Option<u64>) -> Vec<NewTask> {
    let tasks = range.map(|n| match refused == Some(n) {
        true => echo("refused").attempts_max(ATTEMPTS_REFUSED),
        false => echo(&n.to_string()),
    });
    tasks.collect()
}

fn accepted(error: &CallError) -> Range<TaskIndex> {
    match error {
        CallError::InPart {
            accepted: Some(accepted),
            source,
        } => {
            assert!(matches!(**source, CallError::Refused { .. }), "{source}");
            accepted.clone()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_after_one_that_failed_has_indices_of_its_own() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let error = job.submit_all(numbered(0..1_500, Some(1_400))).await;
    let accepted = accepted(&error.unwrap_err());
    assert_eq!(accepted.start, TaskIndex(0));
    assert!((1..1_400).contains(&accepted.end.0), "{accepted:?}");
    assert_eq!(job.status().await.unwrap().task_count(), accepted.end.0);
    assert_eq!(job.task_count().await, accepted.end.0);

    let new = job.submit_all(vec![echo("new")]).await.unwrap();
    assert_eq!(new, accepted.end..TaskIndex(accepted.end.0 + 1));
    let _worker = lab.worker(1);
    let mut outcomes = job.outcomes();
    loop {
        let outcome = next(&mut outcomes).await;
        if outcome.index == new.start {
            assert_eq!(outcome.output::<Echo>().unwrap().message.bytes, "new");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_a_submit_that_failed_doubles_nothing() {
    // More than one call carries, and the refused one is in the second.
    const TASK_COUNT: u64 = 17_500;
    let lab = Lab::open().await;
    let job = lab.job().await;
    let error = job.submit_all(numbered(0..TASK_COUNT, Some(17_400))).await;
    let accepted = accepted(&error.unwrap_err());
    assert!(
        (16_000..17_400).contains(&accepted.end.0),
        "the first call's too: {accepted:?}"
    );
    let rest = numbered(accepted.end.0..TASK_COUNT, None);
    let given = job.submit_all(rest).await.unwrap();
    assert_eq!(given, accepted.end..TaskIndex(TASK_COUNT));
    assert_eq!(job.status().await.unwrap().task_count(), TASK_COUNT);
}

#[tokio::test]
async fn a_submit_refused_whole_says_so_and_takes_no_index() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let error = job.submit_all(numbered(0..10, Some(5))).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { .. }), "{error}");
    let given = job.submit_all(numbered(0..10, None)).await.unwrap();
    assert_eq!(given, TaskIndex(0)..TaskIndex(10));
}
