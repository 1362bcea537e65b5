//! How a broker leaves, and whom it waits for when it is back.

mod common;

use common::{FakeWorker, JOB, PATIENCE, create, held, jobs, spec, start, submit};
use dewar_broker::{Broker, Config, Patience, Running};
use dewar_proto::v1::{self, broker_message};
use std::{path::Path, time::Duration};

async fn start_patient(data_dir: &Path) -> Running {
    let config = Config {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        patience: Patience {
            comeback: Duration::from_secs(3600),
            ..Patience::default()
        },
        ..Config::new(data_dir)
    };
    Broker::start(config).await.unwrap()
}

async fn blocked_reason(broker: &Running) -> String {
    let job = v1::GetJobRequest {
        job: Some(v1::JobSelector {
            by: Some(v1::job_selector::By::Number(1)),
        }),
    };
    let job = jobs(broker).get(job).await.unwrap();
    job.into_inner().blocked_reason
}

#[tokio::test]
async fn a_broker_that_stops_says_that_it_will_be_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut customer = jobs(&broker);
    customer.create(create()).await.unwrap();
    let watch = v1::WatchRequest {
        job_id: JOB.into(),
        after_sequence: 0,
    };
    let mut outcomes = customer.watch(watch).await.unwrap().into_inner();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let stopping = tokio::spawn(broker.shutdown());
    let last = worker.hear().await;
    assert_eq!(last, broker_message::Message::BackSoon(v1::BackSoon {}));
    let ended = tokio::time::timeout(PATIENCE, outcomes.message()).await;
    let status = ended.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("will be back"), "{status}");
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn workers_of_before_a_restart_have_time_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut customer = jobs(&broker);
    customer.create(create()).await.unwrap();
    let tasks = vec![spec(vec![1]), spec(vec![2]), spec(vec![3])];
    customer
        .submit(tokio_stream::once(submit(0, tasks)))
        .await
        .unwrap();
    let mut first = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let mut assignments = first.assignments().await;
    while assignments.len() < 2 {
        assignments.extend(first.assignments().await);
    }
    broker.shutdown().await.unwrap();

    let broker = start_patient(folder.path()).await;
    let mut second = FakeWorker::attend(&broker, 2, Vec::new()).await;
    let reason = blocked_reason(&broker).await;
    assert!(reason.contains("gives w1 up to 3600 s"), "{reason}");
    let still_held = assignments.iter().map(held).collect();
    let _first = FakeWorker::attend(&broker, 1, still_held).await;
    let rest = second.assignments().await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].display_name, "j1.2", "the others run already");
    broker.shutdown().await.unwrap();
}
