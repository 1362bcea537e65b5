//! The real daemon, killed while customers submit: what was acknowledged is there when it comes back.

mod common;

use common::*;
use dewar_proto::v1::{self, jobs_client::JobsClient};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::process::Command;

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
                let tasks = (next..next + count).map(|index| {
                    let mut parameters = index.to_le_bytes().to_vec();
                    parameters.resize(if index % 3 == 0 { 6_000 } else { 8 }, 0);
                    let kind = v1::Kind {
                        name: format!("test{index}"),
                        version: 1,
                    };
                    v1::TaskSpec {
                        kind: Some(kind),
                        ..spec(parameters)
                    }
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
    assert!(
        acknowledged.load(Ordering::SeqCst) > 0,
        "something was submitted"
    );
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
            assert_eq!(task.kind.unwrap().name, format!("test{seen}"));
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
async fn what_it_cannot_do_it_says_in_one_line_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Daemon::start(folder.path()).await;
    let output = Command::new(env!("CARGO_BIN_EXE_dewar-broker"))
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("error: another broker runs on"), "{text}");
}
