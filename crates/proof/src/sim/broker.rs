//! The broker's lives: opened from what the disk remembers, run, and ended by chance.

use super::world::{BROKER_STREAM, World, about};
use anyhow::{Result, ensure};
use dewar_broker::{
    EngineFault,
    simulation::{self, Simulated},
    store::{Packs, Store as _},
};
use dewar_queue::Config;
use rand::RngExt as _;
use std::{future::pending, rc::Rc, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The broker lives for about so long.
const LIFE: Duration = Duration::from_secs(400);

/// It is away for about so long; now and then for longer than every lease.
const ABSENCE: Duration = Duration::from_secs(10);

/// Finished jobs are forgotten in the simulation too.
const KEEP_MS: u64 = 2 * 3600 * 1000;

/// Starts it again whenever it has died.
pub(super) async fn keep_up(world: Rc<World>) -> Result<()> {
    let mut random = world.chance(BROKER_STREAM);
    loop {
        let store = world.memory.open();
        let config = Config {
            keep_ms: KEEP_MS,
            keep_cancelled_ms: KEEP_MS,
            ..Config::new(store.broker_start())
        };
        world.note("broker", format_args!("start {}", config.broker_start));
        let packs = Packs::open(&world.folder)?;
        let (store, time) = (Box::new(store), world.unix_ms());
        let (engine, door) = simulation::open(store, packs, config, &world.folder, time)?;
        world.set_door(Some(door));
        let life = about(&mut random, LIFE);
        let is_orderly = random.random_ratio(1, 4);
        live(&world, engine, life, is_orderly).await?;
        world.set_door(None);
        world.count(|counts| {
            counts.broker_deaths += 1;
            counts.torn_writes = world.memory.crash_count();
        });
        sleep(about(&mut random, ABSENCE)).await;
    }
}

async fn live(world: &World, engine: Simulated, life: Duration, is_orderly: bool) -> Result<()> {
    let stop = CancellationToken::new();
    let death = async {
        sleep(life).await;
        if world.is_peace() {
            pending::<()>().await;
        }
    };
    let running = engine.run(stop.clone());
    tokio::pin!(running);
    let ended = tokio::select! {
        biased;
        ended = &mut running => ended,
        () = death => {
            if is_orderly {
                world.note("broker", "stops");
                stop.cancel();
                running.await
            } else {
                world.note("broker", "dies");
                return Ok(());
            }
        }
    };
    match ended {
        Ok(()) => ensure!(stop.is_cancelled(), "the engine ended by itself"),
        Err(EngineFault::Store(_)) => world.note("broker", "dies in a write"),
        Err(fault) => return Err(fault.into()),
    }
    Ok(())
}
