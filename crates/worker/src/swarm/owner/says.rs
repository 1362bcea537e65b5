//! What the owner tells the broker: what is wanted, held, and not to be had.

use super::{Key, Owner, ToBroker};
use dewar_blobs::{BlobRef, ChunkSet};
use dewar_proto::v1;
use std::collections::HashMap;

impl Owner {
    /// Of those still wanted it is said soon how they came, and that says that they are here.
    pub(super) fn say_precached(&mut self, blob: BlobRef, mut chunks: ChunkSet) {
        let wanted = self.wants.keys().filter(|(of, _)| *of == blob);
        chunks.remove_all(&wanted.map(|(_, index)| *index).collect());
        if !chunks.is_empty() {
            self.say_held(blob, &chunks);
        }
    }

    pub(super) fn say_held(&mut self, blob: BlobRef, chunks: &ChunkSet) {
        self.told.entry(blob).or_default().insert_all(chunks);
        self.say(ToBroker::Holdings(v1::Holdings {
            added: vec![holding((&blob, chunks))],
            removed: Vec::new(),
        }));
    }

    pub(super) fn say_not_precached(&mut self, blob: BlobRef, message: String) {
        self.say(ToBroker::PrecacheFailed(v1::PrecacheFailed {
            blob: Some(blob.into()),
            message,
        }));
    }

    pub(super) fn say_wanted(&mut self, keys: impl IntoIterator<Item = Key>) {
        let mut wanted: HashMap<BlobRef, Vec<u64>> = HashMap::new();
        for (blob, chunk) in keys {
            wanted.entry(blob).or_default().push(chunk);
        }
        for (blob, mut chunks) in wanted {
            chunks.sort_unstable();
            self.say(ToBroker::Want(v1::Want {
                blob: Some(blob.into()),
                chunks,
            }));
        }
    }

    pub(super) fn say_unwanted(&mut self, (blob, chunk): Key) {
        self.say(ToBroker::Unwant(v1::Unwant {
            blob: Some(blob.into()),
            chunks: vec![chunk],
        }));
    }

    /// A broker that does not read is left: the next connection says again what matters.
    pub(super) fn say(&mut self, message: ToBroker) {
        let request = v1::ShareRequest {
            message: Some(message),
        };
        if let Some(outbox) = &self.outbox
            && outbox.try_send(request).is_err()
        {
            self.outbox = None;
        }
    }
}

pub(super) fn holding((blob, chunks): (&BlobRef, &ChunkSet)) -> v1::Holding {
    v1::Holding {
        blob: Some((*blob).into()),
        chunks: chunks.to_bitmap(),
    }
}
