//! The daemon: read settings, open, serve, wait for a signal, write what is left, exit.

use anyhow::Context as _;
use clap::Parser;
use dewar_broker::{Broker, Config, Patience, Pulse, StartError, add_owner};
use dewar_settings::Bandwidth;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Keeps the queue of tasks and the data that workers fetch.
#[derive(Debug, Parser)]
#[command(name = "dewar-broker", version)]
struct Settings {
    /// Address to listen on. Without it: 127.0.0.1:9990, or the next free port up to 9999.
    #[arg(long, value_name = "ADDRESS:PORT", env = "DEWAR_LISTEN")]
    listen: Option<SocketAddr>,
    /// Folder for the queue, uploads and results. Without it: dewar/broker among this account's state.
    #[arg(long, value_name = "DIR", env = "DEWAR_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Folder whose files customers may use where they are. May be given several times.
    #[arg(
        long = "export",
        value_name = "DIR",
        env = "DEWAR_EXPORT",
        value_delimiter = ':'
    )]
    exports: Vec<PathBuf>,
    /// Listen beyond this machine although nothing is encrypted yet.
    #[arg(long, env = "DEWAR_INSECURE")]
    insecure: bool,
    /// Make a token for a further owner, print its file, and leave. Owners share workers fairly. The broker may be running.
    #[arg(long, value_name = "NAME")]
    add_owner: Option<String>,
    /// After a restart, how long workers that attended before may take to come back before their tasks go to others.
    #[arg(long, value_name = "TIME", env = "DEWAR_COMEBACK", default_value = "60s", value_parser = humantime::parse_duration)]
    comeback: Duration,
    /// Send at most so many bytes of data a second, such as 100MB/s.
    #[arg(long, value_name = "SIZE/s", env = "DEWAR_UPLOAD_LIMIT")]
    upload_limit: Option<Bandwidth>,
    /// Take at most so many bytes of data a second.
    #[arg(long, value_name = "SIZE/s", env = "DEWAR_DOWNLOAD_LIMIT")]
    download_limit: Option<Bandwidth>,
    #[command(flatten)]
    log: dewar_settings::LogArgs,
}

fn main() -> ExitCode {
    dewar_settings::keep_transfer_memory();
    let settings: Settings = dewar_settings::parse("dewar-broker");
    if let Err(error) = settings.log.start() {
        eprintln!("error: {:#}", anyhow::Error::from(error));
        return ExitCode::from(2);
    }
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if is_full_disk(&error) {
                eprintln!(
                    "free some space and start it again: nothing that was acknowledged is lost"
                );
            }
            match error.downcast_ref::<StartError>() {
                Some(error) if error.is_of_settings() => ExitCode::from(2),
                Some(_) | None => ExitCode::from(1),
            }
        }
    }
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let ended = runtime.block_on(run(settings));
    // What is promised is written. A thread that waits for a slow disk or a long file must not keep the process from ending.
    runtime.shutdown_background();
    ended
}

fn is_full_disk(error: &anyhow::Error) -> bool {
    let causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.into_iter().any(|cause| {
        matches!(
            cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    })
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    raise_file_limit();
    let data_dir = match settings.data_dir {
        Some(data_dir) => data_dir,
        None => dewar_settings::broker_data_dir().map_err(|_| StartError::NoDataDir)?,
    };
    if let Some(owner) = settings.add_owner {
        let path = add_owner(&data_dir, &owner).context("cannot add an owner")?;
        println!("{}", path.display());
        return Ok(());
    }
    // Caught from here on, so that a signal in the first moment is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let mut broker = Broker::start(Config {
        listen: settings.listen,
        exports: settings.exports,
        insecure: settings.insecure,
        patience: Patience {
            comeback: settings.comeback,
            ..Patience::default()
        },
        upload_limit: settings.upload_limit.map(|limit| limit.0),
        download_limit: settings.download_limit.map(|limit| limit.0),
        ..Config::new(data_dir)
    })
    .await?;
    println!("dewar-broker listening on {}", broker.address());
    if settings.insecure {
        eprintln!("warning: nothing is encrypted; use this on a network that you trust");
    }
    // Without systemd there is nobody to notify, which is no fault.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(keep_watchdog_calm(broker.pulse(), limit));
    }

    tokio::select! {
        ended = broker.wait() => return Ok(ended?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    broker.shutdown().await?;
    Ok(())
}

/// Tells systemd, well within its limit, that the engine still answers. One that hangs is killed and started again, which
/// loses nothing that was acknowledged.
async fn keep_watchdog_calm(pulse: Pulse, limit: Duration) {
    let mut tick = tokio::time::interval(limit / 3);
    while pulse.beat().await {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        tick.tick().await;
    }
}

/// Each connection is an open file, and the usual soft limit is 1024 of them.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files stays; not all workers may find room");
    }
}
