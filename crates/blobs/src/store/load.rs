//! Reading blobs, ours and imported ones, a checked chunk at a time.

use super::{BlobStore, Entry, Stamp, import::open_without_links};
use crate::{BlobRef, ChunkList, CorruptChunk, Digest, hash_file};
use bytes::Bytes;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A blob opened for reading. Deleting it meanwhile does not hurt.
#[derive(Debug, Clone)]
pub struct LoadedBlob {
    list: Arc<ChunkList>,
    file: Arc<File>,
    path: PathBuf,
    /// What an imported file must still look like.
    stamp: Option<Stamp>,
}

/// Why a blob cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not here.
    #[error("the broker has no blob {0}")]
    Unknown(Digest),
    /// The file it was imported from is another one now.
    #[error("{} changed after it was imported: {difference}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The disk gave other bytes than were written.
    #[error("{} is damaged", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: CorruptChunk,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BlobStore {
    /// Opens a blob. An imported one is first checked against what was known of its file at import.
    ///
    /// # Errors
    /// If it is not here, or its file changed.
    pub fn load(&self, digest: &Digest) -> Result<LoadedBlob, LoadError> {
        let entry = self.shared.index().blobs.get(digest).cloned();
        let Some(entry) = entry else {
            return Err(LoadError::Unknown(*digest));
        };
        if entry.is_own {
            return self.load_own(digest, &entry);
        }
        let imported = entry.imported.ok_or(LoadError::Unknown(*digest))?;
        let mut refused = LoadError::Unknown(*digest);
        // The latest import first: earlier files are more likely to be gone.
        for (path, stamp) in imported.files.iter().rev() {
            match open_unchanged(path, stamp) {
                Ok(file) => {
                    return Ok(LoadedBlob {
                        list: Arc::clone(&imported.list),
                        file: Arc::new(file),
                        path: path.clone(),
                        stamp: Some(*stamp),
                    });
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn load_own(&self, digest: &Digest, entry: &Entry) -> Result<LoadedBlob, LoadError> {
        let path = self.shared.path(digest);
        let failed = |source| LoadError::Io {
            path: path.clone(),
            source,
        };
        let file = File::open(&path).map_err(failed)?;
        let blob = BlobRef {
            digest: *digest,
            size_bytes: entry.size_bytes,
        };
        let list = match ChunkList::of_one_chunk(blob) {
            Some(list) => list,
            None => match self.read_list(blob) {
                Some(list) => list,
                // Lost or damaged; the blob itself says what it was.
                None => hash_file(&file, |_| ()).map_err(failed)?,
            },
        };
        if list.blob() != blob {
            return Err(LoadError::Corrupt {
                path,
                source: CorruptChunk {
                    blob: *digest,
                    chunk_index: 0,
                },
            });
        }
        Ok(LoadedBlob {
            list: Arc::new(list),
            file: Arc::new(file),
            path,
            stamp: None,
        })
    }

    fn read_list(&self, blob: BlobRef) -> Option<ChunkList> {
        let digests = fs::read(self.shared.list_path(&blob.digest)).ok()?;
        ChunkList::new(blob, digests.into()).ok()
    }
}

impl LoadedBlob {
    /// The digests of its chunks.
    pub fn list(&self) -> &Arc<ChunkList> {
        &self.list
    }

    /// The blob's size.
    pub fn size_bytes(&self) -> u64 {
        self.list.blob().size_bytes
    }

    /// One chunk, checked. Blocks.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it was.
    pub fn read_chunk(&self, chunk_index: u64) -> Result<Bytes, LoadError> {
        let blob = self.list.blob().digest;
        let corrupt = |source| LoadError::Corrupt {
            path: self.path.clone(),
            source,
        };
        let chunk = self
            .list
            .chunk(chunk_index)
            .ok_or_else(|| corrupt(CorruptChunk { blob, chunk_index }))?;
        let range = chunk.range();
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let read = self
            .file
            .read_exact_at(&mut bytes, range.start)
            .map_err(|source| LoadError::Io {
                path: self.path.clone(),
                source,
            })
            .and_then(|()| chunk.verify(&bytes).map_err(corrupt));
        match read {
            Ok(()) => Ok(bytes.into()),
            // That the file was changed explains more than that its bytes are wrong.
            Err(error) => Err(self.changed().unwrap_or(error)),
        }
    }

    fn changed(&self) -> Option<LoadError> {
        let stamp = self.stamp?;
        let now = Stamp::of(&self.file.metadata().ok()?);
        let difference = stamp.difference(&now)?;
        let path = self.path.clone();
        Some(LoadError::Changed { path, difference })
    }
}

fn open_unchanged(path: &Path, stamp: &Stamp) -> Result<File, LoadError> {
    let opened = open_without_links(path)
        .and_then(|file| Ok((Stamp::of(&file.metadata()?), file)))
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Changed {
                path: path.to_owned(),
                difference: "it is gone".into(),
            },
            _ => LoadError::Io {
                path: path.to_owned(),
                source,
            },
        });
    let (now, file) = opened?;
    match stamp.difference(&now) {
        None => Ok(file),
        Some(difference) => Err(LoadError::Changed {
            path: path.to_owned(),
            difference,
        }),
    }
}
