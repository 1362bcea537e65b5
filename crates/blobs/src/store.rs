//! The broker's folder of blobs: files named by their digest, and references to files that stay where they are.
//!
//! A blob is there when its name is: it is written under another name, synced, and renamed. Imported files are never
//! copied nor changed; what was known of them at import is checked whenever they are read, and so is every chunk.
//! Who still needs a blob is the queue's business; deleting only looks whether someone is about to.

mod durable;
mod hash;
mod import;
mod known_chunks;
mod load;
mod reference;
mod save;
mod upload;

pub use import::ImportError;
pub use load::{LoadError, LoadedBlob};
pub use save::{BlobWriter, SaveError};
pub use upload::ChunkError;

use crate::{BlobRef, ChunkList, Digest, stamp::Stamp};
use import::Stored;
use reference::Reference;
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// A blob nobody holds is left alone this long: its job may not have been told of it yet.
const UNHELD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A blob a worker wrote again is left alone this long, though its holder gave it up: the outcome that names it once
/// more is on its way. Worker outputs are reported within seconds; this allows for a broker's restart between.
const REWRITTEN_KEPT: Duration = Duration::from_secs(600);

/// The blobs of one broker. Cheap to clone; all clones are one store. Everything here blocks.
#[derive(Debug, Clone)]
pub struct BlobStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Canonical; files outside are not imported.
    exports: Vec<PathBuf>,
    /// Left free on the disk: whoever keeps note of the blobs needs room for it, also to give some up.
    free_bytes_min: u64,
    index: Mutex<Index>,
    uploads: Mutex<upload::Uploads>,
    known_chunks: Mutex<known_chunks::KnownChunks>,
}

#[derive(Debug, Default)]
struct Index {
    blobs: HashMap<Digest, Entry>,
    /// Imports by what was imported, so that the second of a file costs nothing.
    imports: HashMap<(PathBuf, Stamp), BlobRef>,
    /// How many callers are about to have a blob held. One pinned is not deleted.
    pins: HashMap<Digest, usize>,
}

#[derive(Debug, Clone)]
struct Entry {
    size_bytes: u64,
    /// Files in which the bytes are, besides or instead of our own.
    imported: Option<Arc<Imported>>,
    /// The file whose path and stamp are its name, if it is one used by reference. Then there are no others.
    reference: Option<Arc<Reference>>,
    /// Whether the bytes are in a file of ours.
    is_own: bool,
    /// When a worker last wrote it though it was there.
    rewritten_at: Option<Instant>,
}

/// A blob in files that are not ours, named by its bytes.
#[derive(Debug)]
struct Imported {
    list: Arc<ChunkList>,
    files: Vec<(PathBuf, Stamp)>,
}

/// Keeps a blob from being deleted while someone is about to have it held.
#[derive(Debug)]
pub struct Pin {
    shared: Arc<Shared>,
    digest: Digest,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs deleted because nobody holds them.
    pub blob_count: u64,
    /// Bytes of ours that were freed.
    pub freed_bytes: u64,
}

impl BlobStore {
    /// Opens the folder, making it if need be; what a crash left half-written is removed. One process at a time may
    /// have it open: the caller holds the data folder's lock. Blobs leave `free_bytes_min` of the disk alone.
    ///
    /// # Errors
    /// If a folder cannot be made or read, or an exported one is not there; the text names it.
    pub fn open(folder: &Path, exports: &[PathBuf], free_bytes_min: u64) -> io::Result<Self> {
        let exports = exports
            .iter()
            .map(|export| fs::canonicalize(export).map_err(|error| named(export, &error)))
            .collect::<io::Result<_>>()?;
        let temporary = folder.join("tmp");
        fs::create_dir_all(&temporary).map_err(|error| named(&temporary, &error))?;
        for entry in fs::read_dir(&temporary)? {
            fs::remove_file(entry?.path())?;
        }
        let blobs = folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(|error| named(&blobs, &error))?;
        let index = Index::read(&blobs).map_err(|error| named(&blobs, &error))?;
        let uploads = folder.join("uploads");
        fs::create_dir_all(&uploads).map_err(|error| named(&uploads, &error))?;
        durable::sync_folder(folder)?;
        let shared = Shared {
            folder: folder.to_owned(),
            exports,
            free_bytes_min,
            index: Mutex::new(index),
            uploads: Mutex::default(),
            known_chunks: Mutex::default(),
        };
        let removed = shared.remove_abandoned_uploads();
        removed.map_err(|error| named(&uploads, &error))?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The size of a blob, if it is here.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        let index = self.shared.index();
        index.blobs.get(digest).map(|entry| entry.size_bytes)
    }

    /// Bytes in files of ours: what deleting can free.
    pub fn total_bytes(&self) -> u64 {
        let index = self.shared.index();
        let own = index.blobs.values().filter(|entry| entry.is_own);
        own.map(|entry| entry.size_bytes).sum()
    }

    /// How many blobs there are, imported ones included.
    pub fn blob_count(&self) -> u64 {
        self.shared.index().blobs.len() as u64
    }

    /// Keeps a blob, there or yet to come, from being deleted until the pin is dropped. Take it before looking
    /// whether the blob is here, and drop it when its hold is durable.
    pub fn pin(&self, digest: Digest) -> Pin {
        *self.shared.index().pins.entry(digest).or_default() += 1;
        Pin {
            shared: Arc::clone(&self.shared),
            digest,
        }
    }

    /// Notes that a worker wrote a blob that was there already, and will name it in an outcome shortly.
    pub fn note_rewritten(&self, digest: &Digest) {
        if let Some(entry) = self.shared.index().blobs.get_mut(digest) {
            entry.rewritten_at = Some(Instant::now());
        }
    }

    /// Deletes a blob nobody holds any more; of an imported one only the reference. Call it when the events that gave
    /// it up are durable, and before any later hold becomes so. A pinned or just rewritten blob stays for the next
    /// sweep, and deleting what is not here is no error. Says whether the blob went.
    ///
    /// # Errors
    /// If the file system does not let it go.
    pub fn delete(&self, digest: &Digest) -> io::Result<bool> {
        let mut index = self.shared.index();
        let pinned = index.pins.contains_key(digest);
        let Some(entry) = index.blobs.get(digest) else {
            return Ok(false);
        };
        let rewritten = entry
            .rewritten_at
            .is_some_and(|at| at.elapsed() < REWRITTEN_KEPT);
        if pinned || rewritten {
            return Ok(false);
        }
        // Under the lock, so that a writer of the same blob comes before or after, but not between.
        for path in [
            self.shared.path(digest),
            self.shared.imported_path(digest),
            self.shared.list_path(digest),
        ] {
            durable::remove(&path)?;
        }
        if let Some(imported) = index.blobs.remove(digest).and_then(|entry| entry.imported) {
            for file in &imported.files {
                index.imports.remove(file);
            }
        }
        Ok(true)
    }

    /// Deletes what nobody has held for a day, such as the outputs of tries whose outcome never came. Call it after
    /// replay, and now and then.
    ///
    /// # Errors
    /// If the file system does not let something go.
    pub fn sweep(&self, is_held: impl Fn(&Digest) -> bool) -> io::Result<Swept> {
        let candidates: Vec<_> = {
            let index = self.shared.index();
            let unheld = index.blobs.iter().filter(|(digest, _)| !is_held(digest));
            unheld
                .map(|(digest, entry)| (*digest, entry.clone()))
                .collect()
        };
        let mut swept = Swept::default();
        for (digest, entry) in candidates {
            let path = if entry.is_own {
                self.shared.path(&digest)
            } else {
                self.shared.imported_path(&digest)
            };
            let made_at = fs::metadata(&path).and_then(|metadata| metadata.modified())?;
            let age = SystemTime::now().duration_since(made_at);
            if age.unwrap_or_default() > UNHELD_AGE_MAX && self.delete(&digest)? {
                swept.blob_count += 1;
                swept.freed_bytes += if entry.is_own { entry.size_bytes } else { 0 };
            }
        }
        Ok(swept)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut index = self.shared.index();
        if let Some(count) = index.pins.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                index.pins.remove(&self.digest);
            }
        }
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        // Every change of the index is one assignment, so it is whole even if a holder of the lock panicked.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a blob of ours is.
    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        // 256 folders, so that none grows to hundreds of thousands of entries.
        self.folder.join("blobs").join(&name[..2]).join(name)
    }

    /// Where its chunk list is, if it has more than one chunk.
    fn list_path(&self, digest: &Digest) -> PathBuf {
        self.path(digest).with_extension(LIST_EXTENSION)
    }

    /// Where the reference is, if it was imported.
    fn imported_path(&self, digest: &Digest) -> PathBuf {
        self.path(digest).with_extension(IMPORTED_EXTENSION)
    }

    fn temporary_folder(&self) -> PathBuf {
        self.folder.join("tmp")
    }
}

const LIST_EXTENSION: &str = "chunks";
const IMPORTED_EXTENSION: &str = "imported";

impl Index {
    /// Reads what is in the folder. Chunk lists without a blob, left by a crash between the two, are removed.
    fn read(folder: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        let mut lists = Vec::new();
        for shelf in fs::read_dir(folder)? {
            for entry in fs::read_dir(shelf?.path())? {
                let path = entry?.path();
                let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
                let Ok(digest) = stem.parse() else {
                    tracing::warn!(path = %path.display(), "not a blob of ours; left alone");
                    continue;
                };
                match path.extension().map(OsStr::as_bytes) {
                    None => {
                        let size_bytes = fs::metadata(&path)?.len();
                        index.insert_own(BlobRef { digest, size_bytes });
                    }
                    Some(extension) if extension == IMPORTED_EXTENSION.as_bytes() => {
                        match import::read_reference(&path, digest)? {
                            Some(Stored::Imported(imported)) => index.insert_imported(imported),
                            Some(Stored::Reference(reference)) => index.insert_reference(reference),
                            None => tracing::warn!(
                                path = %path.display(), "the reference to an imported file is damaged; import it again"
                            ),
                        }
                    }
                    Some(_) => lists.push((digest, path)),
                }
            }
        }
        for (digest, path) in lists {
            let entry = index.blobs.get(&digest);
            if !entry.is_some_and(|entry| entry.is_own || entry.reference.is_some()) {
                durable::remove(&path)?;
            }
        }
        Ok(index)
    }

    fn insert_own(&mut self, blob: BlobRef) {
        self.entry(blob).is_own = true;
    }

    fn insert_imported(&mut self, imported: Imported) {
        let blob = imported.list.blob();
        for file in &imported.files {
            self.imports.insert(file.clone(), blob);
        }
        self.entry(blob).imported = Some(Arc::new(imported));
    }

    fn insert_reference(&mut self, reference: Reference) {
        // Two callers may import a file at once: what the first has learned of it stays.
        let entry = self.entry(reference.blob());
        entry.reference.get_or_insert_with(|| Arc::new(reference));
    }

    fn entry(&mut self, blob: BlobRef) -> &mut Entry {
        self.blobs.entry(blob.digest).or_insert(Entry {
            size_bytes: blob.size_bytes,
            imported: None,
            reference: None,
            is_own: false,
            rewritten_at: None,
        })
    }
}

/// The same error, with the path it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
