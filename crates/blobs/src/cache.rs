//! A worker's folder of chunks: what was fetched once is not fetched again, by any slot or process on the machine.
//!
//! A chunk is a file named by its digest, made under another name and renamed, and checked again whenever it is read
//! in: what a crash or a bad disk left behind is fetched anew, never believed. So nothing is synced. When the folder
//! outgrows its limit the chunks longest unused go; whoever still reads one keeps it, since a mapping outlives its name.

mod claim;
mod evict;
mod fetch;
mod lists;

pub use fetch::FetchError;

use crate::{BlobRef, Chunk, ChunkSet, Digest};
use bytes::Bytes;
use memmap2::Mmap;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

/// What a cache may take of a disk if nothing else is said.
pub const CACHE_BYTES_DEFAULT: u64 = 50 << 30;

/// A use is noted at most this often: the file's time is all the bookkeeping there is, and it is a write.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// Temporary files older than this belong to a process that is dead.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

/// The chunks on this machine. Cheap to clone; all clones are one cache.
#[derive(Debug, Clone)]
pub struct ChunkCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    size_bytes_max: u64,
    /// What the folder held when last looked at, and what we added since. Others may add too; eviction looks again.
    size_bytes: Mutex<u64>,
    /// One lock for each chunk on its way, so that two slots fetch it once.
    fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Who wants to hear of every chunk that is kept.
    listener: OnceLock<mpsc::UnboundedSender<Chunk>>,
}

impl ChunkCache {
    /// Opens a folder, making it if need be, and counts what is there. Other processes may have it open too.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written.
    pub fn open(folder: &Path, size_bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder.join("chunks"))?;
        for name in ["tmp", "lists", "fetching"] {
            fs::create_dir_all(folder.join(name))?;
        }
        evict::remove_abandoned(&folder.join("tmp"))?;
        let cache = Self {
            shared: Arc::new(Shared {
                folder: folder.to_owned(),
                size_bytes_max,
                size_bytes: Mutex::new(0),
                fetching: Mutex::default(),
                listener: OnceLock::new(),
            }),
        };
        cache
            .shared
            .evict_if_full(&mut locked(&cache.shared.size_bytes), true)?;
        Ok(cache)
    }

    /// Every chunk that this process keeps from now on. One listener only; later ones hear nothing.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Chunk> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.shared.listener.set(sender);
        receiver
    }

    /// What is here, by blob, also from before this process. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn holdings(&self) -> io::Result<Vec<(BlobRef, ChunkSet)>> {
        self.shared.listed()
    }

    /// Which of these chunks of a blob are here, also those that came with another blob or by another process. They count
    /// among the holdings from now on. Blocks.
    pub fn note_held(&self, chunks: &[Chunk]) -> ChunkSet {
        let here = chunks
            .iter()
            .filter(|chunk| self.shared.path(&chunk.digest).exists());
        here.map(|chunk| {
            self.shared.list(chunk);
            chunk.index
        })
        .collect()
    }

    /// A chunk by its digest alone, for others, who check it. Blocks.
    pub fn open_chunk(&self, digest: &Digest) -> Option<Bytes> {
        let file = File::open(self.shared.path(digest)).ok()?;
        note_use(&file);
        map(&file).ok()
    }

    /// Most bytes it may hold.
    pub fn size_bytes_max(&self) -> u64 {
        self.shared.size_bytes_max
    }

    /// How many bytes the folder holds, as far as this process knows.
    pub fn size_bytes(&self) -> u64 {
        *locked(&self.shared.size_bytes)
    }

    /// A chunk, if it is here and sound; a broken one is removed. Blocks.
    pub fn get(&self, chunk: &Chunk) -> Option<Bytes> {
        let path = self.shared.path(&chunk.digest);
        let file = File::open(&path).ok()?;
        if file.metadata().ok()?.len() == chunk.size_bytes() {
            let bytes = map(&file).ok()?;
            if chunk.verify(&bytes).is_ok() {
                note_use(&file);
                return Some(bytes);
            }
        }
        tracing::warn!(path = %path.display(), "a cached chunk is broken; fetching it again");
        // If it stays, it is found broken again and written over.
        let _ = fs::remove_file(&path);
        None
    }

    /// Keeps a chunk that was checked. Blocks.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn put(&self, chunk: &Chunk, bytes: &[u8]) -> io::Result<()> {
        self.shared.write(&chunk.digest, bytes)?;
        self.shared.list(chunk);
        if let Some(listener) = self.shared.listener.get() {
            // Whoever listened may have gone.
            let _ = listener.send(*chunk);
        }
        let mut size_bytes = locked(&self.shared.size_bytes);
        *size_bytes += bytes.len() as u64;
        self.shared.evict_if_full(&mut size_bytes, false)
    }
}

impl Shared {
    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        // 256 folders, so that none grows to hundreds of thousands of entries.
        self.folder.join("chunks").join(&name[..2]).join(name)
    }

    /// The files of all chunks, in no order.
    fn chunk_files(&self) -> io::Result<Vec<fs::DirEntry>> {
        let mut files = Vec::new();
        for shelf in fs::read_dir(self.folder.join("chunks"))? {
            for entry in fs::read_dir(shelf?.path())? {
                files.push(entry?);
            }
        }
        Ok(files)
    }

    fn list(&self, chunk: &Chunk) {
        if let Err(error) = self.note_listed(chunk) {
            // It is found all the same; only the swarm is not told of it after a restart.
            tracing::debug!(%error, "a chunk is not listed");
        }
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        let mut temporary = tempfile::NamedTempFile::new_in(self.folder.join("tmp"))?;
        temporary.write_all(bytes)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        temporary.persist(&path)?;
        Ok(())
    }
}

/// Maps a cached file; slots that read the same chunk share its memory.
fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: files of the cache are whole when they get their name, and no process of ours writes into one or
    // shortens it afterwards; they are only renamed over and unlinked, which a mapping outlives.
    let map = unsafe { Mmap::map(file) }?;
    Ok(Bytes::from_owner(map))
}

/// Tells eviction, here and in other processes, that the chunk is wanted.
fn note_use(file: &File) {
    let now = SystemTime::now();
    let noted = file.metadata().and_then(|metadata| metadata.modified());
    let is_old = noted.map_or(true, |noted| {
        now.duration_since(noted).unwrap_or_default() > USE_NOTED_EVERY
    });
    if is_old {
        // Only the order of eviction depends on it.
        let _ = file.set_modified(now);
    }
}

/// A poisoned lock guards numbers and maps that are valid at every step.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
