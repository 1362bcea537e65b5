//! Whose results a folder holds: one process at a time, by a lock that dies with it, and one broker's, whose name is in
//! the lock's file. Another broker does not know the tasks: it would thank for their results, and they would be lost.
//!
//! A broker's name is the id that it tells in its welcome. Until then there is only the pair of its address and the token;
//! which id answered there last is in `brokers/PAIR` beside the folders.

use crate::Config;
use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};
use uuid::Uuid;

const LOCK: &str = "lock";

/// Where it is written which broker answers where.
const BROKERS: &str = "brokers";

/// A worker's id, and the folder that goes with it, owned by this process.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) worker_id: Uuid,
    pub(crate) folder: PathBuf,
    /// Whose results these are, if that was ever told.
    pub(crate) broker_id: Option<Uuid>,
    results_dir: PathBuf,
    /// Hash of the broker's address and the token.
    pair: String,
    /// Held for as long as this lives.
    lock: File,
}

impl Identity {
    /// Takes over a folder of this broker that nobody owns: the wanted one first, then one with results, then any. Without
    /// any, makes one. Empty folders of processes that are gone are removed on the way; another broker's results are left.
    pub(crate) fn take(results_dir: &Path, pair: &str, wanted: Option<Uuid>) -> io::Result<Self> {
        fs::create_dir_all(results_dir)?;
        let known = broker_at(results_dir, pair);
        let mut left = folders(results_dir)?;
        left.sort_by_key(|(worker_id, folder)| {
            (Some(*worker_id) != wanted, is_empty(folder), *worker_id)
        });
        let mut taken = None;
        for (worker_id, folder) in left {
            let Some(mut lock) = try_lock(&folder) else {
                continue;
            };
            let name = Name::read(&mut lock);
            let broker_id = name.broker_id(results_dir);
            let is_ours = match name.told {
                None if name.pair == pair => true,
                _ => broker_id.is_some() && broker_id == known,
            };
            let identity = Self {
                worker_id,
                folder,
                broker_id: name.told,
                results_dir: results_dir.to_owned(),
                pair: pair.to_owned(),
                lock,
            };
            if is_ours && taken.is_none() {
                taken = Some(identity);
            } else {
                identity.remove_if_empty();
            }
        }
        match taken {
            Some(identity) => Ok(identity),
            None => {
                Self::new(results_dir, pair, wanted).or_else(|_| Self::new(results_dir, pair, None))
            }
        }
    }

    fn new(results_dir: &Path, pair: &str, wanted: Option<Uuid>) -> io::Result<Self> {
        let worker_id = wanted.unwrap_or_else(Uuid::new_v4);
        // Locked before it has its name, so that nobody takes it for one that was left.
        let nameless = results_dir.join(format!("new-{worker_id}"));
        fs::create_dir(&nameless)?;
        let mut lock = File::create(nameless.join(LOCK))?;
        lock.write_all(pair.as_bytes())?;
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
            broker_id: None,
            results_dir: results_dir.to_owned(),
            pair: pair.to_owned(),
            lock,
        })
    }

    /// Writes down which broker has answered. These results are its own, unless they are another's already.
    pub(crate) fn settle(&mut self, broker_id: Uuid) -> io::Result<()> {
        let brokers = self.results_dir.join(BROKERS);
        fs::create_dir_all(&brokers)?;
        if broker_at(&self.results_dir, &self.pair) != Some(broker_id) {
            // Others that share the folder may write the same.
            let beside = brokers.join(format!("new-{}", self.worker_id));
            fs::write(&beside, broker_id.to_string())?;
            fs::rename(&beside, brokers.join(&self.pair))?;
        }
        if self.broker_id.is_none() || is_empty(&self.folder) {
            // As long as what it replaces, and the pair holds where only that is on disk.
            let name = format!("{}\n{broker_id}", self.pair);
            self.lock.write_all_at(name.as_bytes(), 0)?;
            self.lock.sync_all()?;
            self.broker_id = Some(broker_id);
        }
        Ok(())
    }

    /// A worker that is gone and left results for this broker, when it was reached by another address or token.
    pub(crate) fn left_elsewhere(&self) -> Option<Uuid> {
        let left = folders(&self.results_dir).ok()?.into_iter();
        let mut left = left.filter(|(_, folder)| has_results(folder));
        let found = left.find(|(_, folder)| {
            try_lock(folder).is_some_and(|mut lock| {
                let broker_id = Name::read(&mut lock).broker_id(&self.results_dir);
                broker_id.is_some() && broker_id == self.broker_id
            })
        });
        found.map(|(worker_id, _)| worker_id)
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

/// What a lock's file says of the broker: the pair by which it was called, and the id that it told.
struct Name {
    pair: String,
    told: Option<Uuid>,
}

impl Name {
    fn read(lock: &mut File) -> Self {
        let mut name = String::new();
        // What cannot be read is nobody's.
        let _ = lock.read_to_string(&mut name);
        let (pair, told) = name.split_once('\n').unwrap_or((&name, ""));
        Self {
            pair: pair.to_owned(),
            told: Uuid::try_parse(told).ok(),
        }
    }

    fn broker_id(&self, results_dir: &Path) -> Option<Uuid> {
        self.told.or_else(|| broker_at(results_dir, &self.pair))
    }
}

/// Which broker answered to a pair when it was last called.
fn broker_at(results_dir: &Path, pair: &str) -> Option<Uuid> {
    // A lock's file is anybody's to edit, and not to lead elsewhere.
    let is_pair = !pair.is_empty() && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    let path = is_pair.then(|| results_dir.join(BROKERS).join(pair))?;
    Uuid::try_parse(&fs::read_to_string(path).ok()?).ok()
}

/// The folders of all workers, with their ids.
fn folders(results_dir: &Path) -> io::Result<Vec<(Uuid, PathBuf)>> {
    let entries = fs::read_dir(results_dir)?.filter_map(Result::ok);
    let folders = entries.filter_map(|entry| {
        let worker_id = Uuid::try_parse(entry.file_name().to_str()?).ok()?;
        Some((worker_id, entry.path()))
    });
    Ok(folders.collect())
}

fn has_results(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().extension().is_some_and(|end| end == "reports"))
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

    fn folder_count(results: &Path) -> usize {
        folders(results).unwrap().len()
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
        assert_eq!(folder_count(results.path()), 1);
        again.remove_if_empty();
        assert!(again.folder.exists(), "it has results");
        fs::remove_file(again.folder.join("0.reports")).unwrap();
        again.remove_if_empty();
        assert_eq!(folder_count(results.path()), 0);
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
        assert_eq!(folder_count(results.path()), 2, "the empty one is gone");
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

    #[test]
    fn results_follow_their_broker_to_another_pair() {
        let results = tempfile::tempdir().unwrap();
        let broker = Uuid::new_v4();
        let mut first = Identity::take(results.path(), "a", None).unwrap();
        first.settle(broker).unwrap();
        fs::write(first.folder.join("0.reports"), "x").unwrap();
        assert_eq!(first.left_elsewhere(), None, "its own are not elsewhere");
        let first_id = first.worker_id;

        let mut moved = Identity::take(results.path(), "b", None).unwrap();
        moved.settle(broker).unwrap();
        assert_eq!(moved.left_elsewhere(), None, "it has an owner");
        drop(first);
        assert_eq!(moved.left_elsewhere(), Some(first_id));
        let mut other = Identity::take(results.path(), "c", None).unwrap();
        other.settle(Uuid::new_v4()).unwrap();
        assert_eq!(other.left_elsewhere(), None, "they are another's");
        drop((moved, other));

        let again = Identity::take(results.path(), "b", Some(first_id)).unwrap();
        assert_eq!((again.worker_id, again.broker_id), (first_id, Some(broker)));
    }

    #[test]
    fn results_of_an_earlier_release_are_adopted_by_the_broker_they_were_kept_for() {
        let results = tempfile::tempdir().unwrap();
        let broker = Uuid::new_v4();
        // Its lock has the pair and no id.
        let before = Identity::take(results.path(), "a", None).unwrap();
        fs::write(before.folder.join("0.reports"), "x").unwrap();
        let before_id = before.worker_id;
        let mut moved = Identity::take(results.path(), "b", None).unwrap();
        moved.settle(broker).unwrap();
        drop(before);
        assert_eq!(moved.left_elsewhere(), None, "nobody knows whose they are");
        let mut at_the_old_pair = Identity::take(results.path(), "a", None).unwrap();
        assert_eq!(at_the_old_pair.worker_id, before_id);
        at_the_old_pair.settle(broker).unwrap();
        drop(at_the_old_pair);
        assert_eq!(moved.left_elsewhere(), Some(before_id));
    }

    #[test]
    fn another_broker_at_the_same_pair_does_not_get_them() {
        let results = tempfile::tempdir().unwrap();
        let (broker, other) = (Uuid::new_v4(), Uuid::new_v4());
        let mut first = Identity::take(results.path(), "a", None).unwrap();
        first.settle(broker).unwrap();
        fs::write(first.folder.join("0.reports"), "x").unwrap();
        let first_id = first.worker_id;
        first.settle(other).unwrap();
        assert_eq!(first.broker_id, Some(broker));
        drop(first);
        let second = Identity::take(results.path(), "a", Some(first_id)).unwrap();
        assert_ne!(second.worker_id, first_id);
        // And back again.
        let mut third = Identity::take(results.path(), "a", None).unwrap();
        third.settle(broker).unwrap();
        assert_eq!(third.left_elsewhere(), Some(first_id));
    }
}
