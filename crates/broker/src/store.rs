//! The broker's memory on disk: durable events in order, and the payloads too large to ride in them.
//!
//! A store keeps what it was given and gives it back; it neither knows what events mean nor decides anything.
//! Every backend passes the same conformance suite (`store/conformance.rs`).

mod error;
mod mem;
mod packs;
mod records;
mod sled;

#[cfg(test)]
mod conformance;

pub use self::sled::SledStore;
pub use error::StoreError;
pub use mem::MemStore;
pub use packs::{PackError, PackReader, Packs};

use dewar_queue::Event;

/// Durable events, in order.
pub trait Store: Send + 'static {
    /// Gives every event back, in the order they were appended. Events of forgotten jobs are gone, but the highest
    /// number among those jobs comes first as one [`Event::JobForgotten`], so that no job's number is given twice.
    ///
    /// # Errors
    /// If what is stored cannot be read whole.
    fn replay(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), StoreError>;

    /// Appends a batch; it is durable when this returns. Events that are not durable by nature are passed over.
    /// [`Event::JobForgotten`] deletes the job's events.
    ///
    /// A crash on the way keeps the whole batch, nothing, or, of one beyond a thousand records, its beginning.
    ///
    /// # Errors
    /// If that is in doubt. No later append succeeds then: the process should end, and find out at its next start.
    fn append(&mut self, batch: &[Event]) -> Result<(), StoreError>;

    /// How often the store was opened, this time included: the first part of every attempt's number.
    fn broker_start(&self) -> u64;

    /// Whether writing waits for a disk, and so needs a thread of its own.
    fn may_block(&self) -> bool {
        true
    }
}
