//! The store's folder: locked, on a disk that keeps its word, and which generation of the database in it counts.
//!
//! A generation is a sled database of its own, `gen-000001` and so on; the file `CURRENT` names the one that counts. It is
//! replaced by a rename, so that a crash leaves either name; whatever else lies about then is swept away at the next
//! start. Early stores have their database in the folder itself and no such file: generation 0.

use super::{super::StoreError, fuse::Fuse};
use dewar_settings::network_kind;
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Names the generation that counts.
const POINTER: &str = "CURRENT";

/// The pointer, while it is written.
const POINTER_BESIDE: &str = "CURRENT.new";

/// Begins the names of generations.
const GENERATION_PREFIX: &str = "gen-";

/// A folder that is ours alone while this lives.
pub(super) struct Folder {
    path: PathBuf,
    fuse: Fuse,
    _lock: File,
}

/// One database of those that followed one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl Folder {
    /// Makes the folder if need be, and locks it.
    pub(super) fn prepare(path: &Path, fuse: Fuse) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(failed("make", path))?;
        refuse_network(path)?;
        let lock_path = path.join("LOCK");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        Ok(Self {
            path: path.to_owned(),
            fuse,
            _lock: lock,
        })
    }

    #[cfg(test)]
    pub(super) fn set_fuse(&mut self, fuse: Fuse) {
        self.fuse = fuse;
    }

    /// Where a generation's files are.
    pub(super) fn path_of(&self, Generation(number): Generation) -> PathBuf {
        match number {
            0 => self.path.clone(),
            _ => self.path.join(name_of(number)),
        }
    }

    /// The generation that counts, and whether it is named as such. One that was never named is new, or of an early store.
    pub(super) fn current(&self) -> Result<(Generation, bool), StoreError> {
        let path = self.path.join(POINTER);
        let name = match fs::read_to_string(&path) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.first(),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let number = number_of(name.trim_end());
        let generation = number.ok_or_else(|| self.damaged("its file CURRENT names nothing"))?;
        // sled would make an empty one, and nobody would know.
        if !self.path_of(Generation(generation)).join("db").exists() {
            return Err(self.damaged("what its file CURRENT names is missing"));
        }
        Ok((Generation(generation), true))
    }

    /// Makes a generation the one that counts; durable when this returns.
    pub(super) fn name_current(&self, Generation(number): Generation) -> Result<(), Unnamed> {
        let beside = self.path.join(POINTER_BESIDE);
        let write = || {
            let mut file = File::create(&beside)?;
            writeln!(file, "{}", name_of(number))?;
            file.sync_all()
        };
        self.fuse.burn().map_err(Unnamed::Surely)?;
        write().map_err(|error| Unnamed::Surely(failed("write", &beside)(error)))?;
        self.fuse.burn().map_err(Unnamed::Surely)?;
        fs::rename(&beside, self.path.join(POINTER))
            .map_err(|error| Unnamed::Surely(failed("rename", &beside)(error)))?;
        self.fuse.burn().map_err(Unnamed::Perhaps)?;
        sync_all(&self.path).map_err(Unnamed::Perhaps)
    }

    /// Removes all that is of other generations.
    pub(super) fn sweep(&self, current: Generation) -> Result<(), StoreError> {
        let list = || fs::read_dir(&self.path)?.collect::<io::Result<Vec<_>>>();
        for entry in list().map_err(failed("read", &self.path))? {
            let path = entry.path();
            if is_leftover(&entry.file_name().to_string_lossy(), current) {
                self.fuse.burn()?;
                let removed = match path.is_dir() {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
                removed.map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Without a pointer nothing was ever compacted: either the database lies in the folder itself, or a first one was
    /// perhaps begun.
    fn first(&self) -> Result<(Generation, bool), StoreError> {
        if self.path.join("db").exists() {
            return Ok((Generation(0), false));
        }
        let names = fs::read_dir(&self.path).map_err(failed("read", &self.path))?;
        let mut numbers = names
            .filter_map(Result::ok)
            .filter_map(|entry| number_of(&entry.file_name().to_string_lossy()));
        match numbers.any(|number| number != 1) {
            true => Err(self.damaged("its file CURRENT is missing")),
            false => Ok((Generation(1), false)),
        }
    }

    fn damaged(&self, reason: &str) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Why a generation was not made the one that counts.
pub(super) enum Unnamed {
    /// The one before still is.
    Surely(StoreError),
    /// A crash would tell.
    Perhaps(StoreError),
}

impl From<Unnamed> for StoreError {
    fn from(unnamed: Unnamed) -> Self {
        match unnamed {
            Unnamed::Surely(error) | Unnamed::Perhaps(error) => error,
        }
    }
}

impl Generation {
    /// The one after this.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Whether its files lie in the store's folder itself.
    pub(super) fn is_early(self) -> bool {
        self.0 == 0
    }
}

/// Whether a file or folder of this name is of another generation.
fn is_leftover(name: &str, Generation(current): Generation) -> bool {
    match number_of(name) {
        Some(number) => number != current,
        None if name == POINTER_BESIDE => true,
        None => {
            current != 0 && (matches!(name, "db" | "conf" | "blobs") || name.starts_with("snap."))
        }
    }
}

fn name_of(number: u64) -> String {
    format!("{GENERATION_PREFIX}{number:06}")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(GENERATION_PREFIX)?;
    digits
        .parse()
        .ok()
        .filter(|number| name_of(*number) == name)
}

pub(super) fn refuse_network(path: &Path) -> Result<(), StoreError> {
    match network_kind(path).map_err(failed("examine", path))? {
        None => Ok(()),
        Some(kind) => Err(StoreError::NetworkFileSystem {
            path: path.to_owned(),
            kind,
        }),
    }
}

/// Makes a file durable, or the names in a folder.
pub(super) fn sync_all(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed("sync", path))
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
