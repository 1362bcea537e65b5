//! `kill -9` of the broker during submits, again and again: every task that was acknowledged is there.

use crate::{
    chaos::load::{check, task},
    interrupt::noticed,
    lab,
};
use anyhow::{Context, Result, ensure};
use dewar_sdk::{Client, ConnectOptions, Job, JobOptions, Retry};
use dewar_testkit::{BrokerOptions, Programs, WorkerOptions};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Tasks of one submit, at most; they differ so that batches do.
const SUBMIT_COUNT_MAX: u64 = 40;

/// Kills the broker `count` times, then lets a worker run all that is there.
pub(crate) fn run(count: u64, seed: u64, folder: &Path) -> Result<()> {
    let logs = folder.join("logs");
    fs::create_dir(&logs)?;
    let programs = lab::programs()?.with_logs_in(logs);
    let runtime = tokio::runtime::Runtime::new()?;
    let interrupted = noticed(&runtime)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut options = BrokerOptions {
        data_dir: folder.join("broker"),
        exports: Vec::new(),
        listen: "127.0.0.1:0".to_owned(),
    };
    let mut broker = programs.start_broker(&options)?;
    options.listen.clone_from(&broker.address);
    let token = lab::token(&broker.token_file)?;
    let job = runtime.block_on(open(&broker.address, token))?;
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let submitting = runtime.spawn(submit(job.clone(), acknowledged.clone(), stop.clone()));
    for round in 0..count {
        ensure!(!interrupted.is_cancelled(), "interrupted");
        // Not a wait for anything: the moment of death is to differ from round to round.
        thread::sleep(Duration::from_millis(random.random_range(0..120)));
        broker.kill()?;
        let promised = acknowledged.load(Ordering::SeqCst);
        broker = programs.start_broker(&options)?;
        let status = runtime.block_on(job.status())?;
        ensure!(
            status.task_count() >= promised,
            "{promised} tasks were promised before kill {round}, and {} found after it",
            status.task_count()
        );
        // The customer sends what was not acknowledged once more; a gap would be refused, so it must not have left.
        ensure!(
            !submitting.is_finished(),
            "a submit was refused after kill {round}"
        );
    }
    stop.cancel();
    runtime.block_on(submitting)?.context("the last submit")?;
    let promised = acknowledged.load(Ordering::SeqCst);
    ensure!(promised > 0, "nothing was submitted");
    let ended = run_all(&programs, &broker, &runtime, &job, folder)?;
    ensure!(ended == promised, "{promised} promised, {ended} ended");
    println!(
        "chaos: {count} kills of the broker, {promised} tasks acknowledged, all there and right"
    );
    broker.stop()
}

async fn open(address: &str, token: dewar_sdk::Token) -> Result<Job> {
    // Back at once, so that every death finds a submit on its way.
    let retry = Retry {
        first_wait: Duration::from_millis(1),
        wait_max: Duration::from_millis(5),
    };
    let options = ConnectOptions {
        retry,
        ..Default::default()
    };
    let client = Client::connect_with(address, token, options).await?;
    Ok(client.open_job(JobOptions::named("kills")).await?)
}

async fn submit(job: Job, acknowledged: Arc<AtomicU64>, stop: CancellationToken) -> Result<()> {
    let mut next = 0;
    while !stop.is_cancelled() {
        let count = 1 + next % SUBMIT_COUNT_MAX;
        let range = job
            .submit_all((next..next + count).map(task).collect())
            .await?;
        next = range.end.0;
        acknowledged.store(next, Ordering::SeqCst);
    }
    job.close().await?;
    Ok(())
}

/// How many tasks came out, each what its own parameters say.
fn run_all(
    programs: &Programs,
    broker: &dewar_testkit::Broker,
    runtime: &tokio::runtime::Runtime,
    job: &Job,
    folder: &Path,
) -> Result<u64> {
    let options = WorkerOptions {
        name: "all".to_owned(),
        // Most of what takes time is asleep.
        slot_count: 64,
        cache_dir: folder.join("cache"),
    };
    let worker = programs.start_worker_program(
        "bench-worker",
        &broker.address,
        &broker.token_file,
        &options,
    )?;
    let ended = runtime.block_on(check(job.outcomes(), || ()))?;
    worker.stop()?;
    Ok(ended)
}
