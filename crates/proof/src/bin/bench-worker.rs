//! `dewar-worker` with the kinds of `kinds.rs` in place of the real ones. Never shipped.

use anyhow::{Context as _, Result};
use clap::Parser;
use dewar_proof::kinds::{Runs, registry};
use dewar_settings::{ConnectArgs, LogArgs};
use dewar_worker::{CACHE_BYTES_DEFAULT, Config, Worker};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Computes nothing, for a Dewar broker.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Tasks to run at once.
    #[arg(long, default_value_t = 1)]
    slots: u16,
    /// Name of this worker.
    #[arg(long)]
    name: String,
    /// Folder for inputs, and for results that wait for the broker.
    #[arg(long)]
    cache_dir: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> Result<()> {
    dewar_settings::keep_transfer_memory();
    let args: Args = dewar_settings::parse("bench-worker");
    args.log.start()?;
    let config = Config {
        broker: args.connect.broker.clone(),
        token: args.connect.token()?.parse()?,
        slot_count: args.slots,
        name: args.name,
        site: String::new(),
        cache_dir: args.cache_dir,
        cache_bytes_max: CACHE_BYTES_DEFAULT,
        results: dewar_worker::ResultsAt::Broker,
        data: Some(dewar_worker::DataConfig::default()),
        nice: 0,
        load_limit: None,
        memory_bytes: 0,
        stuck: dewar_worker::StuckKernel::Replace,
        exit_when_idle: None,
        exit_when_unreachable: None,
    };
    // As many threads as `dewar-worker` gives its session.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(serve(config))?;
    runtime.shutdown_background();
    Ok(())
}

async fn serve(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    std::fs::create_dir_all(&config.cache_dir)?;
    let runs = Runs::open(&config.cache_dir.join("runs"))?;
    let mut worker = Worker::start(config, registry(&runs))?;
    tokio::select! {
        ended = worker.wait() => return Ok(ended?),
        _ = terminate.recv() => {}
    }
    worker.stop();
    Ok(worker.wait().await?)
}
