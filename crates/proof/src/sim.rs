//! `cargo xtask sim`: the broker's real queue and engine among simulated workers, customers, network and disk, in
//! virtual time.
//!
//! The network delays, repeats and cuts; the disk loses what was on its way to it; broker and workers die. All chance
//! comes from one seed, everything runs on one thread under a clock that jumps, and the history's digest tells whether two
//! runs were the same. What must hold is checked against a model as it happens, and once more when peace has come.

mod broker;
mod customer;
mod link;
mod store;
mod style;
mod verdict;
mod worker;
mod world;

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::{rc::Rc, time::Duration};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{sleep, timeout},
};
use world::World;

/// Which history, and how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Everything that happens follows from it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Virtual hours with faults.
    #[arg(long, value_name = "H", default_value_t = 1.0)]
    pub hours: f64,
    /// Print the history.
    #[arg(long)]
    pub trace: bool,
}

/// Workers, of one to three slots.
const WORKER_COUNT: u64 = 5;

/// Customers, each an owner.
const CUSTOMER_COUNT: u64 = 3;

/// How long everything may take to end once faults do: retries wait for a minute at most, tasks take seconds.
const PEACE: Duration = Duration::from_secs(4 * 3600);

/// How often every invariant of the queue is looked at.
const CHECK: Duration = Duration::from_secs(30);

/// What a simulation was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// Of everything that happened, in order.
    pub digest: String,
    /// What happened how often.
    pub counts: world::Counts,
}

/// Simulates, and prints what happened.
///
/// # Errors
/// If a promise was broken; the text names the seed.
pub fn run(options: &Options) -> Result<()> {
    let story = simulate(options)?;
    println!(
        "sim: seed {}, {} hours: {}",
        options.seed, options.hours, story.counts
    );
    println!("sim: digest {}", story.digest);
    Ok(())
}

/// Simulates.
///
/// # Errors
/// If a promise was broken; the text names the seed.
pub fn simulate(options: &Options) -> Result<Story> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let folder = tempfile::tempdir()?;
    let hours = Duration::from_secs_f64(options.hours * 3600.0);
    let ended = LocalSet::new().block_on(&runtime, async {
        // Made where the clock is the virtual one.
        let world = Rc::new(World::new(options.seed, folder.path(), options.trace));
        live(world.clone(), hours).await?;
        anyhow::Ok(world.story())
    });
    ended.with_context(|| {
        format!(
            "simulation with --seed {} --hours {}",
            options.seed, options.hours
        )
    })
}

async fn live(world: Rc<World>, hours: Duration) -> Result<()> {
    let mut others = JoinSet::new();
    others.spawn_local(broker::keep_up(world.clone()));
    for n in 0..WORKER_COUNT {
        others.spawn_local(worker::live(world.clone(), n));
    }
    others.spawn_local(verdict::look_on(world.clone(), CHECK));
    let mut customers = JoinSet::new();
    for n in 0..CUSTOMER_COUNT {
        customers.spawn_local(customer::live(world.clone(), n));
    }
    let all = async {
        while let Some(ended) = customers.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    let peace = async {
        sleep(hours).await;
        world.make_peace();
        sleep(PEACE).await;
    };
    tokio::pin!(all);
    tokio::select! {
        biased;
        ended = &mut all => ended?,
        Some(ended) = others.join_next() => {
            // Broker and workers live for as long as the world does.
            ended??;
            anyhow::bail!("a part of the world ended");
        }
        why = world.broken_off() => anyhow::bail!(why?),
        () = peace => anyhow::bail!(
            "{} hours after the last fault not every task has ended: {}",
            PEACE.as_secs() / 3600,
            world.story().counts
        ),
    }
    ensure!(world.is_peace(), "the customers left before the end");
    timeout(PEACE, verdict::conclude(&world)).await?
}
