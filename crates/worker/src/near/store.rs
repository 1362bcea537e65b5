//! The folder of kept results: a file each, named by its digest and a stamp, flushed before anybody hears of it.
//!
//! Each broker has a folder of its own in it: another would let go what it does not know. Any number of processes share
//! one. What changes it does so under a lock; who reads finds a file by its name, or sees that it is gone. The stamp is
//! another one each time that a blob is put there, so that a late word to let it go does not meet one that was put since.

mod files;
mod shelf;

pub(crate) use files::Part;
use files::{Lock, listed};

use bytes::Bytes;
use dewar_blobs::{BlobRef, ChunkList, Digest};
use shelf::Shelf;
use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Blobs in one folder: what a worker can name in one message.
const BLOBS_MAX: usize = 65_536;

/// A blob, and the stamp under which it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) blob: BlobRef,
    pub(crate) stamp: u64,
}

/// Why a blob is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// There is no broker for which it could be.
    #[error("this worker keeps no results")]
    Closed,
    /// More is not wanted there.
    #[error("the folder {} has no room for {need_bytes} bytes more: {held_bytes} of {bytes_max} are taken; see --results-size", folder.display())]
    Full {
        folder: PathBuf,
        need_bytes: u64,
        held_bytes: u64,
        bytes_max: u64,
    },
    /// More could not be named in one message.
    #[error("the folder keeps {BLOBS_MAX} results already")]
    TooMany,
    /// The disk does not take it.
    #[error("cannot keep a result in {}", folder.display())]
    Io {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The folder. Cheap to clone; all clones are one. All but the looks at memory block.
#[derive(Debug, Clone)]
pub(crate) struct NearStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Most bytes of all brokers together; none if it takes nothing new.
    bytes_max: Option<u64>,
    /// What is there for the broker that was met last.
    shelf: Mutex<Option<Shelf>>,
    /// Hears of what was found damaged.
    lost: mpsc::UnboundedSender<Kept>,
}

impl NearStore {
    /// A folder that belongs to no broker yet. What is found damaged in it goes to `lost`.
    pub(crate) fn new(
        root: PathBuf,
        bytes_max: Option<u64>,
        lost: mpsc::UnboundedSender<Kept>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                root,
                bytes_max,
                shelf: Mutex::new(None),
                lost,
            }),
        }
    }

    /// Whether it takes more.
    pub(crate) fn takes_more(&self) -> bool {
        self.shared.bytes_max.is_some()
    }

    /// Opens what is kept for a broker, and gives the folder's own id. None if nothing is, and nothing will be.
    pub(crate) fn open(&self, broker_id: Uuid) -> io::Result<Option<Uuid>> {
        let folder = self.shared.root.join(broker_id.to_string());
        if !self.takes_more() && !folder.exists() {
            *self.shelf() = None;
            return Ok(None);
        }
        fs::create_dir_all(&folder)?;
        let lock = Lock::take(&self.shared.root)?;
        let id = files::id_of(&folder)?;
        files::sweep(&folder)?;
        drop(lock);
        let mut shelf = Shelf::new(folder);
        shelf.look()?;
        *self.shelf() = Some(shelf);
        Ok(Some(id))
    }

    /// Whether anything was kept for the broker when it was last looked. Does not block.
    pub(crate) fn keeps_some(&self) -> bool {
        self.shelf().as_ref().is_some_and(|shelf| shelf.len() > 0)
    }

    /// All that is kept for the broker.
    pub(crate) fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut shelf = self.shelf();
        let Some(shelf) = shelf.as_mut() else {
            return Ok(Vec::new());
        };
        shelf.look()?;
        Ok(shelf.kept().take(BLOBS_MAX).collect())
    }

    /// Begins to put a blob there.
    pub(crate) fn begin(&self, blob: BlobRef) -> Result<Part, KeepError> {
        let folder = self.folder().ok_or(KeepError::Closed)?;
        let bytes_max = self.shared.bytes_max.ok_or(KeepError::Closed)?;
        let count = self.shelf().as_ref().map_or(0, Shelf::len);
        if count >= BLOBS_MAX {
            return Err(KeepError::TooMany);
        }
        let begun = || {
            let _lock = Lock::take(&self.shared.root)?;
            let held_bytes = files::held_bytes(&self.shared.root)?;
            if held_bytes.saturating_add(blob.size_bytes) > bytes_max {
                return Ok(Err(held_bytes));
            }
            Part::create(&folder, blob).map(Ok)
        };
        match begun() {
            Ok(Ok(part)) => Ok(part),
            Ok(Err(held_bytes)) => Err(KeepError::Full {
                folder,
                need_bytes: blob.size_bytes,
                held_bytes,
                bytes_max,
            }),
            Err(source) => Err(KeepError::Io { folder, source }),
        }
    }

    /// Ends what [`NearStore::begin`] began: flushed, and known to all who share the folder.
    pub(crate) fn finish(&self, part: Part, list: &ChunkList) -> Result<Kept, KeepError> {
        let folder = part.folder().to_owned();
        let finished = || {
            part.flush(list)?;
            let _lock = Lock::take(&self.shared.root)?;
            let stamp = part.name()?;
            files::remove_others(&folder, &list.blob().digest, stamp)?;
            files::sync(&folder)?;
            Ok(Kept {
                blob: list.blob(),
                stamp,
            })
        };
        let kept = finished().map_err(|source| KeepError::Io {
            folder: folder.clone(),
            source,
        })?;
        if let Some(shelf) = self
            .shelf()
            .as_mut()
            .filter(|shelf| shelf.folder() == folder)
        {
            shelf.insert(kept, list.clone());
        }
        Ok(kept)
    }

    /// Puts all of a blob there.
    pub(crate) fn put(&self, list: &ChunkList, bytes: &Bytes) -> Result<Kept, KeepError> {
        let part = self.begin(list.blob())?;
        let written = part.write_at(0, bytes);
        written.map_err(|source| KeepError::Io {
            folder: part.folder().to_owned(),
            source,
        })?;
        self.finish(part, list)
    }

    /// Gives a blob that is there, and whole, another stamp.
    pub(crate) fn put_again(&self, list: &ChunkList) -> Option<Kept> {
        let digest = list.blob().digest;
        let old = {
            let shelf = self.shelf();
            shelf.as_ref()?.find(&digest)?
        };
        let folder = self.folder()?;
        (0..list.chunk_count()).try_for_each(|index| {
            let chunk = list.chunk(index)?;
            files::read(&folder, old, &chunk).ok().flatten().map(drop)
        })?;
        let renamed = || {
            let _lock = Lock::take(&self.shared.root)?;
            let stamp = files::rename(&folder, old)?;
            files::sync(&folder)?;
            Ok::<_, io::Error>(Kept { stamp, ..old })
        };
        let kept = renamed().ok()?;
        if let Some(shelf) = self
            .shelf()
            .as_mut()
            .filter(|shelf| shelf.folder() == folder)
        {
            shelf.insert(kept, list.clone());
        }
        Some(kept)
    }

    /// Removes a blob, unless it was put there again since.
    pub(crate) fn remove(&self, kept: Kept) {
        let Some(folder) = self.folder() else {
            return;
        };
        let removed = Lock::take(&self.shared.root)
            .and_then(|_lock| files::remove(&folder, &kept.blob.digest, kept.stamp));
        if let Err(error) = removed {
            tracing::warn!(%error, blob = %kept.blob.digest, "a result that nobody needs is not removed");
        }
        if let Some(shelf) = self.shelf().as_mut() {
            shelf.remove(kept);
        }
    }

    /// Whether a blob was there when it was last looked. Does not block.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        let shelf = self.shelf();
        shelf
            .as_ref()
            .is_some_and(|shelf| shelf.find(digest).is_some())
    }

    /// A chunk by its digest alone, checked.
    pub(crate) fn open_chunk(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        // Who shares the folder may have put it there, or put it there again, since we looked.
        for is_second in [false, true] {
            let found = {
                let mut shelf = self.shelf();
                let Some(shelf) = shelf.as_mut() else {
                    return Ok(None);
                };
                if is_second && !shelf.look_if_changed()? {
                    return Ok(None);
                }
                let place = shelf.find_chunk(digest);
                place.map(|(kept, chunk)| (shelf.folder().to_owned(), kept, chunk))
            };
            let Some((folder, kept, chunk)) = found else {
                continue;
            };
            match files::read(&folder, kept, &chunk) {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {
                    self.lose(kept);
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// One that is damaged is of no use to anybody.
    fn lose(&self, kept: Kept) {
        tracing::warn!(blob = %kept.blob.digest, "a kept result is damaged, and is removed");
        self.remove(kept);
        // Nobody listens any more when the worker ends.
        let _ = self.shared.lost.send(kept);
    }

    fn folder(&self) -> Option<PathBuf> {
        let shelf = self.shelf();
        shelf.as_ref().map(|shelf| shelf.folder().to_owned())
    }

    fn shelf(&self) -> MutexGuard<'_, Option<Shelf>> {
        // It is whole at every step, and looked at anew by whoever misses something.
        self.shared
            .shelf
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
