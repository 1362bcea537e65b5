//! The whole way there and back: bytes to the broker and from it, and a task that a worker computes.

use super::finding::Finding;
use crate::size;
use dewar_kernels::SelfTest;
use dewar_sdk::{
    BlobRef, BrokerStatus, CallError, Client, Digest, Input, Job, JobOptions, NewTask, TaskResult,
    WorkerStatus,
};
use dewar_settings::host_name;
use dewar_task::{Kind, TaskKind as _};
use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// What is examined here, for when it cannot be.
pub const CHECKS: [&str; 2] = ["bandwidth", "task"];

/// Bytes that are sent and fetched to measure a link: a gigabit carries them in a thirtieth of a second, and a slow line of
/// one megabyte a second in four.
const MEASURED_BYTES: usize = 4 << 20;

/// Bytes that a worker gives back.
const ECHOED_BYTES: usize = 256 << 10;

/// A slower link is felt: a stack of 100 GB takes over a day.
const SLOW_BYTES_PER_S: f64 = 1e6;

/// How long a transfer may take.
const TRANSFER_WITHIN: Duration = Duration::from_secs(60);

/// How long the job is kept: long enough to look at it.
const KEPT: Duration = Duration::from_secs(60);

/// What a worker is asked to compute.
pub fn self_test() -> Kind {
    SelfTest::kind()
}

/// Sends, fetches and computes, and leaves nothing behind.
pub async fn examine(
    client: &Client,
    status: &BrokerStatus,
    workers: &[WorkerStatus],
    patience: Duration,
    findings: &mut Vec<Finding>,
) {
    let options = JobOptions {
        priority: 100,
        keep: Some(KEPT),
        ..JobOptions::named(format!("dewar doctor on {}", host_name()))
    };
    let job = match within(TRANSFER_WITHIN, client.open_job(options)).await {
        Ok(job) => job,
        Err(problem) => {
            findings.push(Finding::failed(
                "bandwidth",
                "open a job",
                problem,
                refused_cure(status),
            ));
            findings.push(Finding::skipped("task", "no job could be opened"));
            return;
        }
    };
    let mut sent = Vec::new();
    findings.push(bandwidth(&job, status, &mut sent).await);
    findings.push(task(&job, status, workers, patience, &mut sent).await);
    // Whatever is left is forgotten with the job.
    let _ = within(TRANSFER_WITHIN, async {
        job.release(&sent).await?;
        job.cancel().await
    })
    .await;
}

async fn bandwidth(job: &Job, status: &BrokerStatus, sent: &mut Vec<Digest>) -> Finding {
    let bytes = noise(MEASURED_BYTES);
    let tried = format!(
        "send {} to the broker and fetch them",
        size::rounded(bytes.len() as u64)
    );
    let began = Instant::now();
    let blob = match within(TRANSFER_WITHIN, job.upload(bytes.into())).await {
        Ok(blob) => blob,
        Err(problem) => {
            return Finding::failed("bandwidth", tried, problem, refused_cure(status));
        }
    };
    let there = rate(began.elapsed());
    sent.push(blob.digest);
    let began = Instant::now();
    if let Err(problem) = within(TRANSFER_WITHIN, job.read_blob(&blob)).await {
        let cure = "the broker took it and does not give it back: look at its log, and at the disk of its data folder";
        return Finding::failed("bandwidth", tried, problem, cure);
    }
    let back = rate(began.elapsed());
    let came = format!("{:.1} MB/s there, {:.1} MB/s back", there / 1e6, back / 1e6);
    if there.min(back) < SLOW_BYTES_PER_S {
        let cure = "work goes on, but data will take long. Bring stacks to the broker's machine and name them to --export, so that they \
                    are sent once a site; look whether --upload-limit or --download-limit is set";
        return Finding::warning("bandwidth", tried, came, cure);
    }
    Finding::ok("bandwidth", tried, came)
}

fn rate(took: Duration) -> f64 {
    MEASURED_BYTES as f64 / took.as_secs_f64().max(1e-6)
}

async fn task(
    job: &Job,
    status: &BrokerStatus,
    workers: &[WorkerStatus],
    patience: Duration,
    sent: &mut Vec<Digest>,
) -> Finding {
    let kind = self_test();
    if workers.is_empty() {
        return Finding::skipped("task", "no worker attends");
    }
    if !workers.iter().any(|worker| worker.kinds.contains(&kind)) {
        return Finding::skipped(
            "task",
            format!("no worker serves {kind}: they are of an older release"),
        );
    }
    let tried = format!(
        "have a worker compute a task of {kind} and give back {}",
        size::rounded(ECHOED_BYTES as u64)
    );
    let began = Instant::now();
    let submitted = within(TRANSFER_WITHIN, async {
        let blob = job.upload(noise(ECHOED_BYTES).into()).await?;
        let task = NewTask::new::<SelfTest>(&(), vec![Input::whole(blob)]);
        job.submit_all(vec![task.time_limit(patience)]).await?;
        Ok(blob)
    });
    let blob = match submitted.await {
        Ok(blob) => blob,
        Err(problem) => return Finding::failed("task", tried, problem, refused_cure(status)),
    };
    sent.push(blob.digest);
    let mut outcomes = job.outcomes();
    let outcome = match timeout(patience, outcomes.next()).await {
        Ok(Ok(Some(outcome))) => outcome,
        Ok(Ok(None)) => {
            return Finding::failed(
                "task",
                tried,
                "the job was closed by somebody else",
                "try again",
            );
        }
        Ok(Err(error)) => {
            return Finding::failed("task", tried, error.to_string(), "look at the broker's log");
        }
        Err(_) => return overdue(job, tried, patience).await,
    };
    let by = format!(
        "{} in {:.2} s",
        outcome.worker_name,
        began.elapsed().as_secs_f64()
    );
    match outcome.result {
        TaskResult::Succeeded(output) => echoed(job, tried, by, &blob, &output.blobs).await,
        TaskResult::Failed(failure) => Finding::failed(
            "task",
            tried,
            failure.message,
            "the task checks its worker's arithmetic and fetches its input: look at that worker's log and its cache folder",
        ),
        TaskResult::Cancelled => {
            Finding::failed("task", tried, "somebody cancelled it", "try again")
        }
    }
}

/// Bytes named by their digest: the same name is the same bytes.
async fn echoed(
    job: &Job,
    tried: String,
    by: String,
    sent: &BlobRef,
    given: &[BlobRef],
) -> Finding {
    if given != [*sent] {
        let cure = "the worker gave other bytes than it got: test that machine's memory, and do not use it until then";
        return Finding::failed(
            "task",
            tried,
            format!("other bytes came back from {by}"),
            cure,
        );
    }
    match within(TRANSFER_WITHIN, job.read_blob(sent)).await {
        Ok(_) => Finding::ok(
            "task",
            tried,
            format!("done by {by}, and the same bytes came back"),
        ),
        Err(problem) => {
            let cure = "the result is named, but cannot be read: look at the broker's log and at the disk of its data folder";
            Finding::failed("task", tried, problem, cure)
        }
    }
}

/// Nobody has answered: because nobody may, or because all are busy.
async fn overdue(job: &Job, tried: String, patience: Duration) -> Finding {
    let waited = format!("no outcome within {} s", patience.as_secs());
    let blocked = match within(TRANSFER_WITHIN, job.status()).await {
        Ok(status) => status.blocked_reason,
        Err(_) => None,
    };
    match blocked {
        Some(reason) => Finding::failed(
            "task",
            tried,
            format!("{waited}: {reason}"),
            "as it says; `dewar workers` shows who is held back and why",
        ),
        None => Finding::warning(
            "task",
            tried,
            format!("{waited}: every slot is busy with other work"),
            "wait until slots are free, or give it longer with --patience; `dewar top` shows what runs",
        ),
    }
}

fn refused_cure(status: &BrokerStatus) -> String {
    format!(
        "as it says; a full disk of {} on {} is the commonest reason, and `dewar status` tells the bounds",
        status.data_dir, status.host_name
    )
}

/// The SDK waits for an absent broker without end; a doctor does not.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, String> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Bytes that nobody has seen before: nothing on the way may have them already, or make them smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = RandomState::new().hash_one(length) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        // Xorshift, after Marsaglia.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
