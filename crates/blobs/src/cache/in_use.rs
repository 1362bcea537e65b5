//! Which chunks are read: nobody removes those.
//!
//! A chunk is mapped with a shared lock on its open file. The mapping keeps the file open in the kernel, and with it the
//! lock, after we closed it: a task may read more chunks than a process may have files open. Eviction, in whatever
//! process, takes the lock for itself first and leaves what it does not get; a process that dies holds nothing.

use super::{ledger::ignore_unsupported, locked};
use crate::Digest;
use bytes::Bytes;
use memmap2::Mmap;
use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::{Arc, Mutex, Weak},
};

/// The chunks this process reads. All are right: each was checked when it was opened, or before it was written.
#[derive(Debug, Default)]
pub(super) struct InUse {
    chunks: Mutex<HashMap<Digest, Weak<Mapped>>>,
}

/// A chunk in memory, shared by all slots that read it.
#[derive(Debug)]
struct Mapped {
    digest: Digest,
    map: Mmap,
    in_use: Arc<InUse>,
}

/// What the bytes of a chunk belong to.
struct Reader(Arc<Mapped>);

/// Keeps a chunk from being evicted. Waits for whoever is just evicting it.
pub(super) fn lock_shared(file: &File) -> io::Result<()> {
    ignore_unsupported(file.lock_shared())
}

impl InUse {
    /// A chunk that somebody reads already.
    pub(super) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mapped = locked(&self.chunks).get(digest)?.upgrade()?;
        Some(Bytes::from_owner(Reader(mapped)))
    }

    /// Maps a chunk's file, which was checked, and on which we have the shared lock.
    pub(super) fn map(self: &Arc<Self>, digest: Digest, file: &File) -> io::Result<Bytes> {
        // SAFETY: files of the cache are whole when they get their name, and no process of ours writes into one or
        // shortens it afterwards; they are only unlinked, which a mapping outlives.
        let map = unsafe { Mmap::map(file) }?;
        let mapped = Arc::new(Mapped {
            digest,
            map,
            in_use: Arc::clone(self),
        });
        // Two may open the same chunk at once: the later one is given out from now on, and each keeps its own.
        locked(&self.chunks).insert(digest, Arc::downgrade(&mapped));
        Ok(Bytes::from_owner(Reader(mapped)))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut chunks = locked(&self.in_use.chunks);
        if chunks
            .get(&self.digest)
            .is_some_and(|mapped| mapped.strong_count() == 0)
        {
            chunks.remove(&self.digest);
        }
    }
}

impl AsRef<[u8]> for Reader {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}
