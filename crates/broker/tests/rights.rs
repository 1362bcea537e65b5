//! Who may change what: owners their own jobs and workers, whoever has the broker's own token everything.

mod common;

use common::*;
use dewar_broker::{Running, add_owner};
use dewar_proto::{
    AuthorizedChannel,
    v1::{self, admin_client::AdminClient, jobs_client::JobsClient, task_selector::By},
};
use std::path::Path;
use tonic::{Code, Status};

/// A connection with the token of an owner of its own.
fn connect_as(broker: &Running, folder: &Path, owner: &str) -> AuthorizedChannel {
    let token = std::fs::read_to_string(add_owner(folder, owner).unwrap()).unwrap();
    connect_to(&broker.address().to_string(), token.trim())
}

/// It was refused, and the refusal names these.
#[track_caller]
fn refused<T>(answer: Result<T, Status>, names: &[&str]) {
    let status = answer.err().expect("a refusal");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    for name in names {
        assert!(status.message().contains(name), "no {name:?} in {status:?}");
    }
}

fn tasks(by: By) -> Option<v1::TaskSelector> {
    Some(v1::TaskSelector {
        by: Some(by),
        task_indices: Vec::new(),
    })
}

#[tokio::test]
async fn what_belongs_to_another_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    // Both files before the first look, which is repeated once a second at the most.
    let (ann, eve) = (
        connect_as(&broker, folder.path(), "ann"),
        connect_as(&broker, folder.path(), "eve"),
    );
    let (mut anns, mut eves) = (JobsClient::new(ann.clone()), JobsClient::new(eve.clone()));
    anns.create(create()).await.unwrap();
    let tasks_of_ann = || tokio_stream::once(submit(0, vec![spec(vec![1])]));
    anns.submit(tasks_of_ann()).await.unwrap();

    let names = ["j1", "ann", "eve"];
    refused(eves.submit(tasks_of_ann()).await, &names);
    let cancel = v1::CancelJobRequest { job: selector() };
    refused(eves.cancel(cancel.clone()).await, &names);
    let close = v1::CloseJobRequest { job_id: JOB.into() };
    refused(eves.close(close).await, &names);
    let release = v1::ReleaseRequest {
        job_id: JOB.into(),
        digests: Vec::new(),
    };
    refused(eves.release(release).await, &names);
    let publish = v1::PublishRequest {
        job_id: JOB.into(),
        html: b"<p>eve was here</p>".as_slice().into(),
    };
    refused(eves.publish(publish).await, &names);
    for (by, names) in [
        (By::Job(selector().unwrap()), &names[..]),
        (By::Owner("ann".into()), &["ann", "eve"]),
        (By::All(true), &["eve", "--owner"]),
    ] {
        let cancel = v1::CancelTasksRequest {
            tasks: tasks(by.clone()),
        };
        refused(eves.cancel_tasks(cancel).await, names);
        let rerun = v1::RerunRequest {
            tasks: tasks(by),
            succeeded: true,
        };
        refused(eves.rerun(rerun).await, names);
    }
    let job = anns.get(v1::GetJobRequest { job: selector() }).await;
    let job = job.unwrap().into_inner();
    assert_eq!((job.closed, job.waiting_count), (false, 1));

    // One's own, and an administrator's.
    let of_eve = v1::CancelTasksRequest {
        tasks: tasks(By::Owner("eve".into())),
    };
    assert_eq!(
        eves.cancel_tasks(of_eve)
            .await
            .unwrap()
            .into_inner()
            .job_count,
        0
    );
    let everything = v1::CancelTasksRequest {
        tasks: tasks(By::All(true)),
    };
    let ended = jobs(&broker).cancel_tasks(everything).await.unwrap();
    assert_eq!(ended.into_inner().task_count, 1);
    assert!(anns.cancel(cancel).await.unwrap().into_inner().closed);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_worker_is_drained_by_whoever_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let (ann, eve) = (
        connect_as(&broker, folder.path(), "ann"),
        connect_as(&broker, folder.path(), "eve"),
    );
    let _anns = FakeWorker::attend_as(ann.clone(), FakeWorker::hello(1, Vec::new()));
    let _anns = _anns.await.unwrap();
    let _eves = FakeWorker::attend_as(eve.clone(), FakeWorker::hello(2, Vec::new()));
    let _eves = _eves.await.unwrap();
    let place_of_anns = FakeWorker::attend_as(eve.clone(), FakeWorker::hello(1, Vec::new()));
    refused(place_of_anns.await, &["w1", "ann", "eve"]);
    let (mut anns, mut eves) = (AdminClient::new(ann), AdminClient::new(eve));
    let drain = |workers: &[&str]| v1::DrainRequest {
        workers: workers.iter().map(|name| (*name).into()).collect(),
        all: workers.is_empty(),
    };
    refused(eves.drain(drain(&["w1"])).await, &["w1", "ann", "eve"]);
    // All or none.
    refused(eves.drain(drain(&["w2", "w1"])).await, &["w1", "ann"]);
    refused(eves.drain(drain(&[])).await, &["all workers", "eve"]);
    let workers = eves.list_workers(v1::ListWorkersRequest {}).await.unwrap();
    let mut workers = workers.into_inner().workers;
    workers.sort_by(|a, b| a.name.cmp(&b.name));
    let told: Vec<_> = workers
        .iter()
        .map(|worker| (&*worker.name, &*worker.owner, worker.draining))
        .collect();
    assert_eq!(told, [("w1", "ann", false), ("w2", "eve", false)]);

    let drained = anns.drain(drain(&["w1"])).await.unwrap().into_inner();
    assert_eq!(drained.workers, ["w1"]);
    let drained = admin(&broker).drain(drain(&[])).await.unwrap();
    assert_eq!(drained.into_inner().workers, ["w1", "w2"]);
    broker.shutdown().await.unwrap();
}
