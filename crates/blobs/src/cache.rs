//! A worker's folder of chunks: what was fetched once is not fetched again, by any slot or process on the machine.
//!
//! A chunk is a file named by its digest, made under another name and renamed. Nothing is synced: what a crash or a bad disk
//! left behind is found by its digest when a process first opens it, and fetched anew. The folder is never larger than
//! told, however many processes share it: `ledger` counts, `claim` takes room before a chunk is fetched, `evict` makes
//! room of what was unused longest. Chunks that anybody reads stay: `in_use` says how that is known.

mod claim;
mod evict;
mod examine;
mod fetch;
mod in_use;
mod ledger;
mod lists;

pub use evict::Limit;
pub use examine::{Examined, examine_cache};
pub use fetch::FetchError;

use crate::{BlobRef, Chunk, ChunkSet, Digest, buffer::Buffer};
use bytes::Bytes;
use dewar_proto::limits::CHUNK_BYTES;
use in_use::InUse;
use ledger::Ledger;
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::{Semaphore, mpsc};

/// What a cache may take of a disk if nothing else is said.
pub const CACHE_BYTES_DEFAULT: u64 = 50 << 30;

/// A use is noted at most this often: the file's time is all the bookkeeping there is, and it is a write.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// Chunks on their way at once, for all who ask: each is a megabyte of memory, and a site's worth of peers is kept busy.
const CHUNKS_FETCHING_MAX: usize = 32;

/// The chunks on this machine. Cheap to clone; all clones are one cache.
#[derive(Debug, Clone)]
pub struct ChunkCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    size_bytes_max: u64,
    ledger: Ledger,
    /// Chunks that this process reads.
    in_use: Arc<InUse>,
    /// Which chunk a digest is, of those this process listed: with it one can be checked that was asked for by digest.
    places: Mutex<HashMap<Digest, Chunk>>,
    /// One lock for each chunk on its way, so that two slots fetch it once.
    fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Turns for chunks on their way.
    turns: Semaphore,
    /// Who wants to hear of every chunk that is kept.
    listener: OnceLock<mpsc::UnboundedSender<Chunk>>,
}

impl ChunkCache {
    /// Opens a folder, making it if need be, and counts what is there. Other processes may have it open too.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written.
    pub fn open(folder: &Path, size_bytes_max: u64) -> io::Result<Self> {
        for name in ["chunks", "lists", "fetching"] {
            fs::create_dir_all(folder.join(name))?;
        }
        // 256 of them, so that none grows to hundreds of thousands of entries.
        for shelf in 0..=u8::MAX {
            fs::create_dir_all(folder.join("chunks").join(format!("{shelf:02x}")))?;
        }
        let shared = Shared {
            folder: folder.to_owned(),
            size_bytes_max,
            ledger: Ledger::open(&folder.join("ledger"))?,
            in_use: Arc::default(),
            places: Mutex::default(),
            fetching: Mutex::default(),
            turns: Semaphore::new(CHUNKS_FETCHING_MAX),
            listener: OnceLock::new(),
        };
        shared.ledger.change(|books| shared.count(books))?;
        Ok(Self {
            shared: Arc::new(shared),
        })
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

    /// A chunk by its digest alone, for others, who check it: what a crash left of one does not go out. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read just now.
    pub fn open_chunk(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        let place = locked(&self.shared.places).get(digest).copied();
        match place {
            Some(chunk) => self.get(&chunk),
            None => self.shared.open_chunk(digest, |bytes| {
                !bytes.is_empty() && bytes.len() as u64 <= CHUNK_BYTES
            }),
        }
    }

    /// Most bytes it may hold.
    pub fn size_bytes_max(&self) -> u64 {
        self.shared.size_bytes_max
    }

    /// How many bytes the folder holds, and will hold when what is on its way has come.
    pub fn size_bytes(&self) -> u64 {
        self.shared.ledger.peek().held_bytes
    }

    /// How often any process removed chunks from the folder. When it changes, some holdings are gone.
    pub fn eviction_count(&self) -> u64 {
        self.shared.ledger.peek().eviction_count
    }

    /// A chunk, if it is here and sound; a broken one is removed. It stays for as long as anybody has the bytes. Blocks.
    ///
    /// Its digest is checked when this process first opens it, and not again while it is open, nor right after we wrote it.
    ///
    /// # Errors
    /// If the folder cannot be read just now, for want of open files say. Whether the chunk is here is not known then.
    pub fn get(&self, chunk: &Chunk) -> io::Result<Option<Bytes>> {
        let is_right = |bytes: &[u8]| chunk.verify(bytes).is_ok();
        self.shared.open_chunk(&chunk.digest, is_right)
    }
}

impl Shared {
    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
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

    /// Opens a chunk that is here, and right.
    fn open_chunk(
        &self,
        digest: &Digest,
        is_right: impl FnOnce(&[u8]) -> bool,
    ) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = self.in_use.get(digest) {
            return Ok(Some(bytes));
        }
        let file = match File::open(self.path(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // From here on it is not evicted, unless it was already.
        in_use::lock_shared(&file)?;
        let metadata = file.metadata()?;
        if metadata.nlink() == 0 {
            return Ok(None);
        }
        if !is_sound(&file, metadata.len(), is_right) {
            self.remove_broken(digest, metadata.ino())?;
            return Ok(None);
        }
        note_use(&file);
        self.in_use.map(*digest, &file).map(Some)
    }

    fn remove_broken(&self, digest: &Digest, inode: u64) -> io::Result<()> {
        let path = self.path(digest);
        tracing::warn!(path = %path.display(), "a cached chunk is broken; fetching it again");
        self.ledger.change(|books| {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.ino() == inode => {
                    fs::remove_file(&path)?;
                    books.held_bytes = books.held_bytes.saturating_sub(metadata.len());
                    books.eviction_count += 1;
                    Ok(())
                }
                // Whoever else found it was faster.
                _ => Ok(()),
            }
        })
    }

    /// A chunk is here: the folder's lists know, and whoever listens.
    fn tell_kept(&self, chunk: &Chunk) {
        self.list(chunk);
        if let Some(listener) = self.listener.get() {
            // Whoever listened may have gone.
            let _ = listener.send(*chunk);
        }
    }
}

/// Reads all of a file, and not through a mapping: a bad block is an error then, and not the end of the process.
fn is_sound(file: &File, size_bytes: u64, is_right: impl FnOnce(&[u8]) -> bool) -> bool {
    if size_bytes > CHUNK_BYTES {
        return false;
    }
    let mut bytes = Buffer::new(size_bytes as usize);
    file.read_exact_at(&mut bytes, 0).is_ok() && is_right(&bytes)
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
