//! What a folder had when it was last looked at, and where each chunk is.

use super::{Kept, files, listed};
use dewar_blobs::{Chunk, ChunkList, Digest};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Changes that follow one another faster than this may leave a folder with the same time.
const TIMES_APART: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    blobs: BTreeMap<Digest, (Kept, ChunkList)>,
    /// Chunks by their digests, and the blobs that have them.
    chunks: HashMap<Digest, BTreeMap<Digest, u64>>,
    /// The folder's own time when it was looked at.
    seen: Option<SystemTime>,
}

impl Shelf {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            blobs: BTreeMap::new(),
            chunks: HashMap::new(),
            seen: None,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = Kept> {
        self.blobs.values().map(|(kept, _)| *kept)
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Kept> {
        self.blobs.get(digest).map(|(kept, _)| *kept)
    }

    /// In which blob a chunk is.
    pub(super) fn find_chunk(&self, digest: &Digest) -> Option<(Kept, Chunk)> {
        let (blob, index) = self.chunks.get(digest)?.first_key_value()?;
        let (kept, list) = self.blobs.get(blob)?;
        Some((*kept, list.chunk(*index)?))
    }

    pub(super) fn insert(&mut self, kept: Kept, list: ChunkList) {
        let digest = kept.blob.digest;
        for index in 0..list.chunk_count() {
            let chunk = list.chunk_digest(index);
            if let Some(chunk) = chunk {
                self.chunks.entry(chunk).or_default().insert(digest, index);
            }
        }
        self.blobs.insert(digest, (kept, list));
    }

    pub(super) fn remove(&mut self, kept: Kept) {
        let digest = kept.blob.digest;
        if self.find(&digest) != Some(kept) {
            return;
        }
        let Some((_, list)) = self.blobs.remove(&digest) else {
            return;
        };
        for chunk in (0..list.chunk_count()).filter_map(|index| list.chunk_digest(index)) {
            if let Some(blobs) = self.chunks.get_mut(&chunk) {
                blobs.remove(&digest);
                if blobs.is_empty() {
                    self.chunks.remove(&chunk);
                }
            }
        }
    }

    /// Looks again, if the folder may have changed. Says whether it did look.
    pub(super) fn look_if_changed(&mut self) -> io::Result<bool> {
        let now = fs::metadata(&self.folder)?.modified()?;
        let is_settled = |seen: SystemTime| {
            let age = SystemTime::now().duration_since(seen);
            seen == now && age.is_ok_and(|age| age > TIMES_APART)
        };
        if self.seen.is_some_and(is_settled) {
            return Ok(false);
        }
        self.look()?;
        Ok(true)
    }

    /// Looks at what is there.
    pub(super) fn look(&mut self) -> io::Result<()> {
        // Before looking: what changes meanwhile is looked for again.
        let seen = fs::metadata(&self.folder)?.modified()?;
        let there = listed(&self.folder)?;
        let names: BTreeSet<_> = there
            .iter()
            .map(|kept| (kept.blob.digest, kept.stamp))
            .collect();
        let is_gone = |kept: &Kept| !names.contains(&(kept.blob.digest, kept.stamp));
        for gone in self.kept().filter(is_gone).collect::<Vec<_>>() {
            self.remove(gone);
        }
        for kept in there {
            if self.find(&kept.blob.digest).is_some() {
                continue;
            }
            match files::list_of(&self.folder, kept) {
                Ok(Some(list)) => self.insert(kept, list),
                Ok(None) => {
                    tracing::warn!(blob = %kept.blob.digest, "a kept result is damaged");
                }
                Err(error) => {
                    tracing::warn!(%error, blob = %kept.blob.digest, "a kept result cannot be read");
                }
            }
        }
        self.seen = Some(seen);
        Ok(())
    }
}
