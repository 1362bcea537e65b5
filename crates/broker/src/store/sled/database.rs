//! One sled database with the guards it needs: put in order before it is opened, values bounded and sealed, and synced
//! by us.

use super::{
    super::{
        StoreError,
        records::{self, Frame},
    },
    folder::{failed, refuse_network, sync_all},
    fuse::Fuse,
};
use sled::Batch;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Keys written at once: beyond it sled's memory explodes.
pub(super) const BATCH_KEYS_MAX: usize = 1000;

/// The queue is in the broker's own memory, and the store is read at start, once and in order. More would only add to
/// what a deep queue takes.
const CACHE_BYTES: u64 = 16 << 20;

/// sled collects its garbage when it flushes by itself.
const FLUSH_EVERY_MS: u64 = 500;

/// Many times what sled's threads take to end on a busy machine.
const SLED_LOCK_WAIT: Duration = Duration::from_secs(10);

/// Bytes of a block, as files count theirs.
const BLOCK_BYTES: u64 = 512;

/// Keys and values on disk.
pub(super) struct Database {
    pub(super) db: sled::Db,
    path: PathBuf,
    /// sled's data file. Opened before anything is written, since an error of write-back is reported only to those who
    /// had the file open when it happened.
    data: File,
    fuse: Fuse,
}

/// Puts and removals, cut into batches that sled applies whole.
#[derive(Default)]
pub(super) struct Writes {
    batch: Batch,
    key_count: usize,
}

impl Writes {
    pub(super) fn key_count(&self) -> usize {
        self.key_count
    }
}

impl Database {
    /// Opens the database in a folder, making it if need be. The store's folder is locked already.
    pub(super) fn open(path: &Path, fuse: Fuse) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(failed("make", path))?;
        refuse_network(path)?;
        remove_unfinished_snapshots(path).map_err(failed("tidy up", path))?;
        let data_path = path.join("db");
        let data = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&data_path)
            .map_err(failed("open", &data_path))?;
        Ok(Self {
            db: open_db(path)?,
            path: path.to_owned(),
            data,
            fuse,
        })
    }

    #[cfg(test)]
    pub(super) fn set_fuse(&mut self, fuse: Fuse) {
        self.fuse = fuse;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    pub(super) fn put_whole(
        &self,
        writes: &mut Writes,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let frame = Frame {
            continues: false,
            bytes,
        };
        self.put(writes, key, &frame).map(drop)
    }

    /// Puts a frame, and tells how many bytes that is.
    pub(super) fn put(
        &self,
        writes: &mut Writes,
        key: &[u8],
        frame: &Frame<'_>,
    ) -> Result<u64, StoreError> {
        let value = records::seal(key, frame);
        let bytes = entry_bytes(key, &value);
        self.put_sealed(writes, key, value)?;
        Ok(bytes)
    }

    /// Puts a value that is sealed already.
    pub(super) fn put_sealed(
        &self,
        writes: &mut Writes,
        key: &[u8],
        value: impl Into<sled::IVec>,
    ) -> Result<(), StoreError> {
        let value = value.into();
        assert!(
            value.len() <= records::VALUE_BYTES_MAX,
            "sled would not sync it"
        );
        writes.batch.insert(key, value);
        self.count(writes)
    }

    pub(super) fn remove(&self, writes: &mut Writes, key: &[u8]) -> Result<(), StoreError> {
        writes.batch.remove(key);
        self.count(writes)
    }

    /// Hands sled what was gathered. Not durable before [`Self::sync`].
    pub(super) fn apply(&self, writes: &mut Writes) -> Result<(), StoreError> {
        self.fuse.burn()?;
        let Writes { batch, .. } = std::mem::take(writes);
        self.db.apply_batch(batch).map_err(engine(&self.path))
    }

    /// Makes everything handed to sled so far durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.fuse.burn()?;
        self.db.flush().map_err(engine(&self.path))?;
        self.fuse.burn()?;
        self.data
            .sync_data()
            .map_err(failed("sync", &self.path.join("db")))
    }

    /// Makes durable that sled's files exist, and its settings; itself it never syncs them.
    pub(super) fn sync_names(&self) -> Result<(), StoreError> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        for path in [&self.path.join("conf"), &self.path, parent] {
            sync_all(path)?;
        }
        Ok(())
    }

    /// What its files take of the disk.
    pub(super) fn disk_bytes(&self) -> Result<u64, StoreError> {
        let sum = || {
            let mut blocks = 0;
            for entry in fs::read_dir(&self.path)? {
                // sled renames and removes its snapshots as it goes.
                if let Ok(metadata) = entry?.metadata() {
                    blocks += metadata.blocks();
                }
            }
            Ok(blocks * BLOCK_BYTES)
        };
        sum().map_err(failed("read", &self.path))
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.value(key)? else {
            return Ok(None);
        };
        let bytes = bytes.try_into();
        let bytes = bytes.map_err(|_| self.damaged("a number is no number"))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    pub(super) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = guarded(&self.path, || self.db.get(key))?.map_err(engine(&self.path))?;
        let Some(value) = found else {
            return Ok(None);
        };
        match records::unseal(key, &value) {
            Some(frame) => Ok(Some(frame.bytes.to_vec())),
            None => Err(self.damaged("a checksum is wrong")),
        }
    }

    /// Visits keys and values with a prefix, in order.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], sled::IVec) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut entries = self.db.scan_prefix(prefix);
        while let Some(entry) = guarded(&self.path, || entries.next())? {
            let (key, value) = entry.map_err(engine(&self.path))?;
            visit(&key, value)?;
        }
        Ok(())
    }

    pub(super) fn damaged(&self, reason: &str) -> StoreError {
        damaged(&self.path, reason)
    }

    fn count(&self, writes: &mut Writes) -> Result<(), StoreError> {
        writes.key_count += 1;
        if writes.key_count >= BATCH_KEYS_MAX {
            self.apply(writes)?;
        }
        Ok(())
    }
}

/// Bytes of a key with its value.
pub(super) fn entry_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// sled takes a snapshot it was killed in writing for a whole one, and then does not open.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens sled itself. The folder is locked by us already, so whoever holds sled's own lock is an earlier store of this
/// process, dropped, whose threads are just ending: it is waited for.
fn open_db(path: &Path) -> Result<sled::Db, StoreError> {
    let ends_at = Instant::now() + SLED_LOCK_WAIT;
    loop {
        let opened = guarded(path, || {
            sled::Config::new()
                .path(path)
                .mode(sled::Mode::HighThroughput)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()
        })?;
        match opened {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < ends_at =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(not_opened(path, error)),
        }
    }
}

/// Runs a part of sled that panics on damaged files.
fn guarded<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, StoreError> {
    // What a panic leaves half-done is sled's own, and is not used again: the caller gives the store up.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked");
        damaged(path, reason)
    })
}

fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Why sled does not open. What the disk refuses is no damage: whoever brings an old backup back for want of space loses
/// all that was acknowledged since.
fn not_opened(path: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(source) if !is_of_content(&source) => failed("open", path)(source),
        error => damaged(path, &error.to_string()),
    }
}

/// Whether the bytes are to blame, and not the disk.
fn is_of_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    )
}

fn engine(path: &Path) -> impl FnOnce(sled::Error) -> StoreError {
    let path = path.to_owned();
    move |error| match error {
        sled::Error::Io(source) => failed("use", &path)(source),
        error => StoreError::Engine(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_refuses_is_not_taken_for_damage() {
        let of_kind = |kind: io::ErrorKind| {
            let error = sled::Error::Io(io::Error::from(kind));
            not_opened(Path::new("/store"), error)
        };
        let full = of_kind(io::ErrorKind::StorageFull);
        let StoreError::Io { source, .. } = &full else {
            panic!("{full}");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert!(!full.to_string().contains("backup"), "{full}");
        for damaged in [
            of_kind(io::ErrorKind::UnexpectedEof),
            not_opened(
                Path::new("/store"),
                sled::Error::Corruption { at: None, bt: () },
            ),
        ] {
            assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged}");
        }
    }
}
