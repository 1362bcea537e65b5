//! Whose results a folder holds: one process at a time, by a lock that dies with it, and one broker's, whose key is in
//! the lock's file. Another broker does not know the tasks: it would thank for their results, and they would be lost.

use crate::Config;
use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use uuid::Uuid;

const LOCK: &str = "lock";

/// A worker's id, and the folder that goes with it, owned by this process.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) worker_id: Uuid,
    pub(crate) folder: PathBuf,
    /// Held for as long as this lives.
    _lock: File,
}

impl Identity {
    /// Takes over a folder of this broker that nobody owns: the wanted one first, then one with results, then any. Without
    /// any, makes one. Empty folders of processes that are gone are removed on the way; another broker's results are left.
    pub(crate) fn take(results_dir: &Path, broker: &str, wanted: Option<Uuid>) -> io::Result<Self> {
        fs::create_dir_all(results_dir)?;
        let mut left: Vec<(Uuid, PathBuf)> = fs::read_dir(results_dir)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let worker_id = Uuid::try_parse(entry.file_name().to_str()?).ok()?;
                Some((worker_id, entry.path()))
            })
            .collect();
        left.sort_by_key(|(worker_id, folder)| {
            (Some(*worker_id) != wanted, is_empty(folder), *worker_id)
        });
        let mut taken = None;
        for (worker_id, folder) in left {
            let Some(mut lock) = try_lock(&folder) else {
                continue;
            };
            let is_ours = holds(&mut lock, broker);
            let identity = Self {
                worker_id,
                folder,
                _lock: lock,
            };
            if is_ours && taken.is_none() {
                taken = Some(identity);
            } else {
                identity.remove_if_empty();
            }
        }
        match taken {
            Some(identity) => Ok(identity),
            None => Self::new(results_dir, broker, wanted)
                .or_else(|_| Self::new(results_dir, broker, None)),
        }
    }

    fn new(results_dir: &Path, broker: &str, wanted: Option<Uuid>) -> io::Result<Self> {
        let worker_id = wanted.unwrap_or_else(Uuid::new_v4);
        // Locked before it has its name, so that nobody takes it for one that was left.
        let nameless = results_dir.join(format!("new-{worker_id}"));
        fs::create_dir(&nameless)?;
        let mut lock = File::create(nameless.join(LOCK))?;
        lock.write_all(broker.as_bytes())?;
        lock.sync_all()?;
        lock.try_lock().map_err(io::Error::from)?;
        let folder = results_dir.join(worker_id.to_string());
        if let Err(error) = fs::rename(&nameless, &folder) {
            // The name is taken, by results of another broker; nothing of ours stays.
            let _ = fs::remove_dir_all(&nameless);
            return Err(error);
        }
        Ok(Self {
            worker_id,
            folder,
            _lock: lock,
        })
    }

    /// Leaves nothing behind where nothing is left to deliver.
    pub(crate) fn remove_if_empty(&self) {
        if is_empty(&self.folder) {
            // Whoever comes between finds a folder without a lock, or none: both are well.
            let _ = fs::remove_file(self.folder.join(LOCK));
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// What tells one broker's results from another's: where it is and what opens it, hashed, for the token is a secret.
pub(crate) fn broker_key(config: &Config) -> String {
    let mut key = blake3::Hasher::new();
    key.update(config.broker.as_bytes());
    key.update(b"\n");
    key.update(config.token.shown());
    key.finalize().to_string()
}

/// Whether a lock's file names this broker.
fn holds(lock: &mut File, broker: &str) -> bool {
    let mut held = Vec::new();
    lock.read_to_end(&mut held).is_ok() && held == broker.as_bytes()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .all(|entry| entry.file_name() == LOCK)
    })
}

/// None if another process owns it, or removed it, or if it belongs to another account.
fn try_lock(folder: &Path) -> Option<File> {
    let path = folder.join(LOCK);
    let mut options = File::options();
    let lock = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .ok()?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return None,
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, lock = %path.display(), "results of an earlier worker cannot be locked");
            return None;
        }
    }
    // Its last owner may have removed it between our opening and our locking.
    let (named, locked) = (fs::metadata(&path).ok()?, lock.metadata().ok()?);
    (named.ino() == locked.ino()).then_some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(results: &Path) -> usize {
        fs::read_dir(results).unwrap().count()
    }

    #[test]
    fn a_folder_has_one_owner_and_outlives_it_only_with_results() {
        let results = tempfile::tempdir().unwrap();
        let first = Identity::take(results.path(), "a", None).unwrap();
        let second = Identity::take(results.path(), "a", None).unwrap();
        assert_ne!(first.worker_id, second.worker_id);
        let (first_id, second_id) = (first.worker_id, second.worker_id);
        fs::write(second.folder.join("0.reports"), "x").unwrap();
        drop((first, second));

        // The one with results comes first; the empty one goes with its process.
        let again = Identity::take(results.path(), "a", None).unwrap();
        assert_eq!(again.worker_id, second_id);
        assert_eq!(folders(results.path()), 1);
        again.remove_if_empty();
        assert!(again.folder.exists(), "it has results");
        fs::remove_file(again.folder.join("0.reports")).unwrap();
        again.remove_if_empty();
        assert_eq!(folders(results.path()), 0);
        drop(again);

        let third = Identity::take(results.path(), "a", Some(first_id)).unwrap();
        assert_eq!(third.worker_id, first_id, "an id outlives its folder");
        let fourth = Identity::take(results.path(), "a", Some(first_id)).unwrap();
        assert_ne!(fourth.worker_id, first_id, "but has one owner");
    }

    #[test]
    fn another_brokers_results_are_left_for_it() {
        let results = tempfile::tempdir().unwrap();
        let first = Identity::take(results.path(), "a", None).unwrap();
        let empty = Identity::take(results.path(), "a", None).unwrap();
        fs::write(first.folder.join("0.reports"), "x").unwrap();
        let first_id = first.worker_id;
        drop((first, empty));
        let other = Identity::take(results.path(), "b", Some(first_id)).unwrap();
        assert_ne!(other.worker_id, first_id);
        assert_eq!(folders(results.path()), 2, "the empty one is gone");
        other.remove_if_empty();
        let again = Identity::take(results.path(), "a", None).unwrap();
        assert_eq!(again.worker_id, first_id);
        assert!(again.folder.join("0.reports").exists());
    }

    #[test]
    fn the_wanted_one_beats_one_with_results() {
        let results = tempfile::tempdir().unwrap();
        let first = Identity::take(results.path(), "a", None).unwrap();
        let second = Identity::take(results.path(), "a", None).unwrap();
        fs::write(first.folder.join("0.reports"), "x").unwrap();
        let (first_id, second_id) = (first.worker_id, second.worker_id);
        drop((first, second));
        let wanted = Identity::take(results.path(), "a", Some(second_id)).unwrap();
        assert_eq!(wanted.worker_id, second_id);
        let next = Identity::take(results.path(), "a", Some(second_id)).unwrap();
        assert_eq!(next.worker_id, first_id);
    }
}
