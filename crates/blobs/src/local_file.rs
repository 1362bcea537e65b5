//! A file on this machine, and how to tell that it is still the same.
//!
//! Path and stamp name the blob of a file used by reference: whoever sees the same file computes the same name, without
//! reading a byte. A reader on the holder's machine is told of them and reads in place; what it reads is checked.

use crate::{BlobRef, Chunk, Digest, buffer::Buffer, stamp::Stamp};
use bytes::Bytes;
use dewar_proto::v1;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Sets names of files apart from digests of bytes. Never changed: the names are kept by brokers and customers.
const NAME_CONTEXT: &str = "dewar 2026-11-25 file by reference";

/// A path, and what its file looked like. Clones share the open file.
#[derive(Debug, Clone)]
pub struct LocalFile {
    path: PathBuf,
    stamp: Stamp,
    /// Kept open between reads.
    opened: Arc<Mutex<Option<Arc<File>>>>,
}

impl LocalFile {
    /// Looks at a file, links resolved.
    ///
    /// # Errors
    /// If it is not there, or cannot be looked at.
    pub fn look(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let stamp = Stamp::of(&fs::metadata(&path)?);
        Ok(Self::new(path, stamp))
    }

    pub(crate) fn new(path: PathBuf, stamp: Stamp) -> Self {
        Self {
            path,
            stamp,
            opened: Arc::default(),
        }
    }

    /// Reads a file's description from the wire. Nothing of it is believed: bytes are checked when they are read.
    pub fn from_wire(file: &v1::LocalFile) -> Self {
        let path = PathBuf::from(OsStr::from_bytes(&file.path));
        Self::new(path, Stamp::from_wire(file))
    }

    /// The description for the wire.
    pub fn to_wire(&self) -> v1::LocalFile {
        self.stamp.to_wire(self.path.as_os_str().as_bytes().into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How large it is.
    pub fn size_bytes(&self) -> u64 {
        self.stamp.size_bytes
    }

    /// The name of its bytes as a blob used by reference.
    pub fn reference(&self) -> BlobRef {
        reference_name(&self.path, &self.stamp)
    }

    /// A chunk's bytes, checked; `None` if the file cannot be read here, or is not what it was. Blocks.
    ///
    /// They are copied: a mapping would end the process when someone shortens the file.
    pub fn read_chunk(&self, chunk: &Chunk) -> Option<Bytes> {
        let file = self.opened()?;
        let mut bytes = Buffer::new(chunk.size_bytes() as usize);
        file.read_exact_at(&mut bytes, chunk.range().start).ok()?;
        chunk.verify(&bytes).ok()?;
        Some(bytes.freeze())
    }

    fn opened(&self) -> Option<Arc<File>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match opened.take() {
            Some(file) => file,
            None => Arc::new(open_without_links(&self.path).ok()?),
        };
        let now = Stamp::of(&file.metadata().ok()?);
        if self.stamp.difference(&now).is_some() {
            return None;
        }
        *opened = Some(Arc::clone(&file));
        Some(file)
    }
}

/// The name of a file used by reference.
pub(crate) fn reference_name(path: &Path, stamp: &Stamp) -> BlobRef {
    let path = path.as_os_str().as_bytes();
    let mut hasher = blake3::Hasher::new_derive_key(NAME_CONTEXT);
    hasher
        .update(&(path.len() as u64).to_le_bytes())
        .update(path)
        .update(&stamp.to_bytes());
    BlobRef {
        digest: Digest::from(hasher.finalize()),
        size_bytes: stamp.size_bytes,
    }
}

/// Opens a path that was resolved, and nothing a link has put in its place since.
pub(crate) fn open_without_links(path: &Path) -> io::Result<File> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_bytes;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_name_says_which_file_and_in_what_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, [1; 100]).unwrap();
        let name = || LocalFile::look(&path).unwrap().reference();
        let first = name();
        assert_eq!(first.size_bytes, 100);
        assert_eq!(name(), first);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(LocalFile::look(&link).unwrap().reference(), first);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_nanos(1 << 32))
            .unwrap();
        assert_ne!(name(), first, "another time");
        let other = folder.path().join("b");
        fs::rename(&path, &other).unwrap();
        let moved = LocalFile::look(&other).unwrap().reference();
        assert_ne!(moved, first, "another path");
    }

    #[test]
    fn chunks_are_read_in_place_while_the_file_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stack");
        let bytes = vec![7; (1 << 20) + 5];
        fs::write(&path, &bytes).unwrap();
        let list = hash_bytes(&bytes);
        let told = LocalFile::look(&path).unwrap().to_wire();
        let local = LocalFile::from_wire(&told);
        let chunk = list.chunk(1).unwrap();
        assert_eq!(local.read_chunk(&chunk).unwrap(), [7; 5][..]);
        let other = Chunk {
            digest: Digest([0; 32]),
            ..chunk
        };
        assert_eq!(local.read_chunk(&other), None, "not these bytes");
        let outside = Chunk { index: 7, ..chunk };
        assert_eq!(local.read_chunk(&outside), None, "not in the file");
        // The file that is open already becomes shorter.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(local.read_chunk(&chunk), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(local.read_chunk(&chunk), None);
    }
}
