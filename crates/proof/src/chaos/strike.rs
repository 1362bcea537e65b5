//! What strikes, when, and how it is mended.

use super::fleet::Fleet;
use anyhow::Result;
use dewar_testkit::{Mode, Signal};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::{
    fmt, mem,
    time::{Duration, Instant},
};

/// The broker's lease, and a little.
const LONGER_THAN_LEASE: Duration = Duration::from_secs(32);

/// What was struck, what is to be mended, and what comes next.
pub(super) struct Strikes {
    random: ChaCha8Rng,
    next_at: Instant,
    to_mend: Vec<(Instant, Mend)>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    broker_kills: u64,
    worker_kills: u64,
    stops: u64,
    cuts: u64,
    holds: u64,
    slowdowns: u64,
}

/// What puts an end to a strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mend {
    StartBroker,
    ContinueBroker,
    StartWorker(usize),
    ContinueWorker(usize),
    Connect(usize),
}

impl Strikes {
    pub(super) fn new(random: ChaCha8Rng) -> Self {
        Self {
            random,
            next_at: Instant::now() + Duration::from_secs(1),
            to_mend: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Mends what is due, and strikes when it is time.
    pub(super) fn go_on(&mut self, fleet: &mut Fleet) -> Result<()> {
        let now = Instant::now();
        let (due, later) = mem::take(&mut self.to_mend)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.to_mend = later;
        mend(due, fleet)?;
        if now >= self.next_at {
            self.next_at = now + self.between(200, 1500);
            self.strike(fleet)?;
        }
        Ok(())
    }

    /// Mends everything at once.
    pub(super) fn end(&mut self, fleet: &mut Fleet) -> Result<()> {
        mend(mem::take(&mut self.to_mend), fleet)
    }

    fn strike(&mut self, fleet: &mut Fleet) -> Result<()> {
        let worker = self.random.random_range(0..fleet.workers.len());
        let dice = self.random.random_range(0..100);
        let is_first_stop = self.counts.stops == 0;
        let is_struck = self
            .to_mend
            .iter()
            .any(|(_, mend)| mend.worker() == Some(worker));
        let broker_is_struck = self.to_mend.iter().any(|(_, mend)| mend.worker().is_none());
        let (pause, mend) = match dice {
            _ if is_first_stop && !is_struck => return self.stop(worker, fleet),
            0..20 if !broker_is_struck => {
                fleet.kill_broker()?;
                self.counts.broker_kills += 1;
                (self.between(0, 1500), Mend::StartBroker)
            }
            20..24 if !broker_is_struck && fleet.broker_is_up() => {
                fleet.signal_broker(Signal::STOP)?;
                self.counts.stops += 1;
                (self.between(500, 8000), Mend::ContinueBroker)
            }
            _ if is_struck => return Ok(()),
            24..55 => {
                fleet.kill_worker(worker)?;
                self.counts.worker_kills += 1;
                (self.between(0, 1500), Mend::StartWorker(worker))
            }
            55..58 => return self.stop(worker, fleet),
            58..78 => {
                fleet.set_network(worker, Mode::Cut)?;
                self.counts.cuts += 1;
                (self.between(0, 7000), Mend::Connect(worker))
            }
            78..90 => {
                fleet.set_network(worker, Mode::Held)?;
                self.counts.holds += 1;
                (self.between(500, 12_000), Mend::Connect(worker))
            }
            _ => {
                fleet.set_network(worker, Mode::Slow)?;
                self.counts.slowdowns += 1;
                (self.between(500, 8000), Mend::Connect(worker))
            }
        };
        self.to_mend.push((Instant::now() + pause, mend));
        Ok(())
    }

    fn stop(&mut self, worker: usize, fleet: &Fleet) -> Result<()> {
        fleet.signal_worker(worker, Signal::STOP)?;
        self.counts.stops += 1;
        let until = Instant::now() + LONGER_THAN_LEASE + self.between(0, 3000);
        self.to_mend.push((until, Mend::ContinueWorker(worker)));
        Ok(())
    }

    fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(self.random.random_range(least_ms..=most_ms))
    }
}

impl Mend {
    fn worker(self) -> Option<usize> {
        match self {
            Self::StartBroker | Self::ContinueBroker => None,
            Self::StartWorker(n) | Self::ContinueWorker(n) | Self::Connect(n) => Some(n),
        }
    }
}

fn mend(due: Vec<(Instant, Mend)>, fleet: &mut Fleet) -> Result<()> {
    for (_, mend) in due {
        match mend {
            Mend::StartBroker => fleet.start_broker()?,
            Mend::ContinueBroker => fleet.signal_broker(Signal::CONT)?,
            Mend::StartWorker(worker) => fleet.start_worker(worker)?,
            Mend::ContinueWorker(worker) => fleet.signal_worker(worker, Signal::CONT)?,
            Mend::Connect(worker) => fleet.set_network(worker, Mode::Open)?,
        }
    }
    Ok(())
}

impl fmt::Display for Strikes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        write!(
            f,
            "{} kills ({} of the broker), {} stops, {} cuts, {} half-open, {} slow",
            counts.broker_kills + counts.worker_kills,
            counts.broker_kills,
            counts.stops,
            counts.cuts,
            counts.holds,
            counts.slowdowns
        )
    }
}
