//! What the file system says of a file: enough to notice that it is no longer the one that was looked at.

use dewar_proto::{store, v1};
use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

/// Size, time and identity of a file. Device numbers of network and removable disks change when they are mounted again,
/// and differ between machines, so they say nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) size_bytes: u64,
    modified_unix_s: i64,
    modified_ns: u32,
    inode: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size_bytes: metadata.size(),
            modified_unix_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec() as u32,
            inode: metadata.ino(),
        }
    }

    /// What differs now, in words; `None` if it is still the file.
    pub(crate) fn difference(&self, now: &Self) -> Option<String> {
        if self.size_bytes != now.size_bytes {
            return Some(format!(
                "it had {} bytes and has {}",
                self.size_bytes, now.size_bytes
            ));
        }
        if self.inode != now.inode {
            return Some("it was replaced by another file".into());
        }
        if (self.modified_unix_s, self.modified_ns) != (now.modified_unix_s, now.modified_ns) {
            return Some("it was written to".into());
        }
        None
    }

    /// As bytes of one length, for names.
    pub(crate) fn to_bytes(self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&self.size_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.modified_unix_s.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.modified_ns.to_le_bytes());
        bytes[20..].copy_from_slice(&self.inode.to_le_bytes());
        bytes
    }

    pub(crate) fn to_stored(self, path: Vec<u8>) -> store::v1::ImportedFile {
        store::v1::ImportedFile {
            path,
            modified_unix_s: self.modified_unix_s,
            modified_ns: self.modified_ns,
            inode: self.inode,
        }
    }

    pub(crate) fn from_stored(file: &store::v1::ImportedFile, size_bytes: u64) -> Self {
        Self {
            size_bytes,
            modified_unix_s: file.modified_unix_s,
            modified_ns: file.modified_ns,
            inode: file.inode,
        }
    }

    pub(crate) fn to_wire(self, path: Vec<u8>) -> v1::LocalFile {
        v1::LocalFile {
            path,
            size_bytes: self.size_bytes,
            modified_unix_s: self.modified_unix_s,
            modified_ns: self.modified_ns,
            inode: self.inode,
        }
    }

    pub(crate) fn from_wire(file: &v1::LocalFile) -> Self {
        Self {
            size_bytes: file.size_bytes,
            modified_unix_s: file.modified_unix_s,
            modified_ns: file.modified_ns,
            inode: file.inode,
        }
    }
}
