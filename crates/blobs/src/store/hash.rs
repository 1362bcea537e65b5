//! Hashing what nobody has asked for yet of a file used by reference, until its own digest is known.

use super::{BlobStore, LoadError, LoadedBlob, Shared, durable, reference::Reference};
use crate::{Digest, chunk_count};
use std::{
    num::NonZero,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

/// Threads on one file. Two saturate most disks; four are for arrays of them.
const THREADS_MAX: usize = 4;

/// What is added to the niceness of these threads: whoever waits for something else comes first.
const NICENESS: i32 = 10;

impl BlobStore {
    /// The digest of a blob's bytes, as `b3sum` prints it, if that is known already.
    pub fn own_digest(&self, digest: &Digest) -> Option<Digest> {
        let index = self.shared.index();
        match &index.blobs.get(digest)?.reference {
            Some(reference) => reference.whole(),
            None => Some(*digest),
        }
    }

    /// Hashes what is not known yet of a file used by reference, and gives its own digest; `None` if it was stopped.
    /// `progress` hears how many bytes are known. Blocks for as long as the file is read.
    ///
    /// # Errors
    /// If the file changes meanwhile, or cannot be read.
    pub fn hash_rest(
        &self,
        digest: &Digest,
        progress: impl Fn(u64) + Sync,
        is_stopped: impl Fn() -> bool + Sync,
    ) -> Result<Option<Digest>, LoadError> {
        if let Some(own) = self.own_digest(digest) {
            return Ok(Some(own));
        }
        let loaded = self.load(digest)?;
        let Some(reference) = loaded.reference() else {
            return Ok(Some(*digest));
        };
        let failure = Rest {
            shared: &self.shared,
            loaded: &loaded,
            reference,
            next_index: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        }
        .hash(&progress, &is_stopped);
        reference.save(&self.shared.temporary_folder());
        failure?;
        let Some(list) = reference.whole_list() else {
            return Ok(None);
        };
        let whole = list.blob().digest;
        reference.set_whole(whole);
        self.keep_reference(reference)?;
        Ok(Some(whole))
    }

    /// Writes the reference again, unless it was given up.
    fn keep_reference(&self, reference: &Reference) -> Result<(), LoadError> {
        let digest = reference.blob().digest;
        let index = self.shared.index();
        if !index.blobs.contains_key(&digest) {
            return Ok(());
        }
        let path = self.shared.imported_path(&digest);
        let stored = reference.to_stored();
        durable::write(&self.shared.temporary_folder(), &path, &stored)
            .map_err(|source| LoadError::Io { path, source })
    }
}

/// One file's chunks, shared out among threads.
struct Rest<'a> {
    shared: &'a Shared,
    loaded: &'a LoadedBlob,
    reference: &'a Reference,
    next_index: AtomicU64,
    has_failed: AtomicBool,
}

impl Rest<'_> {
    fn hash(
        &self,
        progress: &(impl Fn(u64) + Sync),
        is_stopped: &(impl Fn() -> bool + Sync),
    ) -> Result<(), LoadError> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..cores.min(THREADS_MAX))
                .map(|_| scope.spawn(|| self.hash_in_turn(progress, is_stopped)))
                .collect();
            let ended = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.fold(Ok(()), Result::and)
        })
    }

    fn hash_in_turn(
        &self,
        progress: &(impl Fn(u64) + Sync),
        is_stopped: &(impl Fn() -> bool + Sync),
    ) -> Result<(), LoadError> {
        // Of this thread alone, on Linux. Where it is not allowed, the hashing is merely less polite.
        let _ = rustix::process::nice(NICENESS);
        let chunk_count = chunk_count(self.reference.blob().size_bytes);
        while !is_stopped() && !self.has_failed.load(Ordering::Relaxed) {
            let index = self.next_index.fetch_add(1, Ordering::Relaxed);
            if index >= chunk_count {
                break;
            }
            if self.reference.digest(index).is_some() {
                continue;
            }
            if let Err(error) = self.loaded.digest(index) {
                self.has_failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
            progress(self.reference.known_bytes());
            self.reference.save_if_due(&self.shared.temporary_folder());
        }
        Ok(())
    }
}
