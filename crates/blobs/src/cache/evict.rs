//! Making room in the folder, and sweeping up after processes that died.

use super::{
    Shared,
    ledger::{Books, try_lock},
};
use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Nothing more can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// What is left.
    pub(super) room_bytes: u64,
    /// Of what.
    pub(super) limit: Limit,
}

/// What there is no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The size the cache was given, in bytes.
    CacheSize(u64),
    /// The disk.
    Disk,
}

/// A cached chunk, as far as eviction cares.
struct Candidate {
    used_at: SystemTime,
    size_bytes: u64,
    path: PathBuf,
}

impl Shared {
    /// Counts what is there, sweeps, and removes what is too much.
    pub(super) fn count(&self, books: &mut Books<'_>) -> io::Result<()> {
        let fetching_bytes = self.sweep()?;
        let chunks = self.candidates()?;
        books.held_bytes =
            fetching_bytes + chunks.iter().map(|chunk| chunk.size_bytes).sum::<u64>();
        if books.held_bytes > self.size_bytes_max {
            self.evict(books, chunks, self.size_bytes_max)?;
        }
        Ok(())
    }

    /// Sees to it that so many bytes more fit. When they do not, counting costs as much as there are files: so a tenth is
    /// freed at once.
    pub(super) fn make_room(
        &self,
        books: &mut Books<'_>,
        more_bytes: u64,
    ) -> io::Result<Result<(), NoRoom>> {
        let fits = |held_bytes: u64| held_bytes.saturating_add(more_bytes) <= self.size_bytes_max;
        if fits(books.held_bytes) {
            return Ok(Ok(()));
        }
        self.count(books)?;
        if !fits(books.held_bytes) {
            let tenth = self.size_bytes_max / 10;
            let goal_bytes = self.size_bytes_max.saturating_sub(more_bytes.max(tenth));
            let chunks = self.candidates()?;
            self.evict(books, chunks, goal_bytes)?;
        }
        if fits(books.held_bytes) {
            return Ok(Ok(()));
        }
        Ok(Err(NoRoom {
            room_bytes: self.size_bytes_max.saturating_sub(books.held_bytes),
            limit: Limit::CacheSize(self.size_bytes_max),
        }))
    }

    /// Frees the disk until so many bytes fit, before they are fetched for nothing. False if there is too little to free. What
    /// the disk does not say, such as a quota, shows when they are written.
    pub(super) fn make_disk_room(
        &self,
        books: &mut Books<'_>,
        need_bytes: u64,
    ) -> io::Result<bool> {
        while self.disk_room().is_some_and(|room| room < need_bytes) {
            if !self.free_disk(books, need_bytes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Frees a tenth of what is there, or as much as is needed, for the disk is full. False if there was nothing to free.
    pub(super) fn free_disk(&self, books: &mut Books<'_>, need_bytes: u64) -> io::Result<bool> {
        let before_bytes = books.held_bytes;
        let free_bytes = need_bytes.max(before_bytes / 10);
        let chunks = self.candidates()?;
        self.evict(books, chunks, before_bytes.saturating_sub(free_bytes))?;
        Ok(books.held_bytes < before_bytes)
    }

    /// Free bytes of the disk, if it says.
    pub(super) fn disk_room(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Removes what was unused longest, and is not in use now, until no more than `goal_bytes` are held.
    fn evict(
        &self,
        books: &mut Books<'_>,
        mut chunks: Vec<Candidate>,
        goal_bytes: u64,
    ) -> io::Result<()> {
        chunks.sort_by_key(|chunk| chunk.used_at);
        // Told even if we die half-way.
        books.eviction_count += 1;
        books.write()?;
        for chunk in chunks {
            if books.held_bytes <= goal_bytes {
                break;
            }
            if remove_unused(&chunk.path)? {
                books.held_bytes = books.held_bytes.saturating_sub(chunk.size_bytes);
            }
        }
        Ok(())
    }

    fn candidates(&self) -> io::Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for entry in self.chunk_files()? {
            // It may have been found broken, and removed.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            candidates.push(Candidate {
                used_at: metadata.modified()?,
                size_bytes: metadata.len(),
                path: entry.path(),
            });
        }
        Ok(candidates)
    }

    /// Removes what dead processes were about to fetch. How many bytes the living take.
    fn sweep(&self) -> io::Result<u64> {
        let mut fetching_bytes = 0;
        for entry in fs::read_dir(self.fetching_folder())? {
            let path = entry?.path();
            if remove_unused(&path)? {
                continue;
            }
            fetching_bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
        }
        Ok(fetching_bytes)
    }
}

/// Removes a file unless somebody has a lock on it. One that is gone was removed.
fn remove_unused(path: &Path) -> io::Result<bool> {
    let gone = File::open(path).and_then(|file| match try_lock(&file)? {
        true => fs::remove_file(path).map(|()| true),
        false => Ok(false),
    });
    match gone {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        gone => gone,
    }
}

pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CacheSize(bytes) => write!(
                formatter,
                "of the {bytes} that the cache may take, and the rest is in use"
            ),
            Self::Disk => write!(formatter, "on its disk, and nothing can be removed"),
        }
    }
}
