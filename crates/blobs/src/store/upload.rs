//! Uploads in chunks: taken up again after any break, checked chunk by chunk, and a blob only when they are whole.
//!
//! An upload is a file of full size with holes, named by the blob. What is in it is not recorded anywhere: after a restart
//! every chunk that may be there is hashed again, so that bytes a power cut lost are never believed. Two customers with the
//! same blob fill the same file.

#![allow(clippy::single_range_in_vec_init, reason = "one run is one run")]

use super::{BlobStore, SaveError, Shared, durable, known_chunks::KnownChunks};
use crate::{BlobRef, ChunkList, ChunkSet, CorruptChunk, Digest, chunk_count, hasher::hash_chunk};
use dewar_proto::limits::CHUNK_BYTES;
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// An upload nobody added to for so long is given up.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Uploads in memory at once, each with a list of 32 bytes a chunk. Idle ones make room and are hashed again later.
const UPLOADS_MAX: usize = 256;

/// Uploads that are known, by blob.
pub(super) type Uploads = HashMap<Digest, Arc<Mutex<Option<Upload>>>>;

/// A blob of which chunks are still missing.
#[derive(Debug)]
pub(super) struct Upload {
    list: ChunkList,
    file: Arc<File>,
    /// Chunks that were seen to be right since the broker started.
    present: ChunkSet,
}

/// Why a chunk was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// Nobody offered the blob since the broker started.
    #[error("blob {0} was not offered; offer it again")]
    NotOffered(Digest),
    /// It is not what it should be.
    #[error(transparent)]
    Corrupt(#[from] CorruptChunk),
    /// There is no room for it, or for one more upload.
    #[error(transparent)]
    Save(#[from] SaveError),
}

impl BlobStore {
    /// Begins an upload, or takes it up again. Gives the runs of chunks that still have to come; none if the blob is
    /// whole and here. Blocks for as long as it takes to read what is there already.
    ///
    /// # Errors
    /// If there is no room, or the disk fails.
    pub fn offer(&self, list: &ChunkList) -> Result<Vec<Range<u64>>, SaveError> {
        let blob = list.blob();
        let failed = |source| self.shared.save_error(&blob, source);
        let slot = self.upload_slot(blob)?;
        let mut upload = lock(&slot);
        if self.is_own(&blob.digest) {
            return Ok(Vec::new());
        }
        if upload.is_none() {
            let mut opened = self.open_upload(list).map_err(failed)?;
            self.copy_known_chunks(&mut opened);
            *upload = Some(opened);
        }
        let missing = upload.as_ref().map(Upload::missing).unwrap_or_default();
        let missing_count: u64 = missing.iter().map(|run| run.end - run.start).sum();
        self.check_room(&blob, missing_count.saturating_mul(CHUNK_BYTES))?;
        if missing.is_empty() {
            self.complete(&mut upload).map_err(failed)?;
        }
        Ok(missing)
    }

    /// Takes a chunk of an offered blob; the last one makes it whole, and durable. A chunk that is there is no error.
    ///
    /// # Errors
    /// If the blob was not offered, the chunk is not right, or the disk does not take it.
    pub fn write_chunk(&self, blob: &BlobRef, index: u64, bytes: &[u8]) -> Result<(), ChunkError> {
        match self.write_offered(blob, index, bytes) {
            // Another customer's chunk has made it whole.
            Err(ChunkError::NotOffered(_)) if self.is_own(&blob.digest) => Ok(()),
            written => written,
        }
    }

    fn write_offered(&self, blob: &BlobRef, index: u64, bytes: &[u8]) -> Result<(), ChunkError> {
        let failed = |source| self.shared.save_error(blob, source);
        let slot = self.shared.uploads().get(&blob.digest).cloned();
        let slot = slot.ok_or(ChunkError::NotOffered(blob.digest))?;
        let (chunk, file) = {
            let upload = lock(&slot);
            let upload = upload.as_ref().ok_or(ChunkError::NotOffered(blob.digest))?;
            if upload.present.contains(index) {
                return Ok(());
            }
            let chunk = upload.list.chunk(index).ok_or(CorruptChunk {
                blob: blob.digest,
                chunk_index: index,
            })?;
            (chunk, Arc::clone(&upload.file))
        };
        // Outside the lock: others with the same blob need not wait. Who writes the same chunk writes the same bytes.
        chunk.verify(bytes)?;
        file.write_all_at(bytes, chunk.range().start)
            .map_err(failed)?;
        let mut upload = lock(&slot);
        if let Some(present) = upload.as_mut().map(|upload| &mut upload.present) {
            present.insert(index);
        }
        let is_whole = upload.as_ref().is_some_and(Upload::is_whole);
        if is_whole {
            self.complete(&mut upload).map_err(failed)?;
        }
        Ok(())
    }

    /// What is missing of a blob: all of it if nobody offered it.
    pub fn missing(&self, blob: &BlobRef) -> Vec<Range<u64>> {
        let slot = self.shared.uploads().get(&blob.digest).cloned();
        let missing = slot.and_then(|slot| lock(&slot).as_ref().map(Upload::missing));
        // Asked last: an upload is known until it is a blob.
        if self.is_own(&blob.digest) {
            return Vec::new();
        }
        missing.unwrap_or_else(|| Vec::from([0..chunk_count(blob.size_bytes)]))
    }

    fn is_own(&self, digest: &Digest) -> bool {
        let index = self.shared.index();
        index.blobs.get(digest).is_some_and(|entry| entry.is_own)
    }

    /// The place of an upload among those known.
    fn upload_slot(&self, blob: BlobRef) -> Result<Arc<Mutex<Option<Upload>>>, SaveError> {
        let mut uploads = self.shared.uploads();
        if uploads.len() >= UPLOADS_MAX && !uploads.contains_key(&blob.digest) {
            uploads.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        if uploads.len() >= UPLOADS_MAX && !uploads.contains_key(&blob.digest) {
            return Err(SaveError::Busy { blob: blob.digest });
        }
        Ok(Arc::clone(uploads.entry(blob.digest).or_default()))
    }

    /// Opens the upload's file and looks what is in it.
    fn open_upload(&self, list: &ChunkList) -> io::Result<Upload> {
        self.shared.remove_abandoned_uploads()?;
        let blob = list.blob();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.shared.upload_path(&blob.digest))?;
        file.set_len(blob.size_bytes)?;
        let mut present = ChunkSet::default();
        for index in chunks_with_data(&file, blob.size_bytes)? {
            let digest = hash_chunk(&file, blob.size_bytes, index)?;
            if list.chunk_digest(index) == Some(digest) {
                present.insert(index);
            }
        }
        Ok(Upload {
            list: list.clone(),
            file: Arc::new(file),
            present,
        })
    }

    /// Copies what other blobs of ours have. Each chunk is checked like one that was sent; one that cannot be had is sent.
    fn copy_known_chunks(&self, upload: &mut Upload) {
        let copies: Vec<_> = {
            let mut known = self.shared.known_chunks();
            known.learn(&self.own_with_lists(), |blob| self.read_list(blob));
            let missing = upload.missing().into_iter().flatten();
            missing
                .filter_map(|index| {
                    let chunk = upload.list.chunk(index)?;
                    Some((chunk, known.holder(&chunk.digest)?))
                })
                .collect()
        };
        let mut holders = HashMap::new();
        for (chunk, holder) in copies {
            let index = chunk.index;
            let loaded = holders
                .entry(holder)
                .or_insert_with(|| self.load(&holder).ok());
            let bytes = loaded
                .as_ref()
                .and_then(|loaded| loaded.read_chunk(index).ok());
            let Some(bytes) = bytes.filter(|bytes| chunk.verify(bytes).is_ok()) else {
                continue;
            };
            if upload
                .file
                .write_all_at(&bytes, chunk.range().start)
                .is_ok()
            {
                upload.present.insert(index);
            }
        }
    }

    /// Own blobs with a list.
    fn own_with_lists(&self) -> Vec<BlobRef> {
        let index = self.shared.index();
        let own = index.blobs.iter().filter_map(|(digest, entry)| {
            let has_list = entry.is_own && chunk_count(entry.size_bytes) > 1;
            has_list.then_some(BlobRef {
                digest: *digest,
                size_bytes: entry.size_bytes,
            })
        });
        own.collect()
    }

    /// Gives a whole upload its name.
    fn complete(&self, slot: &mut Option<Upload>) -> io::Result<()> {
        let Some(upload) = slot.as_ref() else {
            return Ok(());
        };
        let shared = &self.shared;
        let blob = upload.list.blob();
        upload.file.sync_all()?;
        let mut index = shared.index();
        let list_path = shared.list_path(&blob.digest);
        if upload.list.chunk_count() > 1 {
            durable::write(
                &shared.temporary_folder(),
                &list_path,
                upload.list.digests(),
            )?;
        }
        durable::rename(
            &shared.upload_path(&blob.digest),
            &shared.path(&blob.digest),
        )?;
        index.insert_own(blob);
        drop(index);
        *slot = None;
        shared.uploads().remove(&blob.digest);
        Ok(())
    }
}

impl Upload {
    fn is_whole(&self) -> bool {
        self.present.len() == self.list.chunk_count()
    }

    fn missing(&self) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut from = 0;
        for index in self.present.iter().chain([self.list.chunk_count()]) {
            if index > from {
                missing.push(from..index);
            }
            from = index + 1;
        }
        missing
    }
}

impl Shared {
    fn upload_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("uploads").join(digest.to_string())
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        // Each change is one call of the map.
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_chunks(&self) -> MutexGuard<'_, KnownChunks> {
        // What it says is checked.
        let known = self.known_chunks.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes uploads nobody went on with.
    pub(super) fn remove_abandoned_uploads(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.join("uploads"))? {
            let entry = entry?;
            let added_to = entry.metadata().and_then(|metadata| metadata.modified());
            // One that was just made whole is gone, and that is well.
            let Ok(added_to) = added_to else {
                continue;
            };
            let age = SystemTime::now()
                .duration_since(added_to)
                .unwrap_or_default();
            if age > ABANDONED_AFTER {
                let digest = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok());
                digest.and_then(|digest: Digest| self.uploads().remove(&digest));
                durable::remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Chunks in which the file system keeps anything: the others are holes.
fn chunks_with_data(file: &File, size_bytes: u64) -> io::Result<Vec<u64>> {
    use rustix::fs::{SeekFrom, seek};
    let mut chunks = Vec::new();
    let mut at = 0;
    while at < size_bytes {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(file, SeekFrom::Hole(data))?;
        let first = (data / CHUNK_BYTES).max(chunks.last().map_or(0, |last| last + 1));
        chunks.extend(first..hole.min(size_bytes).div_ceil(CHUNK_BYTES));
        at = hole;
    }
    Ok(chunks)
}

fn lock(slot: &Mutex<Option<Upload>>) -> MutexGuard<'_, Option<Upload>> {
    // A chunk is noted after it is written, so that what a panic leaves is right.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
