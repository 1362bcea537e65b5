//! Writing blobs: checked while they come in, and there only when they are whole and on disk.

use super::{BlobStore, Shared, durable};
use crate::{BlobRef, Digest, Hasher};
use std::{
    io::{self, Write as _},
    sync::Arc,
};
use tempfile::NamedTempFile;

/// A blob on its way in. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
    blob: BlobRef,
    hasher: Hasher,
    file: NamedTempFile,
}

/// Why a blob was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// More bytes came than were announced, or fewer.
    #[error("blob {} was announced with {} bytes, but {received} came", blob.digest, blob.size_bytes)]
    Length {
        /// What was announced.
        blob: BlobRef,
        /// What came, as far as it was taken.
        received: u64,
    },
    /// Other bytes came than were announced.
    #[error("the bytes sent as blob {expected} hash to {actual}")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There is no room.
    #[error(
        "the broker's disk is full: a blob of {size_bytes} bytes does not fit into {free_bytes} free bytes, of which {free_bytes_min} stay free"
    )]
    Full {
        /// Of the blob.
        size_bytes: u64,
        /// On the disk.
        free_bytes: u64,
        /// Left alone by blobs.
        free_bytes_min: u64,
    },
    /// Too much is on its way already.
    #[error("too many uploads are under way to begin that of blob {blob}")]
    Busy {
        /// Which.
        blob: Digest,
    },
    /// The disk does not take it.
    #[error("cannot write blob {blob}")]
    Io {
        /// Which.
        blob: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BlobStore {
    /// Begins to write a blob.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn writer(&self, blob: BlobRef) -> Result<BlobWriter, SaveError> {
        let shared = Arc::clone(&self.shared);
        self.check_room(&blob, blob.size_bytes)?;
        let file = NamedTempFile::new_in(shared.temporary_folder())
            .map_err(|source| shared.save_error(&blob, source))?;
        Ok(BlobWriter {
            shared,
            blob,
            hasher: Hasher::new(),
            file,
        })
    }

    /// Whether so many bytes of a blob would fit.
    pub(super) fn check_room(&self, blob: &BlobRef, needed_bytes: u64) -> Result<(), SaveError> {
        // Where the file system does not say, we shall see.
        let kept = self.shared.free_bytes_min;
        let free_bytes = self.shared.free_bytes();
        if free_bytes.is_some_and(|free| needed_bytes > free.saturating_sub(kept)) {
            return Err(self.shared.full(blob));
        }
        Ok(())
    }
}

impl BlobWriter {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// If they are more than were announced, or the disk does not take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SaveError> {
        let received = self.hasher.size_bytes() + bytes.len() as u64;
        if received > self.blob.size_bytes {
            let blob = self.blob;
            return Err(SaveError::Length { blob, received });
        }
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(|source| self.shared.save_error(&self.blob, source))
    }

    /// Checks that the blob is the one announced, and makes it durable.
    ///
    /// # Errors
    /// If it is another one, or the disk does not take it.
    pub fn finish(self) -> Result<(), SaveError> {
        let Self {
            shared,
            blob,
            hasher,
            file,
        } = self;
        let list = hasher.finish();
        let received = list.blob().size_bytes;
        if received != blob.size_bytes {
            return Err(SaveError::Length { blob, received });
        }
        if list.blob().digest != blob.digest {
            return Err(SaveError::Digest {
                expected: blob.digest,
                actual: list.blob().digest,
            });
        }
        // The bytes reach the disk before the lock is taken: others need not wait for that.
        let failed = |source| shared.save_error(&blob, source);
        file.as_file().sync_data().map_err(failed)?;
        let mut index = shared.index();
        if list.chunk_count() > 1 {
            durable::write(
                &shared.temporary_folder(),
                &shared.list_path(&blob.digest),
                list.digests(),
            )
            .map_err(failed)?;
        }
        durable::persist(file, &shared.path(&blob.digest)).map_err(failed)?;
        index.insert_own(blob);
        Ok(())
    }
}

impl Shared {
    /// Free space for us, if the file system says.
    fn free_bytes(&self) -> Option<u64> {
        let status = rustix::fs::statvfs(&self.folder).ok()?;
        Some(status.f_bavail.saturating_mul(status.f_frsize))
    }

    pub(super) fn full(&self, blob: &BlobRef) -> SaveError {
        SaveError::Full {
            size_bytes: blob.size_bytes,
            free_bytes: self.free_bytes().unwrap_or_default(),
            free_bytes_min: self.free_bytes_min,
        }
    }

    pub(super) fn save_error(&self, blob: &BlobRef, source: io::Error) -> SaveError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.full(blob),
            _ => SaveError::Io {
                blob: blob.digest,
                source,
            },
        }
    }
}
