//! Reading blobs, ours and imported ones, a checked chunk at a time.

use super::{BlobStore, Entry, Shared, reference::Reference};
use crate::{
    BlobRef, ChunkList, CorruptChunk, Digest, LocalFile, buffer::Buffer, chunk_count, chunk_digest,
    chunk_range, hash_file, hasher::hash_chunk, local_file::open_without_links, stamp::Stamp,
};
use bytes::{Bytes, BytesMut};
use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A blob opened for reading. Deleting it meanwhile does not hurt.
#[derive(Debug, Clone)]
pub struct LoadedBlob {
    shared: Arc<Shared>,
    names: Names,
    file: Arc<File>,
    path: PathBuf,
    /// What an imported file must still look like.
    stamp: Option<Stamp>,
}

/// Where a blob's chunk digests come from.
#[derive(Debug, Clone)]
enum Names {
    /// They fold up to its name.
    Proven(Arc<ChunkList>),
    /// They are what its file gave when it was first read.
    Learned(Arc<Reference>),
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
        if let Some(reference) = entry.reference {
            return self.load_reference(reference);
        }
        let imported = entry.imported.ok_or(LoadError::Unknown(*digest))?;
        let mut refused = LoadError::Unknown(*digest);
        // The latest import first: earlier files are more likely to be gone.
        for (path, stamp) in imported.files.iter().rev() {
            match open_unchanged(path, stamp) {
                Ok(file) => {
                    return Ok(LoadedBlob {
                        shared: Arc::clone(&self.shared),
                        names: Names::Proven(Arc::clone(&imported.list)),
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

    fn load_reference(&self, reference: Arc<Reference>) -> Result<LoadedBlob, LoadError> {
        let file = open_unchanged(&reference.path, &reference.stamp)?;
        Ok(LoadedBlob {
            shared: Arc::clone(&self.shared),
            file: Arc::new(file),
            path: reference.path.clone(),
            stamp: Some(reference.stamp),
            names: Names::Learned(reference),
        })
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
            shared: Arc::clone(&self.shared),
            names: Names::Proven(Arc::new(list)),
            file: Arc::new(file),
            path,
            stamp: None,
        })
    }

    pub(super) fn read_list(&self, blob: BlobRef) -> Option<ChunkList> {
        let digests = fs::read(self.shared.list_path(&blob.digest)).ok()?;
        ChunkList::new(blob, digests.into()).ok()
    }
}

impl LoadedBlob {
    /// The blob.
    pub fn blob(&self) -> BlobRef {
        match &self.names {
            Names::Proven(list) => list.blob(),
            Names::Learned(reference) => reference.blob(),
        }
    }

    /// The blob's size.
    pub fn size_bytes(&self) -> u64 {
        self.blob().size_bytes
    }

    /// Whether it is a file used by reference, whose name proves nothing of its bytes.
    pub fn is_by_reference(&self) -> bool {
        self.reference().is_some()
    }

    pub(super) fn reference(&self) -> Option<&Reference> {
        match &self.names {
            Names::Proven(_) => None,
            Names::Learned(reference) => Some(reference),
        }
    }

    /// The file the bytes are in, for readers on this machine.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn local_file(&self) -> Result<LocalFile, LoadError> {
        let stamp = match self.stamp {
            Some(stamp) => stamp,
            None => self.stamp_now()?,
        };
        Ok(LocalFile::new(self.path.clone(), stamp))
    }

    /// The digests of a run of chunks, 32 bytes each; those not known yet are computed. Blocks.
    ///
    /// # Errors
    /// If the file cannot be read, or changed.
    pub fn digests(&self, run: Range<u64>) -> Result<Bytes, LoadError> {
        let mut digests = BytesMut::new();
        for index in run {
            digests.extend_from_slice(&self.digest(index)?.0);
        }
        self.save_if_due();
        Ok(digests.freeze())
    }

    /// The digest of one chunk, computed if it is not known yet.
    pub(super) fn digest(&self, index: u64) -> Result<Digest, LoadError> {
        let reference = match &self.names {
            Names::Proven(list) => {
                return list.chunk_digest(index).ok_or_else(|| self.corrupt(index));
            }
            Names::Learned(reference) => reference,
        };
        if let Some(digest) = reference.digest(index) {
            return Ok(digest);
        }
        if index >= chunk_count(self.size_bytes()) {
            return Err(self.corrupt(index));
        }
        let hashed = hash_chunk(&self.file, self.size_bytes(), index);
        let digest = hashed.map_err(|source| self.explained(self.io(source)))?;
        self.check_unchanged()?;
        Ok(reference.note(index, digest))
    }

    /// One chunk, checked. Blocks.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it was.
    pub fn read_chunk(&self, chunk_index: u64) -> Result<Bytes, LoadError> {
        let size_bytes = self.size_bytes();
        if chunk_index >= chunk_count(size_bytes) {
            return Err(self.corrupt(chunk_index));
        }
        let range = chunk_range(size_bytes, chunk_index);
        let mut bytes = Buffer::new((range.end - range.start) as usize);
        self.file
            .read_exact_at(&mut bytes, range.start)
            .map_err(|source| self.explained(self.io(source)))?;
        let read = chunk_digest(size_bytes, chunk_index, &bytes);
        let expected = match &self.names {
            Names::Proven(list) => list.chunk_digest(chunk_index),
            Names::Learned(reference) => {
                // A write before or during the read shows in the stamp after it.
                self.check_unchanged()?;
                Some(reference.note(chunk_index, read))
            }
        };
        self.save_if_due();
        if expected == Some(read) {
            Ok(bytes.freeze())
        } else {
            Err(self.explained(self.corrupt(chunk_index)))
        }
    }

    fn save_if_due(&self) {
        if let Some(reference) = self.reference() {
            reference.save_if_due(&self.shared.temporary_folder());
        }
    }

    fn corrupt(&self, chunk_index: u64) -> LoadError {
        let blob = self.blob().digest;
        LoadError::Corrupt {
            path: self.path.clone(),
            source: CorruptChunk { blob, chunk_index },
        }
    }

    fn io(&self, source: io::Error) -> LoadError {
        let path = self.path.clone();
        LoadError::Io { path, source }
    }

    /// That the file was changed explains more than that its bytes are wrong.
    fn explained(&self, error: LoadError) -> LoadError {
        self.check_unchanged().err().unwrap_or(error)
    }

    fn check_unchanged(&self) -> Result<(), LoadError> {
        let Some(stamp) = self.stamp else {
            return Ok(());
        };
        match stamp.difference(&self.stamp_now()?) {
            None => Ok(()),
            Some(difference) => Err(LoadError::Changed {
                path: self.path.clone(),
                difference,
            }),
        }
    }

    fn stamp_now(&self) -> Result<Stamp, LoadError> {
        let metadata = self.file.metadata().map_err(|source| self.io(source))?;
        Ok(Stamp::of(&metadata))
    }
}

fn open_unchanged(path: &Path, stamp: &Stamp) -> Result<File, LoadError> {
    let opened = open_without_links(path)
        .and_then(|file| Ok((Stamp::of(&file.metadata()?), file)))
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LoadError::Changed {
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
