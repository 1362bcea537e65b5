//! Writing: payloads into pack files, then the events that name them, on a thread that may block if the store does; and
//! into the roster what is not durable and yet must be known after a restart.

use super::EngineFault;
use crate::{
    disk_space::Reserve,
    roster::Roster,
    store::{PackError, PackReader, Packs, Store},
};
use bytes::Bytes;
use dewar_queue::{Event, OutcomeResult, Payload, Queue};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Payloads beyond this are packed rather than written into events: what the store takes well in one value.
const PAYLOAD_IN_EVENT_BYTES_MAX: usize = 4 << 10;

/// Parameters in the submits of one batch beyond this are packed as well, however small each: a queue of a million tasks is to hold
/// where they are and not what they are, and a batch of so many can wait for a second sync.
pub(super) const PARAMETERS_IN_EVENTS_BYTES_MAX: u64 = 64 << 10;

/// Smaller ones are no larger than their address in a pack file.
const ADDRESS_BYTES: usize = 32;

/// The store and the pack files. Lent to a blocking thread while they write, hence the options.
pub(super) struct Disk {
    lent: Option<Box<Lent>>,
}

struct Lent {
    store: Box<dyn Store>,
    packs: Packs,
    reserve: Reserve,
    roster: Option<Roster>,
}

impl Disk {
    pub(super) fn new(store: Box<dyn Store>, packs: Packs, reserve: Reserve) -> Self {
        Self {
            lent: Some(Box::new(Lent {
                store,
                packs,
                reserve,
                roster: None,
            })),
        }
    }

    pub(super) fn keep_roster(&mut self, roster: Roster) {
        if let Some(lent) = &mut self.lent {
            lent.roster = Some(roster);
        }
    }

    /// Gives what is large of an event, or part of much, its place in a pack file, where the next [`Disk::append`] puts it.
    /// Asked of events that were decided, so that nothing is packed of what was refused, or known before.
    pub(super) fn place(&mut self, event: &mut Event, parameters_in_bulk: bool) {
        // Without its files the next append fails.
        let Some(packs) = self.lent.as_mut().map(|lent| &mut lent.packs) else {
            return;
        };
        match event {
            Event::TasksSubmitted { specs, .. } => {
                let bytes_max = match parameters_in_bulk {
                    true => ADDRESS_BYTES,
                    false => PAYLOAD_IN_EVENT_BYTES_MAX,
                };
                for spec in specs {
                    if let Some(place) = place_if_larger(packs, &spec.parameters, bytes_max) {
                        // A spec that comes in belongs to its event alone, so nothing is copied here.
                        Arc::make_mut(spec).parameters = place;
                    }
                }
            }
            Event::TaskEnded { outcome, .. } => {
                if let OutcomeResult::Succeeded(output) = &mut outcome.result
                    && let Some(place) =
                        place_if_larger(packs, &output.message, PAYLOAD_IN_EVENT_BYTES_MAX)
                {
                    output.message = place;
                }
            }
            _ => {}
        }
    }

    /// Appends the durable ones among these events, which the queue has folded in; on disk when it returns. Whoever is killed
    /// after that has written who was given what, too.
    pub(super) async fn append(
        &mut self,
        events: Vec<Event>,
        queue: &Queue,
    ) -> Result<Vec<Event>, EngineFault> {
        let roster = self.lent.as_ref().and_then(|lent| lent.roster.as_ref());
        let is_noted = roster.is_some() && events.iter().any(Roster::notes);
        if !is_noted && !events.iter().any(Event::is_durable) {
            return Ok(events);
        }
        let is_due = is_noted && roster.is_some_and(Roster::is_due);
        let members = is_due.then(|| queue.expected_after_restart());
        self.on_thread(move |lent| {
            match (&mut lent.roster, members) {
                (Some(roster), Some(members)) => roster.write(&members),
                (Some(roster), None) if is_noted => roster.note(&events),
                _ => {}
            }
            lent.append(&events)?;
            Ok(events)
        })
        .await
    }

    async fn on_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Lent) -> Result<T, EngineFault> + Send + 'static,
    ) -> Result<T, EngineFault> {
        let mut lent = self.lent.take().ok_or(EngineFault::Lost)?;
        if !lent.store.may_block() {
            let done = work(&mut lent);
            self.lent = Some(lent);
            return done;
        }
        let (lent, done) = spawn_blocking(move || {
            lent.reserve.adjust();
            let done = work(&mut lent);
            (lent, done)
        })
        .await
        .map_err(|_| EngineFault::Lost)?;
        self.lent = Some(lent);
        done
    }
}

impl Lent {
    fn append(&mut self, events: &[Event]) -> Result<(), EngineFault> {
        if !events.iter().any(Event::is_durable) {
            return Ok(());
        }
        self.packs.flush().map_err(EngineFault::Packs)?;
        self.store.append(events).map_err(EngineFault::Store)?;
        let mut forgotten = false;
        for event in events {
            self.packs.observe(event);
            forgotten |= matches!(event, Event::JobForgotten { .. });
        }
        if forgotten {
            self.packs.sweep();
        }
        Ok(())
    }
}

fn place_if_larger(packs: &mut Packs, payload: &Payload, bytes_max: usize) -> Option<Payload> {
    match payload {
        Payload::Inline(bytes) if bytes.len() > bytes_max => Some(packs.place(bytes)),
        Payload::Inline(_) | Payload::Packed { .. } | Payload::Blob(_) => None,
    }
}

/// The bytes of payloads, in order; of a blob, none. What is packed is read in one go, on a thread that may block.
///
/// # Errors
/// If a pack file cannot be read.
pub(crate) async fn read_payloads(
    packs: &PackReader,
    payloads: impl Iterator<Item = &Payload>,
) -> Result<Vec<Option<Bytes>>, PackError> {
    let mut packed = Vec::new();
    let mut found = Vec::new();
    for payload in payloads {
        found.push(match payload {
            Payload::Inline(bytes) => Some(Bytes::from_owner(bytes.clone())),
            Payload::Blob(_) => None,
            Payload::Packed { .. } => {
                packed.push((found.len(), payload.clone()));
                None
            }
        });
    }
    if packed.is_empty() {
        return Ok(found);
    }
    let (indices, packed): (Vec<_>, Vec<_>) = packed.into_iter().unzip();
    let packs = packs.clone();
    let read = spawn_blocking(move || packs.read_all(&packed)).await;
    // A read that panicked or was dropped with the runtime has no bytes to give.
    let read = read.unwrap_or(Err(PackError::Failed))?;
    for (index, bytes) in indices.into_iter().zip(read) {
        found[index] = Some(bytes);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemStore;
    use dewar_queue::{JobNumber, Kind, Outcome, Output, TaskId, TaskSpec};

    fn of(length: usize) -> Payload {
        Payload::Inline(vec![0; length].into())
    }

    fn submitted(lengths: &[usize]) -> Event {
        let kind = Kind {
            name: "test".into(),
            version: 1,
        };
        let specs = lengths.iter();
        let specs = specs.map(|length| Arc::new(TaskSpec::new(kind.clone(), of(*length))));
        Event::TasksSubmitted {
            job: JobNumber(1),
            first_index: 0,
            specs: specs.collect(),
        }
    }

    fn succeeded(length: usize) -> Event {
        let output = Output {
            message: of(length),
            blobs: Vec::new(),
        };
        Event::TaskEnded {
            outcome: Outcome {
                task: TaskId {
                    job: JobNumber(1),
                    index: 0,
                },
                sequence: 1,
                result: OutcomeResult::Succeeded(output),
                worker_name: None,
                run_ms: 0,
                generation: 0,
                reused: false,
                made_by: None,
            },
            at_unix_ms: 0,
        }
    }

    /// Lengths of what is packed of an event.
    fn packed_lengths(mut event: Event, parameters_in_bulk: bool) -> Vec<u32> {
        let folder = tempfile::tempdir().unwrap();
        let packs = Packs::open(folder.path()).unwrap();
        let mut disk = Disk::new(Box::new(MemStore::default()), packs, Reserve::none());
        disk.place(&mut event, parameters_in_bulk);
        let payloads: Vec<Payload> = match event {
            Event::TasksSubmitted { specs, .. } => {
                specs.iter().map(|spec| spec.parameters.clone()).collect()
            }
            Event::TaskEnded { outcome, .. } => match outcome.result {
                OutcomeResult::Succeeded(output) => vec![output.message],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let lengths = payloads.iter().filter_map(|payload| match payload {
            Payload::Packed { length, .. } => Some(*length),
            Payload::Inline(_) | Payload::Blob(_) => None,
        });
        lengths.collect()
    }

    #[test]
    fn large_payloads_are_packed_and_small_parameters_in_bulk() {
        assert_eq!(packed_lengths(submitted(&[100, 4096, 4097]), false), [4097]);
        assert_eq!(packed_lengths(submitted(&[32, 33, 300]), true), [33, 300]);
        for in_bulk in [false, true] {
            assert_eq!(packed_lengths(succeeded(4096), in_bulk), [0; 0]);
            assert_eq!(packed_lengths(succeeded(4097), in_bulk), [4097]);
        }
    }
}
