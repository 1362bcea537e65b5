//! Keeping the folder within its limit, in a form that several processes can do at once.

use super::{Shared, TEMPORARY_AGE_MAX};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A cached chunk, as far as eviction cares.
struct Candidate {
    used_at: SystemTime,
    size_bytes: u64,
    path: PathBuf,
}

impl Shared {
    /// Looks at the folder when it seems full, or when told to, and removes what was unused longest until a tenth is
    /// free: looking costs as much as there are files, so it should not happen for every chunk.
    pub(super) fn evict_if_full(&self, size_bytes: &mut u64, look: bool) -> io::Result<()> {
        if !look && *size_bytes <= self.size_bytes_max {
            return Ok(());
        }
        let mut candidates = self.candidates()?;
        *size_bytes = candidates.iter().map(|chunk| chunk.size_bytes).sum();
        if *size_bytes <= self.size_bytes_max {
            return Ok(());
        }
        candidates.sort_by_key(|chunk| chunk.used_at);
        let goal_bytes = self.size_bytes_max - self.size_bytes_max / 10;
        for chunk in candidates {
            if *size_bytes <= goal_bytes {
                break;
            }
            ignore_missing(fs::remove_file(&chunk.path))?;
            *size_bytes -= chunk.size_bytes;
        }
        Ok(())
    }

    fn candidates(&self) -> io::Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for entry in self.chunk_files()? {
            // Another process may have removed it since.
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
}

/// Removes temporary files of processes that died; those of the living are younger.
pub(super) fn remove_abandoned(folder: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map(|made| now.duration_since(made).unwrap_or_default());
        if age.is_ok_and(|age| age > TEMPORARY_AGE_MAX) {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
