//! The right to fetch a chunk, among all processes that share the folder: a lock on a file, which ends with its process.

use super::Shared;
use crate::Digest;
use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

/// A chunk that nobody else fetches meanwhile.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    /// Locked for as long as it is open.
    _file: File,
}

impl Shared {
    /// Takes the right to fetch a chunk, unless another process has it. Folders without locks give it to all.
    pub(super) fn claim(&self, digest: &Digest) -> io::Result<Option<Claim>> {
        let path = self.folder.join("fetching").join(digest.to_string());
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had it before may have removed the file between our opening and locking it.
        let is_current = fs::metadata(&path)
            .is_ok_and(|now| file.metadata().is_ok_and(|ours| now.ino() == ours.ino()));
        // Not made at all if it is not ours: dropped, it would remove the file of whoever has it.
        Ok(is_current.then(|| Claim { path, _file: file }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the lock ends, so that nobody's file but ours goes. One that stays is only untidy.
        let _ = fs::remove_file(&self.path);
    }
}
