//! Writing down who keeps what, in the order in which it was decided, and many of them with one look at the folder.

use super::{Record, Records};
use dewar_blobs::Digest;
use tokio::{sync::mpsc, task::spawn_blocking};

/// Changes made between two syncs of the folder.
const BATCH_MAX: usize = 256;

/// A write that came to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    /// Whether it lasts.
    pub(crate) is_done: bool,
}

enum Change {
    Write(u64, Record),
    Erase(Digest),
}

/// Gives changes to the task that makes them. They are as many as there are blobs near, at the most.
pub(crate) struct Scribe {
    changes: mpsc::UnboundedSender<Change>,
}

impl Scribe {
    /// Starts the task, and gives what it has written from then on.
    pub(crate) fn start(records: Records) -> (Self, mpsc::UnboundedReceiver<Written>) {
        let (changes, mut inbox) = mpsc::unbounded_channel();
        let (done, written) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
                let (records, changes) = (records.clone(), std::mem::take(&mut batch));
                let made = spawn_blocking(move || make(&records, changes)).await;
                for written in made.unwrap_or_default() {
                    // The broker may be shutting down.
                    let _ = done.send(written);
                }
            }
        });
        (Self { changes }, written)
    }

    pub(crate) fn write(&self, number: u64, record: Record) {
        // The task lives as long as this.
        let _ = self.changes.send(Change::Write(number, record));
    }

    pub(crate) fn erase(&self, digest: Digest) {
        let _ = self.changes.send(Change::Erase(digest));
    }
}

fn make(records: &Records, changes: Vec<Change>) -> Vec<Written> {
    let mut all = Vec::new();
    for change in changes {
        match change {
            Change::Write(number, record) => {
                let made = records.write(&record);
                let made = made.inspect_err(
                    |error| tracing::warn!(%error, "not written down who keeps a blob"),
                );
                all.push(Written {
                    number,
                    digest: record.list.blob().digest,
                    is_done: made.is_ok(),
                });
            }
            Change::Erase(digest) => {
                if let Err(error) = records.erase(&digest) {
                    tracing::warn!(%digest, %error, "not erased who kept a blob; done at a later start");
                }
            }
        }
    }
    if let Err(error) = records.sync() {
        tracing::warn!(%error, "not written down who keeps blobs");
        all.iter_mut().for_each(|written| written.is_done = false);
    }
    all
}
