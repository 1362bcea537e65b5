//! Room set aside for outcomes: a file that is deleted when the disk is full, and made again when it is not.
//!
//! Whoever writes events asks before every write, so that a disk that fills up in a moment still finds them room.

use super::{DiskBounds, free_bytes};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const NAME: &str = "reserve";

/// The file, or where it would be.
#[derive(Debug)]
pub(crate) struct Reserve {
    folder: PathBuf,
    bytes: u64,
    held: bool,
    /// The file system cannot set room aside.
    unavailable: bool,
}

impl Reserve {
    /// Takes the reserve if there is room for it, and frees it if there is none, so that the store can open.
    pub(crate) fn open(folder: &Path, bounds: DiskBounds) -> Self {
        let mut reserve = Self {
            folder: folder.to_owned(),
            bytes: bounds.reserve_bytes,
            held: missing_bytes(folder, bounds) == 0,
            unavailable: bounds.reserve_bytes == 0,
        };
        if !reserve.held {
            reserve.delete();
        }
        reserve.adjust();
        reserve
    }

    /// None, for a store that is on no disk.
    pub(crate) fn none() -> Self {
        Self {
            folder: PathBuf::new(),
            bytes: 0,
            held: false,
            unavailable: true,
        }
    }

    /// Frees the reserve when the disk is full, and takes it when there is room. To be called before every write.
    pub(crate) fn adjust(&mut self) {
        let Ok(free_bytes) = free_bytes(&self.folder) else {
            return;
        };
        match (self.held, is_wanted(self.held, free_bytes, self.bytes)) {
            (true, false) => {
                tracing::warn!(free_bytes, "the disk is full; using what was set aside");
                self.delete();
            }
            (false, true) if !self.unavailable => self.take(),
            _ => {}
        }
    }

    fn take(&mut self) {
        let allocate = || {
            let file = File::create(self.path())?;
            fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?;
            Ok(())
        };
        let taken: io::Result<()> = allocate();
        self.held = taken.is_ok();
        if let Err(error) = taken {
            // Somebody may just have been faster; a file system that cannot do it never will.
            self.unavailable = error.raw_os_error() != Some(Errno::NOSPC.raw_os_error());
            tracing::warn!(%error, bytes = self.bytes, "cannot set room aside for outcomes");
            self.delete();
        }
    }

    fn delete(&mut self) {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot free what was set aside");
            }
            _ => self.held = false,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }
}

/// How much of the reserve is still to be set aside. A file cut short by a crash is none.
pub(super) fn missing_bytes(folder: &Path, bounds: DiskBounds) -> u64 {
    match fs::metadata(folder.join(NAME)) {
        Ok(metadata) if metadata.len() == bounds.reserve_bytes => 0,
        _ => bounds.reserve_bytes,
    }
}

/// Freed when less is left than one batch may need; taken when as much again stays free.
fn is_wanted(held: bool, free_bytes: u64, reserve_bytes: u64) -> bool {
    match held {
        true => free_bytes >= reserve_bytes / 2,
        false => free_bytes >= reserve_bytes.saturating_mul(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: DiskBounds = DiskBounds {
        free_bytes_min: 0,
        reserve_bytes: 1 << 16,
    };

    #[test]
    fn it_is_freed_late_and_taken_again_later() {
        for (held, free_bytes, expected) in [
            (true, 50, true),
            (true, 49, false),
            (false, 150, false),
            (false, 199, false),
            (false, 200, true),
        ] {
            assert_eq!(is_wanted(held, free_bytes, 100), expected, "{free_bytes}");
        }
    }

    #[test]
    fn it_takes_room_that_others_cannot_have() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        // What a start that was cut short may leave.
        fs::write(folder.path().join(NAME), b"short").unwrap();
        let mut reserve = Reserve::open(folder.path(), BOUNDS);
        if reserve.unavailable {
            eprintln!("skipped: {} cannot set room aside", folder.path().display());
            return;
        }
        let file = fs::metadata(folder.path().join(NAME)).unwrap();
        assert!(file.blocks() * 512 >= BOUNDS.reserve_bytes);
        assert_eq!(missing_bytes(folder.path(), BOUNDS), 0);
        assert!(Reserve::open(folder.path(), BOUNDS).held);
        reserve.delete();
        assert_eq!(missing_bytes(folder.path(), BOUNDS), BOUNDS.reserve_bytes);
        reserve.adjust();
        assert!(reserve.held);
    }
}
