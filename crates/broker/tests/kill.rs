//! The real daemon, killed while customers submit: what was acknowledged is there when it comes back.

mod common;

use common::*;
use dewar_blobs::{BlobClient, NamedFile};
use dewar_proto::{
    limits::STREAM_DATA_BYTES,
    v1::{self, blobs_client::BlobsClient, broker_message, jobs_client::JobsClient},
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{process::Command, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    for round in 0..12u64 {
        let mut daemon = Daemon::start(folder.path()).await;
        let mut jobs = daemon.client(folder.path());
        jobs.create(create()).await.unwrap();
        let job = jobs.get(v1::GetJobRequest { job: selector() }).await;
        let found = job.unwrap().into_inner().waiting_count;
        let promised = acknowledged.load(Ordering::SeqCst);
        assert!(
            found >= promised,
            "{promised} promised, {found} found in round {round}"
        );
        check_contents(&mut jobs, found).await;

        let counter = acknowledged.clone();
        let submitting = tokio::spawn(async move {
            let mut next = found;
            loop {
                // Some ride in events, some go to pack files; each knows its own number.
                let count = 1 + next % 5;
                let tasks = (next..next + count).map(|index| v1::TaskSpec {
                    kind: Some(kind_of(index)),
                    ..spec(parameters_of(index))
                });
                let request = submit(next, tasks.collect());
                match jobs.submit(tokio_stream::once(request)).await {
                    Ok(response) => {
                        next = response.into_inner().task_count;
                        counter.store(next, Ordering::SeqCst);
                    }
                    Err(_) => return,
                }
            }
        });
        // Not a wait for anything: the moment of death is to differ from round to round.
        tokio::time::sleep(Duration::from_millis(5 + 17 * round)).await;
        daemon.process.kill().await.unwrap();
        submitting.await.unwrap();
    }
    let promised = acknowledged.load(Ordering::SeqCst);
    assert!(promised > 0, "something was submitted");
    let daemon = Daemon::start(folder.path()).await;
    check_parameters(&daemon, folder.path(), promised).await;
}

/// So many assignments; more that come with them are a mistake that the caller sees.
async fn take(worker: &mut FakeWorker, count: usize) -> Vec<v1::Assignment> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(worker.assignments().await);
    }
    taken
}

async fn attend_at(
    daemon: &Daemon,
    data_dir: &Path,
    n: u8,
    slot_count: u32,
    held: Vec<v1::HeldAttempt>,
) -> FakeWorker {
    let token = std::fs::read_to_string(data_dir.join("token")).unwrap();
    let hello = v1::Hello {
        slot_count,
        ..FakeWorker::hello(n, held)
    };
    let channel = connect_to(&daemon.address, &token);
    FakeWorker::attend_as(channel, hello).await.unwrap()
}

fn names(assignments: &[v1::Assignment]) -> Vec<&str> {
    let names = assignments.iter().map(|it| it.display_name.as_str());
    names.collect()
}

#[tokio::test]
async fn what_was_given_out_the_moment_before_kill_9_runs_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path();
    let mut daemon = Daemon::start(data_dir).await;
    let mut jobs = daemon.client(data_dir);
    jobs.create(create()).await.unwrap();
    let mut first = attend_at(&daemon, data_dir, 1, 2, Vec::new()).await;
    let mut second = attend_at(&daemon, data_dir, 2, 1, Vec::new()).await;
    // As many again as they have slots are sent ahead.
    let tasks = vec![spec(vec![1]); 7];
    let submitted = jobs.submit(tokio_stream::once(submit(0, tasks))).await;
    submitted.unwrap();
    let (given, others) = (take(&mut first, 4).await, take(&mut second, 2).await);
    daemon.process.kill().await.unwrap();

    let daemon = Daemon::start(data_dir).await;
    let mut third = attend_at(&daemon, data_dir, 3, 3, Vec::new()).await;
    let rest = take(&mut third, 1).await;
    assert_eq!(names(&rest), ["j1.6"], "nobody had it");
    let mut jobs = daemon.client(data_dir);
    let tasks = vec![spec(vec![1])];
    let submitted = jobs.submit(tokio_stream::once(submit(7, tasks))).await;
    submitted.unwrap();
    assert_eq!(names(&take(&mut third, 1).await), ["j1.7"]);

    // One comes back with half of what it had, the other with everything.
    let still_held = vec![held(&others[0])];
    let _second = attend_at(&daemon, data_dir, 2, 1, still_held).await;
    assert_eq!(names(&take(&mut third, 1).await), names(&others[1..]));
    let still_held = given.iter().map(held).collect();
    let mut first = attend_at(&daemon, data_dir, 1, 2, still_held).await;
    for assignment in &given {
        first.succeed(assignment, Vec::new()).await;
        first.wait_for_receipt().await;
    }
    let job = jobs.get(v1::GetJobRequest { job: selector() }).await;
    assert_eq!(job.unwrap().into_inner().succeeded_count, 4);
}

const KIND_COUNT: u64 = 7;

fn kind_of(index: u64) -> v1::Kind {
    v1::Kind {
        name: format!("test{}", index % KIND_COUNT),
        version: 1,
    }
}

/// Bytes that no other task has, also where one lies beside another in a pack file.
fn parameters_of(index: u64) -> Vec<u8> {
    let byte_count = if index.is_multiple_of(3) { 6_000 } else { 8 };
    let bytes = index.to_le_bytes().into_iter().cycle();
    bytes.take(byte_count).collect()
}

/// Takes as many tasks as were promised, and compares what they are to work on.
async fn check_parameters(daemon: &Daemon, data_dir: &Path, promised: u64) {
    let token = std::fs::read_to_string(data_dir.join("token")).unwrap();
    let hello = v1::Hello {
        slot_count: 64,
        kinds: (0..KIND_COUNT).map(kind_of).collect(),
        ..FakeWorker::hello(1, Vec::new())
    };
    let channel = connect_to(&daemon.address, &token);
    let mut worker = FakeWorker::attend_as(channel, hello).await.unwrap();
    let mut checked = BTreeSet::new();
    while (checked.len() as u64) < promised {
        let broker_message::Message::Assignments(given) = worker.hear().await else {
            continue;
        };
        for assignment in given.assignments {
            let index = assignment.task.as_ref().unwrap().index;
            let parameters = assignment.spec.as_ref().unwrap().parameters.clone();
            assert!(
                parameters == Some(inline(parameters_of(index))),
                "task {index}"
            );
            checked.insert(index);
            worker.succeed(&assignment, Vec::new()).await;
        }
    }
}

async fn check_contents(jobs: &mut JobsClient<dewar_proto::AuthorizedChannel>, count: u64) {
    let mut from_index = 0;
    let mut seen = 0;
    loop {
        let page = v1::ListTasksRequest {
            job: selector(),
            from_index,
            ..Default::default()
        };
        let page = jobs.list_tasks(page).await.unwrap().into_inner();
        for task in page.tasks {
            assert_eq!(task.kind.unwrap(), kind_of(seen));
            seen += 1;
        }
        from_index = page.next_index;
        if from_index == 0 {
            break;
        }
    }
    assert_eq!(seen, count);
}

#[tokio::test]
async fn an_upload_goes_on_where_kill_9_ended_it() {
    const FILE_BYTES: usize = 48 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.mrcs");
    let bytes: Vec<u8> = (0..FILE_BYTES)
        .map(|at| (at % 251 + (at >> 20)) as u8)
        .collect();
    std::fs::write(&path, &bytes).unwrap();
    let file = NamedFile::open(&path, |_| {}).await.unwrap();
    let client_of = |daemon: &Daemon| {
        let token = std::fs::read_to_string(folder.path().join("token")).unwrap();
        BlobClient::new(connect_to(&daemon.address, &token))
    };
    let sent_messages = Arc::new(AtomicU64::new(0));

    let mut daemon = Daemon::start(folder.path()).await;
    daemon.client(folder.path()).create(create()).await.unwrap();
    let blobs = client_of(&daemon);
    let (half_sent, at_half) = tokio::sync::oneshot::channel();
    let (killed, at_kill) = std::sync::mpsc::channel::<()>();
    let (half_sent, at_kill) = (Mutex::new(Some(half_sent)), Mutex::new(at_kill));
    let counter = sent_messages.clone();
    let progress = move |_| {
        // The file is read no further before the broker is dead.
        if counter.fetch_add(1, Ordering::SeqCst) == 96
            && let Some(half_sent) = half_sent.lock().unwrap().take()
        {
            half_sent.send(()).unwrap();
            at_kill.lock().unwrap().recv().unwrap();
        }
    };
    let sending = tokio::spawn({
        let file = file.clone();
        async move { blobs.send_chunks(&file, Some(JOB), progress).await }
    });
    at_half.await.unwrap();
    daemon.process.kill().await.unwrap();
    killed.send(()).unwrap();
    let error = sending.await.unwrap().unwrap_err();
    assert!(error.is_transient(), "{error}");

    let daemon = Daemon::start(folder.path()).await;
    let blobs = client_of(&daemon);
    let before = sent_messages.load(Ordering::SeqCst);
    let counter = sent_messages.clone();
    let progress = move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    let blob = blobs.send_chunks(&file, Some(JOB), progress).await.unwrap();
    let after = sent_messages.load(Ordering::SeqCst);
    let bytes_of = |messages: u64| messages as usize * STREAM_DATA_BYTES;
    assert!(
        bytes_of(after - before) < FILE_BYTES,
        "what had come was kept"
    );
    assert!(bytes_of(after) < 2 * FILE_BYTES);
    assert!(blobs.read_blob(&blob).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_signal_stops_it_with_exit_code_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path()).await;
    daemon.client(folder.path()).create(create()).await.unwrap();
    let pid = daemon.process.id().unwrap().to_string();
    Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await
        .unwrap();
    let status = tokio::time::timeout(PATIENCE, daemon.process.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(0));
    let daemon = Daemon::start(folder.path()).await;
    let jobs = daemon
        .client(folder.path())
        .list(v1::ListJobsRequest::default())
        .await;
    assert_eq!(jobs.unwrap().into_inner().jobs.len(), 1);
}

#[tokio::test]
async fn what_it_cannot_do_it_says_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let first = Daemon::start(folder.path()).await;
    // The other may end: a service manager is to try again.
    let said = refused(folder.path(), &["--listen", "127.0.0.1:0"], 1).await;
    assert!(said.contains("error: another broker runs on"), "{said}");
    let free = folder.path().join("free");
    let taken = ["--listen", &first.address];
    let said = refused(&free, &taken, 1).await;
    assert!(said.contains("error: cannot listen on"), "{said}");
    // These will not do tomorrow either.
    let said = refused(&free, &["--listen", "0.0.0.0:0"], 2).await;
    assert!(said.contains("--insecure"), "{said}");
    let missing = ["--listen", "127.0.0.1:0", "--export", "/nowhere/at/all"];
    let said = refused(&free, &missing, 2).await;
    assert!(said.contains("cannot export /nowhere/at/all"), "{said}");
    std::fs::write(free.join("token"), "no dot").unwrap();
    let said = refused(&free, &["--listen", "127.0.0.1:0"], 2).await;
    assert!(said.contains("NAME.SECRET"), "{said}");
}

/// What a daemon says that does not start and ends with this exit code.
async fn refused(data_dir: &Path, arguments: &[&str], exit_code: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dewar-broker"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit_code), "{said}");
    said
}

fn terminate(daemon: &Daemon) {
    let pid = daemon.process.id().unwrap() as i32;
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[tokio::test]
async fn a_signal_ends_it_while_a_file_is_hashed_and_streams_are_open() {
    // Minutes of hashing.
    const FILE_BYTES: u64 = 1 << 40;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    let large = std::fs::File::create(&file).unwrap();
    large.set_len(FILE_BYTES).unwrap();
    let data_dir = folder.path().join("data");
    let exported = folder.path().to_str().unwrap();
    let mut daemon = Daemon::start_with(&data_dir, &["--export", exported]).await;
    let mut jobs = daemon.client(&data_dir);
    jobs.create(create()).await.unwrap();
    let token = std::fs::read_to_string(data_dir.join("token")).unwrap();
    let mut blobs = BlobsClient::new(connect_to(&daemon.address, &token));
    let import = v1::ImportFileRequest {
        path: file.to_str().unwrap().into(),
        job_id: JOB.into(),
    };
    let mut importing = blobs.import_file(import).await.unwrap().into_inner();
    importing.message().await.unwrap();

    let (submits, messages) = mpsc::channel(1);
    submits.send(submit(0, vec![spec(vec![1])])).await.unwrap();
    let submitting = tokio::spawn(async move { jobs.submit(ReceiverStream::new(messages)).await });
    // The broker has it open once the message is counted.
    let counted = async {
        let mut jobs = daemon.client(&data_dir);
        loop {
            let job = jobs.get(v1::GetJobRequest { job: selector() }).await;
            if job.unwrap().into_inner().waiting_count == 1 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();

    terminate(&daemon);
    let status = tokio::time::timeout(PATIENCE, daemon.process.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(0));
    drop(submits);
    let told = submitting.await.unwrap().unwrap_err();
    assert_eq!(told.message(), "the broker is shutting down");
}
