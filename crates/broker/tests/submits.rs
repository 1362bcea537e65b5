//! Submits of customers that are slow, and of messages that are more than they look.

mod common;

use common::*;
use dewar_proto::{limits::SUBMIT_TASKS_MAX, v1};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

#[tokio::test]
async fn customers_that_say_little_keep_nobody_from_submitting() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut first = jobs(&broker);
    first.create(create()).await.unwrap();
    let one_task = |index| submit(index, vec![spec(vec![])]);
    let mut open = Vec::new();
    let mut submitting = Vec::new();
    for index in 0..40 {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(one_task(index)).await.unwrap();
        let mut slow = if index < 20 {
            first.clone()
        } else {
            jobs(&broker)
        };
        submitting.push(tokio::spawn(async move {
            slow.submit(ReceiverStream::new(receiver)).await
        }));
        open.push(sender);
        // Each has its turn before the next comes, and says no more.
        let taken = async {
            let get = || v1::GetJobRequest { job: selector() };
            while first.get(get()).await.unwrap().into_inner().waiting_count <= index {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, taken)
            .await
            .expect("its first message is taken");
    }
    drop(open);
    for submitting in submitting {
        let submitted = timeout(PATIENCE, submitting).await.unwrap().unwrap();
        assert!(submitted.unwrap().into_inner().task_count >= 40);
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_messages_of_many_submits_all_come_through() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut submitting = Vec::new();
    for n in 1..=5 {
        let mut jobs = jobs(&broker);
        let job_id = vec![n; 16];
        let job = v1::CreateJobRequest {
            job_id: job_id.clone(),
            ..create()
        };
        jobs.create(job).await.unwrap();
        let messages = (0..40).map(move |index| v1::SubmitRequest {
            job_id: job_id.clone(),
            ..submit(index * 20, vec![spec(vec![1; 5000]); 20])
        });
        submitting.push(tokio::spawn(async move {
            jobs.submit(tokio_stream::iter(messages)).await
        }));
    }
    for submitting in submitting {
        let submitted = timeout(PATIENCE, submitting)
            .await
            .expect("nobody waits for ever");
        assert_eq!(submitted.unwrap().unwrap().into_inner().task_count, 800);
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn tasks_are_counted_before_they_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    let tasks = vec![spec(vec![]); SUBMIT_TASKS_MAX + 1];
    let message = submit(0, tasks.clone());
    let refused = jobs.submit(tokio_stream::once(message)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().starts_with("tasks: more than 1000"),
        "{refused}"
    );
    let message = submit(0, tasks[1..].to_vec());
    jobs.submit(tokio_stream::once(message)).await.unwrap();
    broker.shutdown().await.unwrap();
}
