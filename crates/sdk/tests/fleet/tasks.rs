//! What tasks come to when nothing is lost.

use crate::{
    kinds::{Await, Echo, EchoParameters, Odd, OddParameters, Panic, Trouble, pattern},
    lab::{Lab, until, within},
};
use dewar_sdk::{
    CallError, Client, ConnectError, FailureClass, Input, NewTask, TaskFailed, TaskIndex,
    TaskResult, TaskState,
};
use std::{collections::BTreeSet, time::Duration};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_come_typed_in_sequence_and_end() {
    let lab = Lab::open().await;
    let _worker = lab.worker(2);
    let job = lab.job().await;

    let sizes = [0, 10, 5_000, 70_000, 3_000_000];
    let tasks: Vec<_> = sizes
        .iter()
        .map(|&size| {
            let parameters = EchoParameters {
                bytes: pattern(size),
                ..Default::default()
            };
            NewTask::new::<Echo>(&parameters, vec![])
        })
        .collect();
    let given = job.submit_all(tasks).await.unwrap();
    assert_eq!(given, TaskIndex(0)..TaskIndex(sizes.len() as u64));
    job.close().await.unwrap();

    let mut outcomes = job.outcomes();
    let mut seen = BTreeSet::new();
    while let Some(outcome) = within("an outcome", outcomes.next()).await.unwrap() {
        assert_eq!(outcome.sequence, seen.len() as u64 + 1);
        assert_eq!(outcome.worker_name, "tester");
        let size = sizes[outcome.index.0 as usize];
        let output = outcome.output::<Echo>().unwrap();
        assert!(output.message.bytes == pattern(size), "{size} bytes");
        assert_eq!(outcome.held().count(), usize::from(size > 64 << 10));
        seen.insert(outcome.index);
    }
    assert_eq!(seen.len(), sizes.len());

    let again: Vec<u64> = {
        let mut outcomes = job.outcomes_after(3);
        let mut sequences = Vec::new();
        while let Some(outcome) = within("an outcome", outcomes.next()).await.unwrap() {
            sequences.push(outcome.sequence);
        }
        sequences
    };
    assert_eq!(again, [4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_go_in_and_out_whole_and_in_parts() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let job = lab.job().await;
    let stack = pattern(5_000_000);
    let sent = job.upload(stack.clone()).await.unwrap();
    assert!(job.read_blob(&sent).await.unwrap() == stack);

    // In an exported folder, served in place under a name of its own; elsewhere, sent: the same blob as before.
    for (folder, is_sent) in [("exported", false), ("private", true)] {
        let path = lab.path(folder).join("stack.mrcs");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &stack).unwrap();
        let imported = job.import_file(&path, |_| {}).await.unwrap();
        assert_eq!(imported == sent, is_sent, "{folder}");
        assert!(job.read_blob(&imported).await.unwrap() == stack);
    }

    let parameters = EchoParameters {
        blob_bytes: 4_000_000,
        reads: vec![2_000_000, 10, 4_999_990, 10],
        ..Default::default()
    };
    let input = Input::parts(sent, [4_999_990..5_000_000, 2_000_000..2_000_010]);
    job.submit::<Echo>(&parameters, vec![input]).await.unwrap();
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    let output = outcome.unwrap().output::<Echo>().unwrap();
    assert_eq!(
        output.message.parts,
        [stack.slice(2_000_000..2_000_010), stack.slice(4_999_990..)]
    );
    let product = job.read_blob(&output.blobs[0]).await.unwrap();
    assert!(product == pattern(4_000_000));

    job.release(&[output.blobs[0].digest]).await.unwrap();
    // Given up is not yet gone: the broker answers before it sweeps.
    within("the blob goes", async {
        while !matches!(
            job.read_blob(&output.blobs[0]).await,
            Err(CallError::NotFound { .. })
        ) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_fails_the_tasks_that_need_it() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let job = lab.job().await;
    let path = lab.path("exported").join("stack.mrcs");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, pattern(5_000_000)).unwrap();
    let stack = job.import_file(&path, |_| {}).await.unwrap();
    let task = |at: u64| {
        let parameters = EchoParameters {
            reads: vec![at, 10],
            ..Default::default()
        };
        let input = Input::parts(stack, std::iter::once(at..at + 10));
        NewTask::new::<Echo>(&parameters, vec![input])
    };
    job.submit_all(vec![task(0)]).await.unwrap();
    let first = within("the outcome", job.outcomes().next()).await.unwrap();
    let output = first.unwrap().output::<Echo>().unwrap();
    assert_eq!(output.message.parts, [pattern(10)]);

    std::fs::write(&path, pattern(4_000_000)).unwrap();
    job.submit_all(vec![task(2_000_000)]).await.unwrap();
    let second = within("the outcome", job.outcomes_after(1).next()).await;
    let failed = second.unwrap().unwrap().output::<Echo>();
    let Err(TaskFailed::Failed { failure, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(failure.class, FailureClass::BadInput);
    let text = "stack.mrcs changed after it was imported: it had 5000000 bytes and has 4000000";
    assert!(failure.message.contains(text), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_an_outcome_that_says_where() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let job = lab.job().await;
    let message = "out of luck".to_owned();
    let task = NewTask::new::<Panic>(&Trouble { message }, vec![]).attempts_max(2);
    job.submit_all(vec![task]).await.unwrap();

    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    let failed = outcome.unwrap().output::<Panic>();
    let Err(TaskFailed::Failed { failure, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(failure.class, FailureClass::KernelError);
    assert!(
        failure.message.contains("test.panic/1 panicked at"),
        "{failure}"
    );
    assert!(failure.message.ends_with("out of luck"), "{failure}");

    // The slot lives on.
    let parameters = EchoParameters::default();
    job.submit::<Echo>(&parameters, vec![]).await.unwrap();
    let next = within("the next outcome", job.outcomes_after(1).next()).await;
    next.unwrap().unwrap().output::<Echo>().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_kernel_stops_within_a_second() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let parameters = Trouble { message };
    for _ in 0..5 {
        job.submit::<Await>(&parameters, vec![]).await.unwrap();
    }
    until("the kernel runs", || lab.path("begun").exists()).await;

    job.cancel().await.unwrap();
    let stopping = until("the kernel stops", || lab.path("stopped").exists());
    tokio::time::timeout(Duration::from_secs(1), stopping)
        .await
        .expect("the kernel stops within a second");
    let mut outcomes = job.outcomes();
    let mut cancelled_count = 0;
    while let Some(outcome) = within("an outcome", outcomes.next()).await.unwrap() {
        assert_eq!(outcome.result, TaskResult::Cancelled);
        cancelled_count += 1;
    }
    assert_eq!(cancelled_count, 5);
    let page = job
        .client()
        .tasks(job.id(), Default::default())
        .await
        .unwrap();
    assert!(
        page.tasks
            .iter()
            .all(|task| task.state == TaskState::Cancelled)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_worker_finishes_and_leaves() {
    let lab = Lab::open().await;
    let mut worker = lab.worker(1);
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let parameters = Trouble { message };
    job.submit::<Await>(&parameters, vec![]).await.unwrap();
    job.submit::<Await>(&parameters, vec![]).await.unwrap();
    until("the kernel runs", || lab.path("begun").exists()).await;

    let told = job.client().drain(&["tester".to_owned()]).await.unwrap();
    assert_eq!(told, ["tester"]);
    std::fs::write(lab.path("go"), "").unwrap();
    within("the worker", worker.wait()).await.unwrap();
    let status = job.status().await.unwrap();
    assert_eq!((status.succeeded_count, status.waiting_count), (1, 1));
}

#[tokio::test]
async fn what_waiting_cannot_mend_is_said_at_once() {
    let lab = Lab::open().await;
    let address = lab.broker.address().to_string();
    let wrong = Client::connect(&address, "me.0123".parse().unwrap()).await;
    assert!(
        matches!(wrong, Err(ConnectError::Call(CallError::Token { .. }))),
        "{wrong:?}"
    );
    let client = lab.client().await;
    let unknown = client.job(dewar_sdk::JobSelector::Number(99)).await;
    assert!(
        matches!(unknown, Err(CallError::NotFound { .. })),
        "{unknown:?}"
    );
}

/// The task ends and the worker goes on, whatever its kernel gives.
async fn outcome_of_odd(run_ms: u64, blob_count: u64) -> Result<usize, TaskFailed> {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let parameters = OddParameters { run_ms, blob_count };
    let task = NewTask::new::<Odd>(&parameters, vec![]).attempts_max(1);
    job.submit_all(vec![task]).await.unwrap();
    let mut worker = lab.worker(1);
    let mut outcomes = job.outcomes();
    let outcome = tokio::select! {
        outcome = within("the outcome", outcomes.next()) => outcome.unwrap().unwrap(),
        ended = worker.wait() => panic!("the worker ended: {ended:?}"),
    };
    outcome.output::<Odd>().map(|output| output.blobs.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_that_is_no_number_does_no_harm() {
    // Long enough for some heartbeats.
    assert_eq!(outcome_of_odd(600, 2).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_blobs_are_a_failure_with_the_numbers() {
    let failed = outcome_of_odd(0, 4097).await;
    let Err(TaskFailed::Failed { failure, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(failure.class, FailureClass::KernelError);
    assert!(
        failure.message.contains("4097") && failure.message.contains("4096"),
        "{failure:?}"
    );
}
