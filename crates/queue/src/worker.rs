//! Workers: what they are, what they have room for, and how far they are trusted.

mod book;
mod trust;

pub(crate) use book::{Book, Held};
pub(crate) use trust::{Streaks, Trust};

use crate::{
    AttemptId, Kernel, Kind, Resources, TaskId, Timestamp, WorkerHello,
    config::Config,
    ready::{Need, Standing},
};
use std::sync::Arc;

/// One worker that said hello and was not given up since.
#[derive(Debug)]
pub struct Worker {
    pub(crate) hello: WorkerHello,
    pub(crate) seen_at: Timestamp,
    /// When its connection closed, unless it has one.
    pub(crate) disconnected_at: Option<Timestamp>,
    pub(crate) draining: bool,
    /// Why it wants nothing new now, if it does not.
    pub(crate) busy_reason: Option<Arc<str>>,
    pub(crate) trust: Trust,
    pub(crate) streaks: Streaks,
    pub(crate) book: Book,
    pub(crate) succeeded_count: u64,
    pub(crate) failed_count: u64,
    /// As which it stands in the indices; what must be taken out before it changes.
    pub(crate) listed: Listing,
}

/// A worker's places in the indices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Whether it may be given tasks at all, now or when it has room.
    pub(crate) able: bool,
    /// Thousandths of its slots that are taken, if it may be given tasks now.
    pub(crate) load_permille: Option<u32>,
    /// What it has room for.
    pub(crate) room: Room,
    /// Tries that wait behind others, if there are.
    pub(crate) queued_count: Option<usize>,
    /// When it is given up if nothing is heard.
    pub(crate) deadline: Option<Timestamp>,
    /// When its probation is over.
    pub(crate) trial_at: Option<Timestamp>,
}

/// What a worker could take besides what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    slot_count: u64,
    memory_bytes: u64,
}

impl Worker {
    pub(crate) fn new(hello: WorkerHello, at: Timestamp) -> Self {
        Self {
            hello,
            seen_at: at,
            disconnected_at: None,
            draining: false,
            busy_reason: None,
            trust: Trust::Full,
            streaks: Streaks::default(),
            book: Book::default(),
            succeeded_count: 0,
            failed_count: 0,
            listed: Listing::default(),
        }
    }

    /// How it introduced itself. `held` is what it held then.
    pub fn hello(&self) -> &WorkerHello {
        &self.hello
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.disconnected_at.is_none()
    }

    /// Whether it takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Tries that run on it.
    pub fn running_count(&self) -> usize {
        self.running().count()
    }

    /// Tries that wait on it behind others.
    pub fn queued_count(&self) -> usize {
        self.book.len() - self.running_count()
    }

    /// The tries it has in the order in which it takes them up, and whether each runs rather than waiting behind others.
    pub fn tries(&self) -> impl Iterator<Item = (TaskId, AttemptId, bool)> {
        let mut running = self.running().map(|(attempt, _)| attempt).peekable();
        self.book.iter().map(move |(attempt, held)| {
            let runs = running.next_if_eq(&attempt).is_some();
            (held.task, attempt, runs)
        })
    }

    /// Tries that succeeded since it joined.
    pub fn succeeded_count(&self) -> u64 {
        self.succeeded_count
    }

    /// Tries that failed since it joined.
    pub fn failed_count(&self) -> u64 {
        self.failed_count
    }

    /// Whether it can compute a kind.
    pub fn has_kind(&self, kind: &Kind) -> bool {
        self.hello.kinds.contains(kind)
    }

    /// Why it is given nothing, or little, if that is so.
    pub fn held_back_reason(&self) -> Option<String> {
        if self.draining {
            return Some("draining".into());
        }
        if let Some(reason) = &self.busy_reason {
            return Some(reason.to_string());
        }
        match self.trust {
            Trust::Full => None,
            Trust::Probation { .. } => {
                Some("on probation: it failed everything it touched while others did not".into())
            }
            Trust::Trial { .. } => Some("on trial with one task after failing everything".into()),
        }
    }

    pub(crate) fn slot_count(&self) -> u64 {
        u64::from(self.hello.slot_count)
    }

    pub(crate) fn kernel(&self, kind: &Kind) -> Option<&Kernel> {
        let mut kernels = self.hello.kernels.iter();
        kernels.find(|kernel| kernel.kind == *kind)
    }

    /// The tries that run, in the order in which they were taken up.
    pub(crate) fn running(&self) -> impl Iterator<Item = (AttemptId, &Held)> {
        let mut free = self.slot_count();
        self.book.iter().map_while(move |(attempt, held)| {
            free = free.checked_sub(held.slot_count())?;
            Some((attempt, held))
        })
    }

    /// The last try to be taken up, if it waits there behind others.
    pub(crate) fn last_queued(&self) -> Option<(AttemptId, &Held)> {
        let last = self.book.last()?;
        (!self.is_running(last.0)).then_some(last)
    }

    /// Whether a try runs, rather than waiting on the worker behind others.
    pub(crate) fn is_running(&self, attempt: AttemptId) -> bool {
        let mut running = self.running().take_while(|(other, _)| *other <= attempt);
        running.any(|(other, _)| other == attempt)
    }

    /// Whether it could ever run a task of this need.
    pub(crate) fn is_capable_of(&self, need: &Need) -> bool {
        let Resources {
            slot_count,
            memory_bytes,
        } = need.resources;
        let memory = self.hello.memory_bytes;
        self.has_kind(&need.kind)
            && slot_count <= self.hello.slot_count
            && (memory == 0 || memory_bytes <= memory)
    }

    /// Whether a task that takes this would run at once.
    pub(crate) fn has_free_slots(&self, resources: Resources) -> bool {
        let taken = self.book.slot_count + u64::from(resources.slot_count);
        taken <= self.slot_count()
    }

    /// How it is listed under a need.
    pub(crate) fn standing_under(&self, need: &Need) -> Standing {
        if !self.listed.able || !self.is_capable_of(need) {
            return Standing::Unable;
        }
        let has_room = self.listed.room.fits(need.resources);
        match self.listed.load_permille.filter(|_| has_room) {
            Some(load_permille) => Standing::Open { load_permille },
            None => Standing::Full,
        }
    }

    pub(crate) fn listing(&self, config: &Config) -> Listing {
        let able =
            self.is_connected() && !self.draining && !matches!(self.trust, Trust::Probation { .. });
        let may_take = able && self.busy_reason.is_none();
        let queued_count = self.queued_count();
        let lease_end = self.seen_at.after_ms(config.lease_ms);
        Listing {
            able,
            load_permille: may_take.then(|| self.load_permille()),
            room: if may_take {
                self.room(config)
            } else {
                Room::default()
            },
            queued_count: (queued_count > 0).then_some(queued_count),
            deadline: Some(match self.disconnected_at {
                None => lease_end,
                Some(at) => lease_end.min(at.after_ms(config.reconnect_ms)),
            }),
            trial_at: match self.trust {
                Trust::Probation { until, .. } => Some(until),
                Trust::Full | Trust::Trial { .. } => None,
            },
        }
    }

    fn load_permille(&self) -> u32 {
        let load = self.book.slot_count * 1000 / self.slot_count().max(1);
        u32::try_from(load).unwrap_or(u32::MAX)
    }

    /// Room for tasks that run at once, for a few behind them, and for as much more as small tasks are done in no time.
    fn room(&self, config: &Config) -> Room {
        let slots = self.slot_count();
        let on_trial = matches!(self.trust, Trust::Trial { .. });
        // Alone means alone; and a suspect is given only to a worker that holds nothing else.
        if self.book.alone_count > 0 || (on_trial && !self.book.is_empty()) {
            return Room::default();
        }
        let little_to_do = self.book.expected_us < slots.saturating_mul(config.ahead_ms * 1000);
        let per_slot = if on_trial {
            1
        } else {
            1 + u64::from(config.ahead_per_slot)
        };
        let in_bulk = match little_to_do && !on_trial {
            true => u64::from(config.ahead_count_max),
            false => 0,
        };
        let memory = match self.hello.memory_bytes {
            0 => u64::MAX,
            bytes => bytes.saturating_sub(self.book.memory_bytes),
        };
        Room {
            slot_count: slots
                .saturating_mul(per_slot)
                .saturating_add(in_bulk)
                .saturating_sub(self.book.slot_count),
            memory_bytes: memory,
        }
    }
}

impl Room {
    pub(crate) fn fits(&self, resources: Resources) -> bool {
        u64::from(resources.slot_count) <= self.slot_count
            && resources.memory_bytes <= self.memory_bytes
    }
}
