//! Writing: payloads into pack files, then the events that name them, on a thread that may block if the store does.

use super::EngineFault;
use crate::{
    disk_space::Reserve,
    store::{PackError, PackReader, Packs, Store},
};
use bytes::Bytes;
use dewar_queue::{Event, Payload};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Payloads beyond this are packed rather than written into events: what the store takes well in one value.
const PAYLOAD_IN_EVENT_BYTES_MAX: usize = 4 << 10;

/// Parameters of one batch beyond this are packed as well, however small each: a queue of a million tasks is to hold
/// where they are and not what they are, and a batch of so many can wait for a second sync.
const PARAMETERS_IN_EVENTS_BYTES_MAX: u64 = 64 << 10;

/// Smaller ones are no larger than their address in a pack file.
const ADDRESS_BYTES: usize = 32;

/// Payloads of one batch that its events will carry.
#[derive(Default)]
pub(super) struct Payloads<'a> {
    /// Of submitted tasks.
    pub(super) parameters: Vec<&'a mut Payload>,
    /// Of reports.
    pub(super) outputs: Vec<&'a mut Payload>,
}

impl<'a> Payloads<'a> {
    /// Those to be packed, with their bytes.
    fn into_packable(self) -> Vec<(&'a mut Payload, Arc<[u8]>)> {
        let bytes = self
            .parameters
            .iter()
            .map(|payload| payload.carried_bytes());
        let in_bulk = bytes.sum::<u64>() > PARAMETERS_IN_EVENTS_BYTES_MAX;
        let parameter_bytes_max = match in_bulk {
            true => ADDRESS_BYTES,
            false => PAYLOAD_IN_EVENT_BYTES_MAX,
        };
        let parameters = larger_than(parameter_bytes_max, self.parameters);
        let outputs = larger_than(PAYLOAD_IN_EVENT_BYTES_MAX, self.outputs);
        parameters.chain(outputs).collect()
    }
}

fn larger_than(
    bytes_max: usize,
    payloads: Vec<&mut Payload>,
) -> impl Iterator<Item = (&mut Payload, Arc<[u8]>)> {
    payloads
        .into_iter()
        .filter_map(move |payload| match payload {
            Payload::Inline(bytes) if bytes.len() > bytes_max => {
                let bytes = bytes.clone();
                Some((payload, bytes))
            }
            Payload::Inline(_) | Payload::Packed { .. } | Payload::Blob(_) => None,
        })
}

/// The store and the pack files. Lent to a blocking thread while they write, hence the options.
pub(super) struct Disk {
    lent: Option<Box<Lent>>,
}

struct Lent {
    store: Box<dyn Store>,
    packs: Packs,
    reserve: Reserve,
}

impl Disk {
    pub(super) fn new(store: Box<dyn Store>, packs: Packs, reserve: Reserve) -> Self {
        Self {
            lent: Some(Box::new(Lent {
                store,
                packs,
                reserve,
            })),
        }
    }

    /// Packs what is large among these payloads, or much together; durable when it returns.
    pub(super) async fn pack(&mut self, payloads: Payloads<'_>) -> Result<(), EngineFault> {
        let (places, bytes): (Vec<_>, Vec<_>) = payloads.into_packable().into_iter().unzip();
        if bytes.is_empty() {
            return Ok(());
        }
        let packed = self
            .on_thread(move |_, packs| {
                let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &**bytes).collect();
                packs.append(&bytes).map_err(EngineFault::Packs)
            })
            .await?;
        for (place, packed) in places.into_iter().zip(packed) {
            *place = packed;
        }
        Ok(())
    }

    /// Appends the durable ones among these events; on disk when it returns.
    pub(super) async fn append(&mut self, events: Vec<Event>) -> Result<Vec<Event>, EngineFault> {
        if !events.iter().any(Event::is_durable) {
            return Ok(events);
        }
        self.on_thread(move |store, packs| {
            store.append(&events).map_err(EngineFault::Store)?;
            let mut forgotten = false;
            for event in &events {
                packs.observe(event);
                forgotten |= matches!(event, Event::JobForgotten { .. });
            }
            if forgotten {
                packs.sweep();
            }
            Ok(events)
        })
        .await
    }

    async fn on_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Store, &mut Packs) -> Result<T, EngineFault> + Send + 'static,
    ) -> Result<T, EngineFault> {
        let mut lent = self.lent.take().ok_or(EngineFault::Lost)?;
        if !lent.store.may_block() {
            let done = work(&mut *lent.store, &mut lent.packs);
            self.lent = Some(lent);
            return done;
        }
        let (lent, done) = spawn_blocking(move || {
            lent.reserve.adjust();
            let done = work(&mut *lent.store, &mut lent.packs);
            (lent, done)
        })
        .await
        .map_err(|_| EngineFault::Lost)?;
        self.lent = Some(lent);
        done
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

    fn packed_lengths(parameters: &[usize], outputs: &[usize]) -> Vec<usize> {
        let of = |lengths: &[usize]| -> Vec<Payload> {
            let payloads = lengths.iter();
            payloads
                .map(|length| Payload::Inline(vec![0; *length].into()))
                .collect()
        };
        let (mut parameters, mut outputs) = (of(parameters), of(outputs));
        let payloads = Payloads {
            parameters: parameters.iter_mut().collect(),
            outputs: outputs.iter_mut().collect(),
        };
        let packed = payloads.into_packable().into_iter();
        packed.map(|(_, bytes)| bytes.len()).collect()
    }

    #[test]
    fn large_payloads_are_packed_and_small_parameters_in_bulk() {
        assert_eq!(
            packed_lengths(&[100, 4096, 4097], &[4096, 4097]),
            [4097, 4097]
        );
        let many = vec![300; 300];
        assert_eq!(packed_lengths(&many, &[300]), many);
        assert_eq!(packed_lengths(&[60_000, 5_537, 32], &[]), [60_000, 5_537]);
        assert_eq!(packed_lengths(&[], &many), [0; 0]);
    }
}
