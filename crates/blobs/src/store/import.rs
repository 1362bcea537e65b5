//! Making a blob of a file that stays where it is.

use super::{BlobStore, Imported, Stamp, durable};
use crate::{BlobRef, ChunkList, Digest, hash_file};
use dewar_proto::store::v1::ImportedBlob;
use prost::Message as _;
use rustix::fs::{Mode, OFlags, ResolveFlags};
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
    /// Makes a blob of a file inside an exported folder; its bytes stay where they are. The file is read once, and not
    /// at all if it was imported before and is unchanged. `progress` hears how many bytes were hashed.
    ///
    /// # Errors
    /// If the file is not there, not exported, not a file, or cannot be read.
    pub fn import(&self, path: &Path, progress: impl FnMut(u64)) -> Result<BlobRef, ImportError> {
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
        let stamp = Stamp::of(&metadata);
        let key = (real.clone(), stamp);
        if let Some(blob) = self.shared.index().imports.get(&key) {
            return Ok(*blob);
        }
        let list = hash_file(&file, progress).map_err(failed)?;
        let after = Stamp::of(&file.metadata().map_err(failed)?);
        if let Some(difference) = stamp.difference(&after) {
            let path = real;
            return Err(ImportError::Changing { path, difference });
        }
        if list.blob().size_bytes != stamp.size_bytes {
            return Err(ImportError::Changing {
                path: real,
                difference: format!(
                    "it said {} bytes and gave {}",
                    stamp.size_bytes,
                    list.blob().size_bytes
                ),
            });
        }
        self.remember(list, key).map_err(failed)
    }

    /// Writes the reference, beside those to other files with the same bytes.
    fn remember(&self, list: ChunkList, key: (PathBuf, Stamp)) -> io::Result<BlobRef> {
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

/// Reads a reference; `None` if it is damaged.
pub(super) fn read_reference(path: &Path, digest: Digest) -> io::Result<Option<Imported>> {
    let Ok(stored) = ImportedBlob::decode(&*fs::read(path)?) else {
        return Ok(None);
    };
    let size_bytes = stored.size_bytes;
    let blob = BlobRef { digest, size_bytes };
    let files = stored.files.iter().map(|file| {
        let path = PathBuf::from(OsStr::from_bytes(&file.path));
        (path, Stamp::from_stored(file, size_bytes))
    });
    let list = ChunkList::new(blob, stored.chunk_digests.into());
    Ok(list.ok().map(|list| Imported {
        list: Arc::new(list),
        files: files.collect(),
    }))
}

/// Opens a path that was resolved, and nothing a link has put in its place since.
pub(super) fn open_without_links(path: &Path) -> io::Result<File> {
    // A pipe that took the file's place must not make us wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat2(
        rustix::fs::CWD,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    );
    match opened {
        // Kernels before 5.6 and some sandboxes; the last component is still guarded.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
        }
        opened => Ok(opened?.into()),
    }
}

fn from_io(path: &Path, source: io::Error) -> ImportError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ImportError::NotFound { path },
        _ => ImportError::Io { path, source },
    }
}
