//! What can go wrong with a store: one enum, since opening, reading and appending fail alike.

use std::{io, path::PathBuf};

/// A fault of the store. None of them is mended by trying again in the same process.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder would not do as it was told.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another broker", path.display())]
    InUse {
        /// The store's folder.
        path: PathBuf,
    },
    /// Locks and syncs of network file systems do not keep what they promise.
    #[error(
        "{} is on a network file system ({kind}), which cannot keep a broker's store safe; choose a local disk with --data-dir",
        path.display()
    )]
    NetworkFileSystem {
        /// The store's folder.
        path: PathBuf,
        /// Which.
        kind: String,
    },
    /// A later release wrote it.
    #[error(
        "the store has format {found}, but this release reads up to {supported}; install the release that wrote it, or a later one"
    )]
    Newer {
        /// Format of the store.
        found: u32,
        /// The latest we know.
        supported: u32,
    },
    /// The engine gave up, or panicked, while it opened.
    #[error("the store in {} is damaged and does not open ({reason}); restore the folder from a backup", path.display())]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// What the engine said.
        reason: String,
    },
    /// A record is not what was written.
    #[error(
        "record {sequence} of the store is corrupt: {reason}; restore the folder from a backup"
    )]
    Corrupt {
        /// Its position.
        sequence: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The engine could not write or read.
    #[error("the store failed: {0}")]
    Engine(String),
    /// An earlier append failed, so what is on disk is unknown.
    #[error("the store failed earlier and takes nothing more")]
    Failed,
}
