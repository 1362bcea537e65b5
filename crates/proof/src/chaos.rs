//! `cargo xtask chaos`: the real programs, struck at random under load. What was accepted must come out right.
//!
//! Broker and workers are killed with SIGKILL, stopped for longer than a lease and continued; workers are cut off, left
//! with half-open connections, and slowed down: by a proxy, or by pulling the cable of a network namespace. Meanwhile a customer submits small tasks whose outcomes it can check, and
//! a refinement runs again and again. The seed gives the same strikes; what they hit is the machine's doing.

mod fleet;
pub(crate) mod load;
mod namespace;
mod refinement;
mod strike;

use crate::{interrupt::noticed, lab};
use anyhow::{Context, Result, ensure};
use clap::Args;
use dewar_sdk::Client;
use fleet::Fleet;
use load::{Finished, Load};
use namespace::Namespace;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use refinement::Refinement;
use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use strike::Strikes;
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How long chaos reigns.
    #[arg(long, value_name = "M", default_value_t = 10.0)]
    pub minutes: f64,
    /// The strikes' seed [default: the time].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Leave the refinement out.
    #[arg(long)]
    pub no_refinement: bool,
    /// Instead: kill the broker this often while tasks are submitted, and look for every one of them.
    #[arg(long, value_name = "COUNT")]
    pub kills: Option<u64>,
}

/// Workers with the test kinds.
const BENCH_WORKERS: usize = 3;

/// Workers that refine.
const REFINE_WORKERS: usize = 2;

/// How long what was accepted may take once peace has come: a lost lease, and the work of a slow machine.
const PEACE: Duration = Duration::from_secs(240);

/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Runs chaos. Leaves its folder behind if something went wrong, and names it.
///
/// # Errors
/// If a promise was broken; the text ends with the seed.
pub fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(time_seed);
    let folder = tempfile::Builder::new().prefix("dewar-chaos-").tempdir()?;
    println!("chaos: seed {seed}");
    let ended = match options.kills {
        Some(count) => crate::kills::run(count, seed, folder.path()),
        None => reign(options, seed, folder.path()),
    };
    if ended.is_err() {
        eprintln!(
            "chaos: logs and data are kept in {}",
            folder.keep().display()
        );
    }
    ended.with_context(|| format!("chaos with --seed {seed}"))
}

fn time_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A network of its own for every other worker, where that is allowed; a proxy serves the others.
fn cable(n: usize) -> Option<Namespace> {
    if n % 2 == 1 {
        return None;
    }
    match Namespace::create(u8::try_from(n).ok()?) {
        Ok(namespace) => Some(namespace),
        Err(error) => {
            eprintln!("chaos: a proxy cuts this worker off, not a cable: {error:#}");
            None
        }
    }
}

/// All that runs.
struct Chaos {
    runtime: Runtime,
    fleet: Fleet,
    load: Arc<Load>,
    stop: CancellationToken,
    customer: Option<JoinHandle<Result<Vec<Finished>>>>,
    refinement: Option<Refinement>,
    strikes: Strikes,
    /// Somebody wants it to end, and its processes with it.
    interrupted: CancellationToken,
}

fn reign(options: &Options, seed: u64, folder: &Path) -> Result<()> {
    let mut chaos = Chaos::begin(options, seed, folder)?;
    let ends_at = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    while Instant::now() < ends_at {
        chaos.look(true)?;
        chaos.strikes.go_on(&mut chaos.fleet)?;
        thread::sleep(LOOK);
    }
    chaos.strikes.end(&mut chaos.fleet)?;
    chaos.make_peace()?;
    chaos.report(folder)
}

impl Chaos {
    fn begin(options: &Options, seed: u64, folder: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let interrupted = noticed(&runtime)?;
        let logs = folder.join("logs");
        fs::create_dir(&logs)?;
        let programs = lab::programs()?.with_logs_in(logs);
        let case = match options.no_refinement {
            true => None,
            false => Some(refinement::prepare(&programs, folder)?),
        };
        let exports = case.iter().map(|(data, _)| data.clone()).collect();
        let mut fleet = Fleet::start(programs.clone(), folder, exports)?;
        let token = lab::token(&fleet.token_file)?;
        let (load, stop) = (Arc::new(Load::default()), CancellationToken::new());
        let customer = runtime.block_on(async {
            for n in 0..BENCH_WORKERS {
                fleet
                    .add("bench-worker", format!("bench-{n}"), 2, folder, cable(n))
                    .await?;
            }
            for n in 0..REFINE_WORKERS * usize::from(case.is_some()) {
                fleet
                    .add("dewar-worker", format!("refine-{n}"), 1, folder, None)
                    .await?;
            }
            let client = Client::connect(fleet.address(), token).await?;
            anyhow::Ok(tokio::spawn(load.clone().run(client, stop.clone())))
        })?;
        let refinement = case.map(|(_, case)| {
            Refinement::new(programs, case, folder, fleet.address(), &fleet.token_file)
        });
        Ok(Self {
            runtime,
            fleet,
            load,
            stop,
            customer: Some(customer),
            refinement,
            strikes: Strikes::new(ChaCha8Rng::seed_from_u64(seed)),
            interrupted,
        })
    }

    /// Whether anything is still under way.
    fn look(&mut self, more: bool) -> Result<bool> {
        ensure!(!self.interrupted.is_cancelled(), "interrupted");
        self.fleet.check()?;
        let mut under_way = self.customer.as_ref().is_some_and(|c| !c.is_finished());
        // A customer leaves before it is told to only for a reason.
        ensure!(under_way || !more, self.customer_error());
        if let Some(refinement) = &mut self.refinement {
            under_way |= refinement.go_on(more)?;
        }
        Ok(under_way)
    }

    fn customer_error(&mut self) -> String {
        let ended = self.customer.take().map(|c| self.runtime.block_on(c));
        match ended {
            Some(Ok(Err(error))) => format!("the customer: {error:#}"),
            _ => "the customer has left".to_owned(),
        }
    }

    /// No more strikes: everything accepted must end, and be the same when asked again.
    fn make_peace(&mut self) -> Result<()> {
        self.stop.cancel();
        let ends_at = Instant::now() + PEACE;
        while self.look(false)? {
            ensure!(
                Instant::now() < ends_at,
                "{} s after the last strike {} of {} tasks have outcomes",
                PEACE.as_secs(),
                self.load.ended_count.load(Ordering::SeqCst),
                self.load.accepted_count.load(Ordering::SeqCst)
            );
            thread::sleep(LOOK);
        }
        let customer = self.customer.take().context("it is taken only here")?;
        let finished = self.runtime.block_on(customer)?.context("the customer")?;
        self.runtime
            .block_on(load::check_again(&finished))
            .context("when asked again")
    }

    fn report(&self, folder: &Path) -> Result<()> {
        let tasks = self.load.accepted_count.load(Ordering::SeqCst);
        let runs = (0..BENCH_WORKERS).map(|n| folder.join(format!("cache-bench-{n}/runs")));
        let runs = runs.filter_map(|path| Some(fs::metadata(path).ok()?.len()));
        let runs: u64 = runs.sum();
        println!("chaos: {}", self.strikes);
        println!(
            "chaos: {tasks} tasks, each with one outcome and the right one; {} runs beyond one a task",
            runs.saturating_sub(tasks)
        );
        if let Some(refinement) = &self.refinement {
            let count = refinement.finished_count;
            ensure!(count > 0, "no refinement ended");
            println!("chaos: {count} refinements, the same bytes as in peace");
        }
        Ok(())
    }
}
