//! A disk that loses what was on its way to it when the broker died.

use dewar_broker::store::{MemStore, Store, StoreError};
use dewar_queue::Event;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One append in so many is the broker's last.
const APPENDS_PER_CRASH: u32 = 1500;

/// What outlasts the broker.
#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<State>>);

struct State {
    store: MemStore,
    random: ChaCha8Rng,
    is_peace: bool,
    crash_count: u64,
}

/// The store of one start of the broker.
pub(super) struct ForgetfulStore {
    memory: Memory,
    broker_start: u64,
    failed: bool,
}

impl Memory {
    pub(super) fn new(random: ChaCha8Rng) -> Self {
        Self(Arc::new(Mutex::new(State {
            store: MemStore::default(),
            random,
            is_peace: false,
            crash_count: 0,
        })))
    }

    /// Opens it once more, for the next start of the broker.
    pub(super) fn open(&self) -> ForgetfulStore {
        let mut state = self.state();
        state.store = mem::take(&mut state.store).reopen();
        ForgetfulStore {
            broker_start: state.store.broker_start(),
            memory: self.clone(),
            failed: false,
        }
    }

    /// What is there, without touching it.
    pub(super) fn copy(&self) -> MemStore {
        self.state().store.clone()
    }

    pub(super) fn make_peace(&self) {
        self.state().is_peace = true;
    }

    pub(super) fn crash_count(&self) -> u64 {
        self.state().crash_count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Everything is on one thread; a panic elsewhere ends the simulation anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for ForgetfulStore {
    fn replay(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), StoreError> {
        self.memory.state().store.replay(apply)
    }

    fn append(&mut self, batch: &[Event]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let mut state = self.memory.state();
        let state = &mut *state;
        if state.is_peace || !state.random.random_ratio(1, APPENDS_PER_CRASH) {
            return state.store.append(batch);
        }
        self.failed = true;
        state.crash_count += 1;
        state.store.append(&kept(batch, &mut state.random))?;
        Err(StoreError::Failed)
    }

    fn broker_start(&self) -> u64 {
        self.broker_start
    }

    fn may_block(&self) -> bool {
        false
    }
}

/// All, nothing, or a beginning, which may end in the middle of a submit: real stores cut those into records. They keep
/// small batches whole or not at all; the queue must make do with less.
fn kept(batch: &[Event], random: &mut ChaCha8Rng) -> Vec<Event> {
    match random.random_range(0..3) {
        0 => Vec::new(),
        1 => batch.to_vec(),
        _ => {
            let count = random.random_range(0..=batch.len());
            let mut kept = batch[..count].to_vec();
            if let Some(Event::TasksSubmitted { specs, .. }) = kept.last_mut()
                && specs.len() > 1
            {
                specs.truncate(random.random_range(1..=specs.len()));
            }
            kept
        }
    }
}
