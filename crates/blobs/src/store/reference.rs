//! A file used by reference: what is known of its chunks, and kept across restarts.
//!
//! The file is usable before anyone has read it; the digest of a chunk is computed when it is first asked for, or in the
//! background, whichever comes first. The list is a file beside the reference, written now and then: what a crash loses
//! of it is computed again.

use super::durable;
use crate::{BlobRef, ChunkList, Digest, chunk_count, local_file::reference_name, stamp::Stamp};
use bytes::BytesMut;
use dewar_proto::{limits::CHUNK_BYTES, store::v1::ImportedBlob};
use prost::Message as _;
use std::{
    fs, io,
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a list that grows is written: a file that is read from the disk yields some gigabytes in that time.
const SAVED_EVERY: Duration = Duration::from_secs(10);

/// Stands for a digest nobody has computed yet: no bytes are known that hash to it.
const UNKNOWN: [u8; 32] = [0; 32];

/// A file that is a blob under the name of its path and stamp.
#[derive(Debug)]
pub(super) struct Reference {
    blob: BlobRef,
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    /// Where the list is kept.
    list_path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// 32 bytes a chunk. Empty until someone asks: most references of a broker are idle.
    digests: Vec<u8>,
    /// How many of them are known.
    count: u64,
    /// Known and not yet kept.
    unsaved_count: u64,
    saved_at: Option<Instant>,
    /// Of the whole file.
    whole: Option<Digest>,
}

impl Reference {
    pub(super) fn new(path: PathBuf, stamp: Stamp, list_path: impl Fn(&Digest) -> PathBuf) -> Self {
        let blob = reference_name(&path, &stamp);
        Self {
            list_path: list_path(&blob.digest),
            blob,
            path,
            stamp,
            known: Mutex::default(),
        }
    }

    /// Takes over what an import by an earlier release knows.
    pub(super) fn know_all(&self, list: &ChunkList) {
        let mut known = self.lock();
        known.digests = list.digests().to_vec();
        known.count = list.chunk_count();
        known.unsaved_count = known.count;
        known.whole = Some(list.blob().digest);
    }

    pub(super) fn blob(&self) -> BlobRef {
        self.blob
    }

    /// The digest of the whole file, if it is known.
    pub(super) fn whole(&self) -> Option<Digest> {
        self.lock().whole
    }

    pub(super) fn set_whole(&self, digest: Digest) {
        self.lock().whole = Some(digest);
    }

    /// The digest of a chunk, if it is known.
    pub(super) fn digest(&self, index: u64) -> Option<Digest> {
        self.read().digest(index)
    }

    /// How many bytes of the file have known digests, to a chunk.
    pub(super) fn known_bytes(&self) -> u64 {
        let known_bytes = self.read().count.saturating_mul(CHUNK_BYTES);
        known_bytes.min(self.blob.size_bytes)
    }

    /// Notes a chunk's digest. The first counts; gives back the one that does.
    pub(super) fn note(&self, index: u64, digest: Digest) -> Digest {
        let mut known = self.read();
        if let Some(earlier) = known.digest(index) {
            return earlier;
        }
        if let Some(place) = known.digests.get_mut(bytes_of(index)) {
            place.copy_from_slice(&digest.0);
            known.count += 1;
            known.unsaved_count += 1;
        }
        digest
    }

    /// The whole list, if all of it is known.
    pub(super) fn whole_list(&self) -> Option<ChunkList> {
        let known = self.read();
        let is_complete = known.count == chunk_count(self.blob.size_bytes);
        let digests = || BytesMut::from(&*known.digests);
        is_complete.then(|| ChunkList::of_hashed(self.blob.size_bytes, digests()))
    }

    /// Keeps the list if it grew and was not kept for a while.
    pub(super) fn save_if_due(&self, temporary_folder: &Path) {
        let now = Instant::now();
        let is_due = {
            let mut known = self.lock();
            let saved_at = *known.saved_at.get_or_insert(now);
            known.unsaved_count > 0 && now.duration_since(saved_at) >= SAVED_EVERY
        };
        if is_due {
            self.save(temporary_folder);
        }
    }

    /// Keeps the list, if there is something new in it. One that cannot be kept is computed again after a restart.
    pub(super) fn save(&self, temporary_folder: &Path) {
        let mut bytes = {
            let mut known = self.lock();
            if known.unsaved_count == 0 {
                return;
            }
            known.unsaved_count = 0;
            known.saved_at = Some(Instant::now());
            known.digests.clone()
        };
        let checksum = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&checksum);
        if let Err(error) = durable::write(temporary_folder, &self.list_path, &bytes) {
            tracing::warn!(path = %self.list_path.display(), %error, "cannot keep the digests of an imported file");
        }
    }

    /// The reference as it is stored, without the list.
    pub(super) fn to_stored(&self) -> Vec<u8> {
        let file = self
            .stamp
            .to_stored(self.path.as_os_str().as_bytes().into());
        let stored = ImportedBlob {
            size_bytes: self.blob.size_bytes,
            files: vec![file],
            by_reference: true,
            digest: self.whole().map_or_else(Vec::new, |whole| whole.0.into()),
            ..Default::default()
        };
        stored.encode_to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Counts follow their digests within one call; a list that lags behind is only computed again.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, with the list in memory.
    fn read(&self) -> MutexGuard<'_, Known> {
        let mut known = self.lock();
        if known.digests.is_empty() {
            let length = chunk_count(self.blob.size_bytes) as usize * 32;
            known.digests = match read_list(&self.list_path, length) {
                Ok(digests) => digests,
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        tracing::warn!(path = %self.list_path.display(), %error, "hashing an imported file anew");
                    }
                    vec![0; length]
                }
            };
            let digests = known.digests.chunks_exact(32);
            known.count = digests.filter(|digest| **digest != UNKNOWN).count() as u64;
        }
        known
    }
}

impl Known {
    fn digest(&self, index: u64) -> Option<Digest> {
        let digest = Digest::try_from(self.digests.get(bytes_of(index))?).ok()?;
        (digest.0 != UNKNOWN).then_some(digest)
    }
}

fn bytes_of(index: u64) -> Range<usize> {
    let start = usize::try_from(index)
        .unwrap_or(usize::MAX)
        .saturating_mul(32);
    start..start.saturating_add(32)
}

/// Digests as they were kept, and nothing else: their checksum follows them.
fn read_list(path: &Path, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(path)?;
    let checksum = bytes.split_off(length.min(bytes.len()));
    if bytes.len() == length && checksum == blake3::hash(&bytes).as_bytes() {
        return Ok(bytes);
    }
    Err(io::Error::other("the list of digests is damaged"))
}
