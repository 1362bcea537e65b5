//! What all actors share: the way to the broker, chance, the model, and the history.

use super::{Story, store::Memory, style::Style};
use anyhow::{Context as _, Result};
use dewar_broker::simulation::Door;
use dewar_queue::{JobId, JobNumber, Outcome};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// The time of day when it begins.
const BEGINS_UNIX_MS: u64 = 1_700_000_000_000;

/// Streams of chance, so that one actor's draws do not shift another's.
pub(super) const BROKER_STREAM: u64 = 1;
pub(super) const DISK_STREAM: u64 = 2;
pub(super) const WORKER_STREAM: u64 = 1000;
pub(super) const CUSTOMER_STREAM: u64 = 2000;

/// The world.
pub(super) struct World {
    seed: u64,
    pub(super) folder: PathBuf,
    pub(super) memory: Memory,
    door: RefCell<Option<Door>>,
    /// Wakes in order of waiting. A `watch` would wake in an order of its own, by chance that no seed governs.
    opened: Notify,
    peace: CancellationToken,
    began: Instant,
    pub(super) jobs: RefCell<BTreeMap<JobNumber, JobModel>>,
    history: RefCell<blake3::Hasher>,
    trace: bool,
    pub(super) counts: RefCell<Counts>,
    next_stream: Cell<u64>,
    broken: watch::Sender<Option<String>>,
}

/// What a customer knows of a job.
#[derive(Debug, Clone)]
pub(super) struct JobModel {
    pub(super) id: JobId,
    pub(super) style: Style,
    /// Tasks the broker has acknowledged.
    pub(super) acknowledged: u64,
    /// Tasks that were ever sent.
    pub(super) sent: u64,
    /// The broker has acknowledged that it is cancelled.
    pub(super) cancelled: bool,
    /// Some of it was asked to run once more.
    pub(super) is_rerun: bool,
    /// What was seen, in sequence.
    pub(super) outcomes: Vec<Arc<Outcome>>,
}

/// What happened how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs opened.
    pub jobs: u64,
    /// Jobs cancelled.
    pub cancels: u64,
    /// Tasks acknowledged.
    pub tasks: u64,
    /// Outcomes seen.
    pub outcomes: u64,
    /// Of them, tasks set aside because workers died of them, it seemed.
    pub set_aside: u64,
    /// Of them, given from what an equal task had given.
    pub reused: u64,
    /// Jobs of which some ran once more.
    pub reruns: u64,
    /// Jobs whose customers walked away.
    pub walks_away: u64,
    /// Tries begun.
    pub attempts: u64,
    /// Times the broker died, was stopped, or lost its disk.
    pub broker_deaths: u64,
    /// Of them, in the middle of a write.
    pub torn_writes: u64,
    /// Times a worker died.
    pub worker_deaths: u64,
    /// Connections that broke.
    pub cuts: u64,
    /// Requests or answers lost or said twice.
    pub losses: u64,
}

impl World {
    pub(super) fn new(seed: u64, folder: &Path, trace: bool) -> Self {
        Self {
            seed,
            folder: folder.to_owned(),
            memory: Memory::new(chance(seed, DISK_STREAM)),
            door: RefCell::default(),
            opened: Notify::new(),
            peace: CancellationToken::new(),
            began: Instant::now(),
            jobs: RefCell::default(),
            history: RefCell::default(),
            trace,
            counts: RefCell::default(),
            next_stream: Cell::new(1 << 20),
            broken: watch::channel(None).0,
        }
    }

    /// An actor's own chance.
    pub(super) fn chance(&self, stream: u64) -> ChaCha8Rng {
        chance(self.seed, stream)
    }

    /// Chance for something that comes and goes.
    pub(super) fn new_chance(&self) -> ChaCha8Rng {
        let stream = self.next_stream.get();
        self.next_stream.set(stream + 1);
        self.chance(stream)
    }

    pub(super) fn set_door(&self, door: Option<Door>) {
        *self.door.borrow_mut() = door;
        self.opened.notify_waiters();
    }

    /// The way to the broker, once it is up.
    pub(super) async fn door(&self) -> Door {
        loop {
            let opened = self.opened.notified();
            if let Some(door) = self.door.borrow().clone() {
                return door;
            }
            opened.await;
        }
    }

    /// No more faults from here on.
    pub(super) fn make_peace(&self) {
        self.note("world", "peace");
        self.memory.make_peace();
        self.peace.cancel();
    }

    pub(super) fn is_peace(&self) -> bool {
        self.peace.is_cancelled()
    }

    /// Something that happens once in so many cases, and not in peace.
    pub(super) fn strikes(&self, random: &mut ChaCha8Rng, once_in: u32) -> bool {
        random.random_ratio(1, once_in) && !self.is_peace()
    }

    /// The time a message takes.
    pub(super) async fn travel(&self, random: &mut ChaCha8Rng) {
        sleep(delay(random)).await;
    }

    /// The time of day.
    pub(super) fn unix_ms(&self) -> impl Fn() -> u64 + Send + use<> {
        let began = self.began;
        move || BEGINS_UNIX_MS + u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A promise was broken where nobody waits for an answer.
    pub(super) fn break_off(&self, why: &anyhow::Error) {
        self.broken.send_replace(Some(format!("{why:#}")));
    }

    /// Why it was broken off; waits until it is.
    pub(super) async fn broken_off(&self) -> Result<String> {
        let mut changes = self.broken.subscribe();
        let why = changes.wait_for(Option::is_some).await?;
        why.clone().context("waited for")
    }

    /// Writes history.
    pub(super) fn note(&self, who: &str, what: impl fmt::Display) {
        let line = format!("{:>10} {who} {what}\n", self.began.elapsed().as_millis());
        self.history.borrow_mut().update(line.as_bytes());
        if self.trace {
            print!("{line}");
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.borrow_mut());
    }

    pub(super) fn story(&self) -> Story {
        Story {
            digest: self.history.borrow().finalize().to_hex()[..16].to_owned(),
            counts: self.counts.borrow().clone(),
        }
    }
}

fn chance(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// Mostly a fast network, and now and then a very slow one.
pub(super) fn delay(random: &mut ChaCha8Rng) -> Duration {
    let most_ms = if random.random_ratio(1, 50) { 3000 } else { 20 };
    Duration::from_millis(random.random_range(0..=most_ms))
}

/// A time that is this long on average.
pub(super) fn about(random: &mut ChaCha8Rng, mean: Duration) -> Duration {
    let part: f64 = random.random();
    mean.mul_f64(-(1.0 - part).ln())
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} jobs ({} cancelled, {} left alone, {} run again), {} tasks, {} outcomes ({} set aside, {} used again), {} tries; the broker died {} times ({} in a \
             write), workers {}, {} connections, {} messages lost or repeated",
            self.jobs,
            self.cancels,
            self.walks_away,
            self.reruns,
            self.tasks,
            self.outcomes,
            self.set_aside,
            self.reused,
            self.attempts,
            self.broker_deaths,
            self.torn_writes,
            self.worker_deaths,
            self.cuts,
            self.losses
        )
    }
}
