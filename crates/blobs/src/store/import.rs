//! Making a blob of a file that stays where it is.

use super::{BlobStore, Imported, LIST_EXTENSION, durable, reference::Reference};
use crate::{
    BlobRef, ChunkList, Digest, chunk_count, hash_file, local_file::open_without_links,
    stamp::Stamp,
};
use dewar_proto::store::v1::ImportedBlob;
use prost::Message as _;
use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files remembered for the same bytes: copies of a stack are few.
const FILES_MAX: usize = 8;

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is no such file on this machine.
    #[error("{} is not on the broker's machine", path.display())]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// It begins at no root.
    #[error("{} is not an absolute path", path.display())]
    NotAbsolute {
        /// The path as given.
        path: PathBuf,
    },
    /// It is not in an exported folder, links resolved.
    #[error("{} is not in a folder the broker exports (see its --export)", path.display())]
    NotExported {
        /// The path, links resolved.
        path: PathBuf,
    },
    /// It is a folder, a device, or the like.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The path, links resolved.
        path: PathBuf,
    },
    /// It was written to while it was hashed.
    #[error("{} changed while it was read: {difference}", path.display())]
    Changing {
        /// The path, links resolved.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// It cannot be read, or the reference cannot be written.
    #[error("cannot import {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BlobStore {
    /// Makes a blob of a file inside an exported folder; its bytes stay where they are, and are not read yet. It is named
    /// by its path and stamp, and so has the same name for as long as it stays the same. Only a file of one chunk is read
    /// at once, and named by its bytes: that costs nothing, and a blob of one chunk needs no list anywhere.
    ///
    /// # Errors
    /// If the file is not there, not exported, not a file, or cannot be read.
    pub fn import(&self, path: &Path) -> Result<BlobRef, ImportError> {
        let (file, path, stamp) = self.open_exported(path)?;
        let failed = |source| from_io(&path, source);
        if chunk_count(stamp.size_bytes) == 1 {
            return self.import_chunk(&file, path, stamp);
        }
        let list_path = |digest: &Digest| self.shared.list_path(digest);
        let reference = Reference::new(path.clone(), stamp, list_path);
        let blob = reference.blob();
        let earlier = {
            let index = self.shared.index();
            if index.blobs.contains_key(&blob.digest) {
                return Ok(blob);
            }
            let earlier = index.imports.get(&(path.clone(), stamp));
            earlier.and_then(|blob| index.blobs.get(&blob.digest)?.imported.clone())
        };
        if let Some(earlier) = earlier {
            reference.know_all(&earlier.list);
            reference.save(&self.shared.temporary_folder());
        }
        let mut index = self.shared.index();
        durable::write(
            &self.shared.temporary_folder(),
            &self.shared.imported_path(&blob.digest),
            &reference.to_stored(),
        )
        .map_err(failed)?;
        index.insert_reference(reference);
        Ok(blob)
    }

    /// Opens a file, links resolved, if it is a regular one in an exported folder.
    fn open_exported(&self, path: &Path) -> Result<(File, PathBuf, Stamp), ImportError> {
        if !path.is_absolute() {
            let path = path.to_owned();
            return Err(ImportError::NotAbsolute { path });
        }
        let real = fs::canonicalize(path).map_err(|source| from_io(path, source))?;
        // Asked first, so that nobody learns what lies outside.
        if !self
            .shared
            .exports
            .iter()
            .any(|export| real.starts_with(export))
        {
            return Err(ImportError::NotExported { path: real });
        }
        let failed = |source| from_io(&real, source);
        if !fs::metadata(&real).map_err(failed)?.is_file() {
            return Err(ImportError::NotRegular { path: real });
        }
        let file = open_without_links(&real).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ImportError::NotRegular { path: real });
        }
        Ok((file, real, Stamp::of(&metadata)))
    }

    /// Imports a file of one chunk.
    fn import_chunk(
        &self,
        file: &File,
        path: PathBuf,
        stamp: Stamp,
    ) -> Result<BlobRef, ImportError> {
        let failed = |source| from_io(&path, source);
        let key = (path.clone(), stamp);
        if let Some(blob) = self.shared.index().imports.get(&key) {
            return Ok(*blob);
        }
        let list = hash_file(file, |_| ()).map_err(failed)?;
        let after = Stamp::of(&file.metadata().map_err(failed)?);
        if let Some(difference) = stamp.difference(&after) {
            return Err(ImportError::Changing { path, difference });
        }
        let read_bytes = list.blob().size_bytes;
        if read_bytes != stamp.size_bytes {
            let difference = format!("it said {} bytes and gave {read_bytes}", stamp.size_bytes);
            return Err(ImportError::Changing { path, difference });
        }
        self.remember(list, key).map_err(failed)
    }

    /// Writes the reference, beside those to other files with the same bytes.
    pub(super) fn remember(&self, list: ChunkList, key: (PathBuf, Stamp)) -> io::Result<BlobRef> {
        let blob = list.blob();
        let mut index = self.shared.index();
        let known = index.blobs.get(&blob.digest);
        let mut files: Vec<_> = known
            .and_then(|entry| entry.imported.as_ref())
            .map(|imported| imported.files.clone())
            .unwrap_or_default();
        // The same path with another stamp was overwritten with the same bytes.
        files.retain(|(path, _)| *path != key.0);
        files.push(key);
        let excess = files.len().saturating_sub(FILES_MAX);
        files.drain(..excess);
        let stored = ImportedBlob {
            size_bytes: blob.size_bytes,
            chunk_digests: list.digests().to_vec(),
            files: files
                .iter()
                .map(|(path, stamp)| stamp.to_stored(path.as_os_str().as_bytes().to_vec()))
                .collect(),
            ..Default::default()
        };
        durable::write(
            &self.shared.temporary_folder(),
            &self.shared.imported_path(&blob.digest),
            &stored.encode_to_vec(),
        )?;
        index.imports.retain(|_, of| *of != blob);
        index.insert_imported(Imported {
            list: Arc::new(list),
            files,
        });
        Ok(blob)
    }
}

/// What a reference on disk says.
pub(super) enum Stored {
    Imported(Imported),
    Reference(Reference),
}

/// Reads a reference; `None` if it is damaged.
pub(super) fn read_reference(path: &Path, digest: Digest) -> io::Result<Option<Stored>> {
    let Ok(stored) = ImportedBlob::decode(&*fs::read(path)?) else {
        return Ok(None);
    };
    let size_bytes = stored.size_bytes;
    let blob = BlobRef { digest, size_bytes };
    let files = stored.files.iter().map(|file| {
        let path = PathBuf::from(OsStr::from_bytes(&file.path));
        (path, Stamp::from_stored(file, size_bytes))
    });
    let mut files: Vec<_> = files.collect();
    if stored.by_reference {
        let list_path = |_: &Digest| path.with_extension(LIST_EXTENSION);
        let reference = files
            .pop()
            .map(|(path, stamp)| Reference::new(path, stamp, list_path));
        // The name says what the file was, so damage shows.
        let reference = reference.filter(|reference| reference.blob() == blob);
        if let (Some(reference), Ok(whole)) = (&reference, Digest::try_from(&*stored.digest)) {
            reference.set_whole(whole);
        }
        return Ok(reference.map(Stored::Reference));
    }
    let list = ChunkList::new(blob, stored.chunk_digests.into());
    Ok(list.ok().map(|list| {
        Stored::Imported(Imported {
            list: Arc::new(list),
            files,
        })
    }))
}

fn from_io(path: &Path, source: io::Error) -> ImportError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ImportError::NotFound { path },
        _ => ImportError::Io { path, source },
    }
}
