//! A store in memory, for tests and simulation: it forgets nothing but what it is told to.

use super::{Store, StoreError};
use dewar_queue::{Event, JobNumber};

/// Events in a vector. [`MemStore::reopen`] is what a restart of the broker is to a real store.
#[derive(Debug, Clone)]
pub struct MemStore {
    events: Vec<Event>,
    highest_forgotten: Option<JobNumber>,
    broker_start: u64,
}

impl Default for MemStore {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            highest_forgotten: None,
            broker_start: 1,
        }
    }
}

impl MemStore {
    /// The same store, opened once more.
    #[must_use]
    pub fn reopen(mut self) -> Self {
        self.broker_start += 1;
        self
    }
}

impl Store for MemStore {
    fn replay(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), StoreError> {
        if let Some(job) = self.highest_forgotten {
            apply(Event::JobForgotten { job });
        }
        self.events.iter().cloned().for_each(apply);
        Ok(())
    }

    fn append(&mut self, batch: &[Event]) -> Result<(), StoreError> {
        for event in batch.iter().filter(|event| event.is_durable()) {
            if let Event::JobForgotten { job } = event {
                self.events
                    .retain(|event| event.recorded_job() != Some(*job));
                self.highest_forgotten = self.highest_forgotten.max(Some(*job));
            } else {
                self.events.push(without_monotonic_time(event.clone()));
            }
        }
        Ok(())
    }

    fn broker_start(&self) -> u64 {
        self.broker_start
    }

    fn may_block(&self) -> bool {
        false
    }
}

/// A monotonic clock begins anew with every start, so its readings are not worth keeping.
pub(super) fn without_monotonic_time(mut event: Event) -> Event {
    if let Event::AttemptFailed { retry_at, .. } = &mut event {
        *retry_at = dewar_queue::Timestamp::default();
    }
    event
}
