//! The worker daemon.

use anyhow::Context as _;
use clap::Parser;
use dewar_proto::Token;
use dewar_settings::{Bandwidth, ByteSize, ConnectArgs, LogArgs};
use dewar_worker::{
    Config, DataConfig, LoadLimit, Pulse, ResultsAt, RunningError, StartError, StuckKernel, Worker,
};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

/// Computes tasks for a Dewar broker.
#[derive(Debug, Parser)]
#[command(name = "dewar-worker", version)]
struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Tasks to run at once [default: one for each core].
    #[arg(long, env = "DEWAR_SLOTS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    slots: Option<u16>,
    /// Name of this worker, for people [default: the host's name and the process id].
    #[arg(long, env = "DEWAR_NAME")]
    name: Option<String>,
    /// Folder for inputs, and for results that wait for the broker [default: dewar/worker in the account's caches].
    #[arg(long, env = "DEWAR_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Most bytes of inputs kept there.
    #[arg(
        long,
        env = "DEWAR_CACHE_SIZE",
        value_name = "SIZE",
        default_value = "50GiB"
    )]
    cache_size: ByteSize,
    /// Where large results go: to the broker, or near, which is the cache folder and a second worker of the site.
    #[arg(
        long,
        env = "DEWAR_RESULTS",
        value_name = "WHERE",
        value_enum,
        default_value_t = Results::Broker
    )]
    results: Results,
    /// Most bytes of results kept near, besides the inputs; what does not fit goes to the broker.
    #[arg(
        long,
        env = "DEWAR_RESULTS_SIZE",
        value_name = "SIZE",
        default_value = "50GiB"
    )]
    results_size: ByteSize,
    /// Machines with the same site reach one another cheaply [default: the broker tells by subnet].
    #[arg(
        long,
        env = "DEWAR_SITE",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// Where peers fetch data from this worker, and from where it connects [default: its address towards the broker, any port].
    #[arg(long, env = "DEWAR_DATA_LISTEN", value_name = "ADDR:PORT")]
    data_listen: Option<SocketAddr>,
    /// Where peers are told to fetch data from it [default: where it listens].
    #[arg(long, env = "DEWAR_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Send at most so many bytes of data a second, to peers and to the broker, such as 100MB/s.
    #[arg(long, value_name = "SIZE/s", env = "DEWAR_UPLOAD_LIMIT")]
    upload_limit: Option<Bandwidth>,
    /// Fetch at most so many bytes of data a second.
    #[arg(long, value_name = "SIZE/s", env = "DEWAR_DOWNLOAD_LIMIT")]
    download_limit: Option<Bandwidth>,
    /// How far to stand back for other programs, 0 to 19.
    #[arg(long, env = "DEWAR_NICE", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i32).range(0..=19))]
    nice: i32,
    /// Take nothing new while the load of other programs on this machine is above N [default: no limit].
    // Most workers have their machine to themselves, or share it by a batch system or control groups, where the load
    // of the whole machine says nothing about them; only whoever shares a workstation knows how much is too much.
    #[arg(long, env = "DEWAR_MAX_LOAD", value_name = "N", value_parser = load)]
    max_load: Option<f64>,
    /// Memory that tasks may use together [default: that of the machine or its control group, less a reserve].
    #[arg(long, env = "DEWAR_MEMORY", value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Leave after this long without a task, such as 10m.
    #[arg(long, env = "DEWAR_EXIT_WHEN_IDLE", value_name = "TIME", value_parser = humantime::parse_duration)]
    exit_when_idle: Option<Duration>,
    /// Leave after this long without the broker, such as 1h.
    #[arg(long, env = "DEWAR_EXIT_WHEN_UNREACHABLE", value_name = "TIME", value_parser = humantime::parse_duration)]
    exit_when_unreachable: Option<Duration>,
    #[command(flatten)]
    log: LogArgs,
}

/// Where large results go.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Results {
    Broker,
    Near,
}

fn main() -> ExitCode {
    dewar_settings::keep_transfer_memory();
    let args: Args = dewar_settings::parse("dewar-worker");
    let ended = match args.config() {
        Ok(config) => run(config).map_err(|error| (exit_code(&error), error)),
        Err(error) => Err((WRONG_SETTINGS, error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(code)
        }
    }
}

/// Whoever watches over the worker need not start it again.
const WRONG_SETTINGS: u8 = 2;

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(RunningError::Unreachable { .. }) = error.downcast_ref() {
        return 3;
    }
    let is_of_settings = error.downcast_ref().is_some_and(StartError::is_of_settings);
    if is_of_settings { WRONG_SETTINGS } else { 1 }
}

fn run(config: Config) -> anyhow::Result<()> {
    // The session needs little; kernels have threads of their own, one for each slot.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?;
    let ended = runtime.block_on(async {
        let mut worker = Worker::start(config, dewar_kernels::registry())?;
        // Ready to be given work: a broker that is away is waited for. Without systemd there is nobody to notify, which
        // is no fault.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        if let Some(limit) = sd_notify::watchdog_enabled() {
            tokio::spawn(keep_watchdog_calm(worker.pulse(), limit));
        }
        let ended = worker.serve_until_signalled().await;
        let anew_as = ended.as_ref().err();
        if let Some(worker_id) = anew_as.and_then(|error| error.anew_as(worker.worker_id())) {
            // It ends as a failure then, after which whoever watches over it starts it again.
            let error = dewar_worker::begin_anew(worker_id);
            tracing::error!(%error, "cannot begin anew");
        }
        Ok(ended?)
    });
    // A kernel that heeds no stop flag must not keep the process from ending.
    runtime.shutdown_background();
    ended
}

/// Tells systemd, well within its limit, that the session still decides. A process in which it does not is killed and started
/// again; its tasks go to others.
async fn keep_watchdog_calm(pulse: Pulse, limit: Duration) {
    let mut tick = tokio::time::interval(limit / 3);
    while pulse.beat().await {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        tick.tick().await;
    }
}

fn load(text: &str) -> Result<f64, String> {
    let load: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if load.is_finite() && load >= 0.0 {
        Ok(load)
    } else {
        Err("a load is 0 or more".to_owned())
    }
}

impl Args {
    fn config(self) -> anyhow::Result<Config> {
        self.log.start()?;
        let token: Token = self.connect.token()?.parse()?;
        let cache_dir = match self.cache_dir {
            Some(folder) => folder,
            None => dewar_settings::worker_cache_dir().context("give --cache-dir")?,
        };
        let core_count = std::thread::available_parallelism().map_or(1, usize::from);
        let host_name = dewar_settings::host_name();
        Ok(Config {
            broker: self.connect.broker,
            token,
            slot_count: self
                .slots
                .unwrap_or_else(|| u16::try_from(core_count).unwrap_or(u16::MAX)),
            name: self
                .name
                .unwrap_or_else(|| format!("{host_name}-{}", std::process::id())),
            site: self.site,
            cache_dir,
            cache_bytes_max: self.cache_size.0,
            results: match self.results {
                Results::Broker => ResultsAt::Broker,
                Results::Near => ResultsAt::Near {
                    bytes_max: self.results_size.0,
                },
            },
            data: Some(DataConfig {
                listen: self.data_listen,
                advertise: self.advertise,
                upload_limit: self.upload_limit.map(|limit| limit.0),
                download_limit: self.download_limit.map(|limit| limit.0),
            }),
            nice: self.nice,
            load_limit: self.max_load.map(LoadLimit::new),
            memory_bytes: self
                .memory
                .map_or_else(dewar_worker::memory_bytes_default, |size| size.0),
            stuck: StuckKernel::End,
            exit_when_idle: self.exit_when_idle,
            exit_when_unreachable: self.exit_when_unreachable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn only_wrong_settings_keep_it_from_being_started_again() {
        let check = |error: anyhow::Error, code| assert_eq!(exit_code(&error), code, "{error}");
        check(StartError::NoSlots.into(), 2);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let (folder, source) = (PathBuf::from("cache"), full());
        check(StartError::Cache { folder, source }.into(), 1);
        check(StartError::Thread(full()).into(), 1);
        check(StartError::SelfTest("wrong".to_owned()).into(), 1);
        check(RunningError::Interrupted.into(), 1);
        let unreachable = RunningError::Unreachable {
            address: "there".to_owned(),
            after: Duration::ZERO,
            reason: String::new(),
        };
        check(unreachable.into(), 3);
        check(full().into(), 1);
    }
}
