//! How much the folder holds, for all processes that share it: two numbers in a file, changed by one at a time.
//!
//! What is counted is never less than what is there: room is noted before it is taken, and given back after it is free.
//! So a process that dies in between leaves the count too high, and whoever finds the folder full counts again.

use super::locked;
use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Mutex,
};

/// The numbers: each 8 bytes, little-endian, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Bytes of the chunks that are here, and of those on their way.
    pub(super) held_bytes: u64,
    /// How often chunks were removed.
    pub(super) eviction_count: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Its lock keeps out other processes, the mutex our own threads.
    file: Mutex<File>,
    /// For looks that wait for nobody.
    look: File,
}

/// The open ledger, ours alone.
pub(super) struct Books<'a> {
    file: &'a File,
    counts: Counts,
}

impl Ledger {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self {
            look: file.try_clone()?,
            file: Mutex::new(file),
        })
    }

    /// Opens the books, has `work` change them, and writes them down, also if it failed half-way. Folders without locks
    /// keep out nobody: then each process counts for itself.
    pub(super) fn change<T>(
        &self,
        work: impl FnOnce(&mut Books<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let file = locked(&self.file);
        ignore_unsupported(file.lock())?;
        let mut books = Books {
            file: &file,
            counts: Counts::read(&file),
        };
        let done = work(&mut books);
        let written = books.write();
        ignore_unsupported(file.unlock())?;
        let done = done?;
        written.map(|()| done)
    }

    /// The counts at some moment.
    pub(super) fn peek(&self) -> Counts {
        Counts::read(&self.look)
    }
}

impl Books<'_> {
    /// Writes the counts down.
    pub(super) fn write(&self) -> io::Result<()> {
        self.file.write_all_at(&self.counts.to_bytes(), 0)
    }
}

impl std::ops::Deref for Books<'_> {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.counts
    }
}

impl std::ops::DerefMut for Books<'_> {
    fn deref_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }
}

impl Counts {
    /// A ledger that is new, or was cut, says nothing: whoever opens a folder counts it.
    fn read(file: &File) -> Self {
        let mut bytes = [[0; 8]; 2];
        match file.read_exact_at(bytes.as_flattened_mut(), 0) {
            Ok(()) => Self {
                held_bytes: u64::from_le_bytes(bytes[0]),
                eviction_count: u64::from_le_bytes(bytes[1]),
            },
            Err(_) => Self::default(),
        }
    }

    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.held_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.eviction_count.to_le_bytes());
        bytes
    }
}

/// Some file systems know no locks.
pub(super) fn ignore_unsupported(locked: io::Result<()>) -> io::Result<()> {
    match locked {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        locked => locked,
    }
}

/// Whether a lock was had, or there are none to be had.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => ignore_unsupported(Err(error)).map(|()| true),
    }
}
