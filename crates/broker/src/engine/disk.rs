//! Writing: payloads into pack files, then the events that name them, on a thread that may block.

use super::EngineFault;
use crate::{
    disk_space::Reserve,
    store::{PackReader, Packs, Store},
};
use dewar_queue::{Event, Payload};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Payloads beyond this are packed rather than written into events: what the store takes well in one value.
pub(super) const PAYLOAD_IN_EVENT_BYTES_MAX: usize = 4 << 10;

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

    /// Packs what is large among these payloads; durable when it returns.
    pub(super) async fn pack(&mut self, payloads: Vec<&mut Payload>) -> Result<(), EngineFault> {
        let mut large: Vec<(&mut Payload, Arc<[u8]>)> = payloads
            .into_iter()
            .filter_map(|payload| match payload {
                Payload::Inline(bytes) if bytes.len() > PAYLOAD_IN_EVENT_BYTES_MAX => {
                    let bytes = bytes.clone();
                    Some((payload, bytes))
                }
                Payload::Inline(_) | Payload::Packed { .. } | Payload::Blob(_) => None,
            })
            .collect();
        if large.is_empty() {
            return Ok(());
        }
        let bytes: Vec<Arc<[u8]>> = large.iter().map(|(_, bytes)| bytes.clone()).collect();
        let packed = self
            .on_thread(move |_, packs| {
                let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &**bytes).collect();
                packs.append(&bytes).map_err(EngineFault::Packs)
            })
            .await?;
        for ((payload, _), packed) in large.iter_mut().zip(packed) {
            **payload = packed;
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

/// The bytes of a payload that is not a blob.
///
/// # Errors
/// If a pack file cannot be read.
pub(crate) async fn read_payload(
    packs: &PackReader,
    payload: &Payload,
) -> Result<Option<bytes::Bytes>, crate::store::PackError> {
    match payload {
        Payload::Inline(bytes) => Ok(Some(bytes::Bytes::from_owner(bytes.clone()))),
        Payload::Blob(_) => Ok(None),
        Payload::Packed {
            file,
            offset,
            length,
            checksum,
        } => {
            let (packs, file, offset, length, checksum) =
                (packs.clone(), *file, *offset, *length, *checksum);
            let read = spawn_blocking(move || packs.read(file, offset, length, checksum)).await;
            // A read that panicked or was dropped with the runtime has no bytes to give.
            read.unwrap_or(Err(crate::store::PackError::Failed))
                .map(Some)
        }
    }
}
