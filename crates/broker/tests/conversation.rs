//! A real broker, and what customers and workers hear from it.

mod common;

use common::*;
use dewar_broker::{Broker, Config, StartError};
use dewar_proto::v1::{self, broker_message, outcome, payload, worker_message};
use tonic::Code;

async fn next(outcomes: &mut tonic::Streaming<v1::Outcome>) -> Option<v1::Outcome> {
    let outcome = tokio::time::timeout(PATIENCE, outcomes.message()).await;
    outcome.expect("an outcome in time").unwrap()
}

fn watch(after_sequence: u64) -> v1::WatchRequest {
    v1::WatchRequest {
        job_id: JOB.into(),
        after_sequence,
    }
}

fn output_of(outcome: &v1::Outcome) -> Vec<u8> {
    let Some(outcome::Result::Succeeded(output)) = &outcome.result else {
        panic!("{outcome:?} did not succeed");
    };
    let place = output
        .message
        .as_ref()
        .and_then(|message| message.place.as_ref());
    let Some(payload::Place::Inline(bytes)) = place else {
        panic!("{outcome:?} has no message");
    };
    bytes.to_vec()
}

#[tokio::test]
async fn a_task_goes_from_submit_to_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    let job = jobs.create(create()).await.unwrap().into_inner();
    assert_eq!((job.number, job.waiting_count), (1, 0));
    // One that rides in the event, one that goes to a pack file.
    let tasks = vec![spec(vec![1; 10]), spec(vec![2; 60_000])];
    let count = jobs
        .submit(tokio_stream::once(submit(0, tasks.clone())))
        .await
        .unwrap();
    assert_eq!(count.into_inner().task_count, 2);
    let again = jobs
        .submit(tokio_stream::once(submit(0, tasks)))
        .await
        .unwrap();
    assert_eq!(again.into_inner().task_count, 2);
    let job = jobs
        .get(v1::GetJobRequest { job: selector() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(job.blocked_reason, "no worker is connected");

    let mut outcomes = jobs.watch(watch(0)).await.unwrap().into_inner();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let mut assignments = worker.assignments().await;
    while assignments.len() < 2 {
        assignments.extend(worker.assignments().await);
    }
    assert_eq!(assignments[0].display_name, "j1.0");
    assert_eq!(
        assignments[1].spec.as_ref().unwrap().parameters,
        Some(inline(vec![2; 60_000]))
    );
    worker.succeed(&assignments[1], vec![3; 50_000]).await;
    worker.succeed(&assignments[0], vec![4]).await;
    let first = next(&mut outcomes).await.unwrap();
    assert_eq!((first.task_index, first.sequence), (1, 1));
    // It says 12; more than it was out is not believed.
    assert!(first.run_ms <= 12);
    assert_eq!(
        (output_of(&first), &*first.worker_name),
        (vec![3; 50_000], "w1")
    );
    let second = next(&mut outcomes).await.unwrap();
    assert_eq!((second.task_index, second.sequence), (0, 2));
    jobs.close(v1::CloseJobRequest { job_id: JOB.into() })
        .await
        .unwrap();
    assert_eq!(next(&mut outcomes).await, None);

    let mut resumed = jobs.watch(watch(1)).await.unwrap().into_inner();
    assert_eq!(next(&mut resumed).await, Some(second));
    assert_eq!(next(&mut resumed).await, None);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_worker_carries_on_through_a_restart_of_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let token = broker.token().to_owned();
    let mut customer = jobs(&broker);
    customer.create(create()).await.unwrap();
    let tasks = vec![spec(vec![1; 5_000]); 3];
    customer
        .submit(tokio_stream::once(submit(0, tasks)))
        .await
        .unwrap();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let mut assignments = worker.assignments().await;
    while assignments.len() < 2 {
        assignments.extend(worker.assignments().await);
    }
    let [first, running] = &assignments[..] else {
        panic!("one slot was given {assignments:?}");
    };
    worker.succeed(first, vec![9; 5_000]).await;
    worker.wait_for_receipt().await;
    broker.shutdown().await.unwrap();

    let broker = start(folder.path()).await;
    assert_eq!(broker.token(), token);
    let mut worker = FakeWorker::attend(&broker, 1, vec![held(running), held(first)]).await;
    // What is answered already is stopped at once.
    loop {
        if let broker_message::Message::Stop(stop) = worker.hear().await {
            assert_eq!(stop.attempt, first.attempt);
            break;
        }
    }
    worker.succeed(running, vec![8]).await;
    worker.wait_for_receipt().await;
    let mut outcomes = jobs(&broker).watch(watch(0)).await.unwrap().into_inner();
    assert_eq!(
        output_of(&next(&mut outcomes).await.unwrap()),
        vec![9; 5_000]
    );
    assert_eq!(output_of(&next(&mut outcomes).await.unwrap()), vec![8]);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn small_parameters_in_bulk_come_to_the_worker_after_a_restart() {
    const TASK_COUNT: u64 = 1000;
    let parameters = |index: u64| index.to_le_bytes().repeat(12 + index as usize % 3);
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut customer = jobs(&broker);
    customer.create(create()).await.unwrap();
    let tasks = (0..TASK_COUNT).map(|index| spec(parameters(index)));
    let request = submit(0, tasks.collect());
    customer.submit(tokio_stream::once(request)).await.unwrap();
    let packs = folder.path().join("packs").read_dir().unwrap();
    assert_eq!(packs.count(), 1, "they wait on disk and not in memory");
    broker.shutdown().await.unwrap();

    let broker = start(folder.path()).await;
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let mut outcomes = jobs(&broker).watch(watch(0)).await.unwrap().into_inner();
    let mut seen = 0;
    while seen < 40 {
        if let broker_message::Message::Assignments(given) = worker.hear().await {
            for assignment in given.assignments {
                let index = assignment.task.as_ref().unwrap().index;
                let given = assignment.spec.as_ref().unwrap().parameters.clone();
                assert_eq!(given, Some(inline(parameters(index))));
                worker.succeed(&assignment, parameters(index)).await;
                seen += 1;
            }
        }
    }
    for _ in 0..seen {
        let outcome = next(&mut outcomes).await.unwrap();
        assert_eq!(output_of(&outcome), parameters(outcome.task_index));
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn messages_of_one_submit_are_taken_in_order_up_to_the_one_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    let message = |first_index: u64| {
        let tasks = (first_index..first_index + 5).map(|index| {
            let name = format!("test{index}");
            let kind = Some(v1::Kind { name, version: 1 });
            v1::TaskSpec {
                kind,
                ..spec(Vec::new())
            }
        });
        submit(first_index, tasks.collect())
    };
    let messages: Vec<_> = (0..50).map(|n| message(5 * n)).collect();
    let count = jobs.submit(tokio_stream::iter(messages)).await.unwrap();
    assert_eq!(count.into_inner().task_count, 250);
    // The second leaves a gap, and so does all that follows it.
    let messages = [250, 256, 261].map(message);
    let refused = jobs.submit(tokio_stream::iter(messages)).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let page = v1::ListTasksRequest {
        job: selector(),
        ..Default::default()
    };
    let tasks = jobs.list_tasks(page).await.unwrap().into_inner().tasks;
    let names = tasks.into_iter().map(|task| task.kind.unwrap().name);
    assert!(names.eq((0..255).map(|index| format!("test{index}"))));
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_lost_workers_task_goes_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    jobs.submit(tokio_stream::once(submit(0, vec![spec(Vec::new())])))
        .await
        .unwrap();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let lost = worker.assignments().await.remove(0);
    drop(worker);
    let mut worker = FakeWorker::attend(&broker, 2, Vec::new()).await;
    let again = worker.assignments().await.remove(0);
    assert_eq!(again.task, lost.task);
    assert_ne!(again.attempt, lost.attempt);
    let page = v1::ListTasksRequest {
        job: selector(),
        ..Default::default()
    };
    let tasks = jobs.list_tasks(page).await.unwrap().into_inner().tasks;
    assert_eq!(tasks[0].worker_names, ["w2"]);
    assert!(tasks[0].failure.as_ref().unwrap().message.contains("w1"));
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn cancel_stops_what_runs_and_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    let tasks = vec![spec(Vec::new()); 100];
    jobs.submit(tokio_stream::once(submit(0, tasks)))
        .await
        .unwrap();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let running = worker.assignments().await.remove(0);
    let job = jobs
        .cancel(v1::CancelJobRequest { job: selector() })
        .await
        .unwrap();
    assert_eq!(job.into_inner().cancelled_count, 100);
    loop {
        if let broker_message::Message::Stop(stop) = worker.hear().await {
            assert_eq!(stop.attempt, running.attempt);
            break;
        }
    }
    // A result that arrives now is acknowledged and forgotten.
    worker.succeed(&running, vec![1]).await;
    worker.wait_for_receipt().await;
    let mut outcomes = jobs.watch(watch(0)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(outcome) = next(&mut outcomes).await {
        assert!(matches!(
            outcome.result,
            Some(outcome::Result::Cancelled(_))
        ));
        count += 1;
    }
    assert_eq!(count, 100);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn workers_are_listed_and_drained() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut admin = admin(&broker);
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let workers = admin.list_workers(v1::ListWorkersRequest {}).await.unwrap();
    let workers = workers.into_inner().workers;
    assert_eq!((&*workers[0].name, workers[0].connected), ("w1", true));
    let nobody = v1::DrainRequest::default();
    assert_eq!(
        admin.drain(nobody).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let unknown = v1::DrainRequest {
        workers: vec!["w9".into()],
        all: false,
    };
    assert_eq!(
        admin.drain(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
    let all = v1::DrainRequest {
        workers: Vec::new(),
        all: true,
    };
    assert_eq!(admin.drain(all).await.unwrap().into_inner().workers, ["w1"]);
    assert!(matches!(
        worker.hear().await,
        broker_message::Message::Drain(_)
    ));
    let status = admin
        .status(v1::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.worker_count, status.slot_count, status.broker_start),
        (1, 1, 1)
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_is_told_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let address = broker.address().to_string();
    let wrong = connect_to(&address, "ann.0000");
    let refused = v1::jobs_client::JobsClient::new(wrong.clone())
        .list(v1::ListJobsRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let refused = FakeWorker::attend_as(wrong, FakeWorker::hello(1, Vec::new())).await;
    assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated);
    let bare = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let bare = bare.connect().await.unwrap();
    let refused = v1::admin_client::AdminClient::new(bare.clone())
        .status(v1::StatusRequest {})
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    // Whether it lives may be asked by anyone.
    let mut health = tonic_health::pb::health_client::HealthClient::new(bare);
    let request = tonic_health::pb::HealthCheckRequest::default();
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn malformed_requests_are_told_their_field() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    let check = |status: tonic::Status, code: Code, text: &str| {
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    };
    let bad = v1::CreateJobRequest {
        job_id: vec![1; 15],
        ..create()
    };
    check(
        jobs.create(bad).await.unwrap_err(),
        Code::InvalidArgument,
        "job_id: must be 16",
    );
    let bad = v1::CreateJobRequest {
        priority: 101,
        ..create()
    };
    check(
        jobs.create(bad).await.unwrap_err(),
        Code::InvalidArgument,
        "priority: is 101",
    );
    let old = v1::ProtocolVersion { major: 9, minor: 4 };
    let bad = v1::CreateJobRequest {
        protocol: Some(old),
        ..create()
    };
    check(
        jobs.create(bad).await.unwrap_err(),
        Code::FailedPrecondition,
        "9.4",
    );
    let early = jobs
        .submit(tokio_stream::once(submit(0, vec![spec(Vec::new())])))
        .await;
    check(early.unwrap_err(), Code::NotFound, "no such job");
    jobs.create(create()).await.unwrap();
    let gap = jobs
        .submit(tokio_stream::once(submit(5, vec![spec(Vec::new())])))
        .await;
    check(
        gap.unwrap_err(),
        Code::FailedPrecondition,
        "next index is 0",
    );
    let kindless = v1::TaskSpec {
        kind: None,
        ..spec(Vec::new())
    };
    let bad = jobs
        .submit(tokio_stream::once(submit(0, vec![kindless])))
        .await;
    check(
        bad.unwrap_err(),
        Code::InvalidArgument,
        "tasks[0].kind: is missing",
    );
    let empty = jobs.submit(tokio_stream::empty()).await;
    check(empty.unwrap_err(), Code::InvalidArgument, "empty");
    let get = jobs.get(v1::GetJobRequest { job: None }).await;
    check(get.unwrap_err(), Code::InvalidArgument, "job: neither");

    let hello = v1::Hello {
        protocol: Some(old),
        ..FakeWorker::hello(1, Vec::new())
    };
    let refused = FakeWorker::attend_as(connect(&broker), hello)
        .await
        .err()
        .unwrap();
    check(refused, Code::FailedPrecondition, "9.4");
    let hello = v1::Hello {
        slot_count: 0,
        ..FakeWorker::hello(1, Vec::new())
    };
    let refused = FakeWorker::attend_as(connect(&broker), hello)
        .await
        .err()
        .unwrap();
    check(refused, Code::InvalidArgument, "slots");
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    worker
        .say(worker_message::Message::Report(v1::Report::default()))
        .await;
    let ended = tokio::time::timeout(PATIENCE, worker.receiver.message())
        .await
        .unwrap();
    check(
        ended.unwrap_err(),
        Code::InvalidArgument,
        "report.task: is missing",
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_refused_with_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    let tasks = vec![spec(vec![0; 60_000]); 150];
    let refused = jobs.submit(tokio_stream::once(submit(0, tasks))).await;
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("8388608"), "{status}");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_broker_does_not_open_itself_to_the_network_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        ..Config::new(folder.path())
    };
    let refused = Broker::start(config).await.unwrap_err();
    assert!(matches!(refused, StartError::Insecure(_)), "{refused}");
}

#[tokio::test]
async fn a_data_folder_has_one_broker_and_is_free_when_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let second = Broker::start(Config::new(folder.path())).await.unwrap_err();
    assert!(
        second.to_string().starts_with("another broker runs on"),
        "{second}"
    );
    // Sessions that never end by themselves do not keep it from stopping.
    let _worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    broker.shutdown().await.unwrap();
    start(folder.path()).await.shutdown().await.unwrap();
}

/// Has a worker give 60 kB for each of `given_count` tasks, which then are read whole by each of `reading_count` others.
async fn read_large_messages(
    broker: &dewar_broker::Running,
    given_count: u64,
    reading_count: usize,
) -> FakeWorker {
    let mut jobs = jobs(broker);
    jobs.create(create()).await.unwrap();
    let input = |n| v1::Input {
        output: Some(v1::OutputRef {
            task_index: n,
            part: Some(v1::output_ref::Part::Message(v1::WholeMessage {})),
        }),
        ..Default::default()
    };
    let reading = v1::TaskSpec {
        inputs: (0..given_count).map(input).collect(),
        ..spec(Vec::new())
    };
    let mut tasks = vec![spec(Vec::new()); given_count as usize];
    tasks.extend(vec![reading; reading_count]);
    jobs.submit(tokio_stream::once(submit(0, tasks)))
        .await
        .unwrap();
    let hello = v1::Hello {
        slot_count: 1000,
        ..FakeWorker::hello(1, Vec::new())
    };
    let mut worker = FakeWorker::attend_as(connect(broker), hello).await.unwrap();
    let mut given = Vec::new();
    while given.len() < given_count as usize {
        given.extend(worker.assignments().await);
    }
    for assignment in given {
        worker.succeed(&assignment, vec![7; 60_000]).await;
    }
    worker
}

#[tokio::test]
async fn tasks_with_large_inputs_are_sent_a_few_at_a_time() {
    const READING_COUNT: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut worker = read_large_messages(&broker, 10, READING_COUNT).await;
    let mut count = 0;
    while count < READING_COUNT {
        if let broker_message::Message::Assignments(sent) = worker.hear().await {
            count += sent.assignments.len();
        }
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_whose_inputs_fit_no_message_fails_and_the_session_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut worker = read_large_messages(&broker, 150, 1).await;
    for _ in 0..151 {
        worker.wait_for_receipt().await;
    }
    let watch = v1::WatchRequest {
        job_id: JOB.into(),
        after_sequence: 150,
    };
    let mut outcomes = jobs(&broker).watch(watch).await.unwrap().into_inner();
    let update = tokio::time::timeout(PATIENCE, outcomes.message()).await;
    let update = format!("{:?}", update.unwrap().unwrap().unwrap());
    assert!(
        update.contains("9000000 bytes together, at most 8387584 reach a worker"),
        "{update}"
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_whose_parameters_the_disk_lost_fails_and_the_session_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    let tasks = (0..3).map(|n| spec(vec![n; 5000]));
    jobs.submit(tokio_stream::once(submit(0, tasks.collect())))
        .await
        .unwrap();
    let pack = std::fs::read_dir(folder.path().join("packs")).unwrap();
    let pack = pack.map(|entry| entry.unwrap().path()).next().unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[7_000] ^= 1;
    std::fs::write(&pack, bytes).unwrap();

    let mut worker = FakeWorker::attend(&broker, 3, Vec::new()).await;
    let mut given = Vec::new();
    while given.len() < 2 {
        given.extend(worker.assignments().await);
    }
    let indices = given.iter().map(|given| given.task.as_ref().unwrap().index);
    assert_eq!(indices.collect::<Vec<_>>(), [0, 2]);
    let mut outcomes = jobs.watch(watch(0)).await.unwrap().into_inner();
    let lost = next(&mut outcomes).await.unwrap();
    assert_eq!(lost.task_index, 1);
    let Some(outcome::Result::Failed(failure)) = lost.result else {
        panic!("{lost:?}");
    };
    assert!(failure.message.contains("corrupt"), "{failure:?}");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn progress_that_is_no_number_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    let tasks = submit(0, vec![spec(Vec::new())]);
    jobs.submit(tokio_stream::once(tasks)).await.unwrap();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let assignment = worker.assignments().await.remove(0);
    let progress = vec![v1::AttemptProgress {
        task: assignment.task.clone(),
        attempt: assignment.attempt,
        fraction: f32::NAN,
    }];
    let heartbeat = v1::Heartbeat { progress };
    worker
        .say(worker_message::Message::Heartbeat(heartbeat))
        .await;
    worker.succeed(&assignment, Vec::new()).await;
    worker.wait_for_receipt().await;
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_result_the_broker_cannot_take_fails_its_try_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut jobs = jobs(&broker);
    jobs.create(create()).await.unwrap();
    let once = v1::TaskSpec {
        attempts_max: 1,
        ..spec(Vec::new())
    };
    let tasks = submit(0, vec![once]);
    jobs.submit(tokio_stream::once(tasks)).await.unwrap();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let assignment = worker.assignments().await.remove(0);
    let blob = v1::BlobRef {
        digest: vec![1; 32],
        size_bytes: 1,
    };
    worker
        .say(worker_message::Message::Report(v1::Report {
            task: assignment.task.clone(),
            attempt: assignment.attempt,
            result: Some(v1::report::Result::Succeeded(v1::Output {
                message: None,
                blobs: vec![blob; 4097],
            })),
            run_ms: 12,
            fetch_ms: 0,
        }))
        .await;
    worker.wait_for_receipt().await;
    let watch = v1::WatchRequest {
        job_id: JOB.into(),
        after_sequence: 0,
    };
    let mut outcomes = jobs.watch(watch).await.unwrap().into_inner();
    let update = tokio::time::timeout(PATIENCE, outcomes.message()).await;
    let update = format!("{:?}", update.unwrap().unwrap().unwrap());
    assert!(update.contains("has 4097 blobs, at most 4096"), "{update}");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_holds_much_of_a_forgotten_job_is_told_to_stop_all_of_it() {
    const HELD_COUNT: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let held = |n| v1::HeldAttempt {
        task: Some(v1::TaskRef {
            job_id: vec![9; 16],
            index: n,
        }),
        attempt: Some(v1::AttemptId { broker_start: 1, n }),
    };
    let mut worker = FakeWorker::attend(&broker, 1, (0..HELD_COUNT).map(held).collect()).await;
    for _ in 0..HELD_COUNT {
        let message = worker.hear().await;
        assert!(matches!(message, broker_message::Message::Stop(_)));
    }
    broker.shutdown().await.unwrap();
}
