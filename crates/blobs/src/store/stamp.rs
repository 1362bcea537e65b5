//! What the file system says of a file: enough to notice that it is no longer the one that was hashed.

use dewar_proto::store::v1;
use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

/// Size, time and identity of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) size_bytes: u64,
    modified_unix_s: i64,
    modified_ns: u32,
    inode: u64,
    device: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            size_bytes: metadata.size(),
            modified_unix_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec() as u32,
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// What differs now, in words; `None` if it is still the file.
    pub(super) fn difference(&self, now: &Self) -> Option<String> {
        if self.size_bytes != now.size_bytes {
            return Some(format!(
                "it had {} bytes and has {}",
                self.size_bytes, now.size_bytes
            ));
        }
        // Device numbers of network and removable disks change when they are mounted again, so they say nothing here.
        if self.inode != now.inode {
            return Some("it was replaced by another file".into());
        }
        if (self.modified_unix_s, self.modified_ns) != (now.modified_unix_s, now.modified_ns) {
            return Some("it was written to".into());
        }
        None
    }

    pub(super) fn to_stored(self, path: Vec<u8>) -> v1::ImportedFile {
        v1::ImportedFile {
            path,
            modified_unix_s: self.modified_unix_s,
            modified_ns: self.modified_ns,
            inode: self.inode,
            device: self.device,
        }
    }

    pub(super) fn from_stored(file: &v1::ImportedFile, size_bytes: u64) -> Self {
        Self {
            size_bytes,
            modified_unix_s: file.modified_unix_s,
            modified_ns: file.modified_ns,
            inode: file.inode,
            device: file.device,
        }
    }
}
