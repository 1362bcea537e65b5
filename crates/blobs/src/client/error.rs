//! Why calls to a holder fail, and whether the same call may succeed later.

use crate::{ChunkListError, CorruptChunk, Digest, MalformedBlobRef, is_transient};
use std::{io, path::PathBuf};
use tonic::Status;

/// Why bytes of a blob did not come.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The holder, or the network, said no.
    #[error("{}", .0.message())]
    Refused(Status),
    /// Other bytes came than were asked for.
    #[error(transparent)]
    Corrupt(#[from] CorruptChunk),
    /// Fewer or more bytes came than were asked for.
    #[error("{received} bytes of blob {blob} came where {expected} were asked for")]
    Length {
        /// The blob.
        blob: Digest,
        /// What was asked for.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// The blob came whole, but is another one.
    #[error("the bytes of blob {expected} hash to {actual}")]
    Digest {
        /// The blob asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
}

/// Why there is no chunk list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The holder, or the network, said no.
    #[error("{}", .0.message())]
    Refused(Status),
    /// What came is not the blob's list.
    #[error(transparent)]
    Corrupt(#[from] ChunkListError),
}

/// Why a blob was not made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The broker, or the network, said no.
    #[error("{}", .0.message())]
    Refused(Status),
    /// Our file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The broker made another blob than we sent.
    #[error("the broker took {expected} for {actual}")]
    Digest {
        /// What was sent.
        expected: Digest,
        /// What it became.
        actual: Digest,
    },
    /// The broker's answer names no blob.
    #[error("the broker's answer is malformed")]
    Malformed(#[from] MalformedBlobRef),
    /// The broker closed an import before it named the blob.
    #[error("the broker ended the import without naming the blob")]
    Unfinished,
}

impl ReadError {
    /// Whether the same read may succeed later, here or elsewhere.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(status) => is_transient(status),
            Self::Corrupt(_) | Self::Length { .. } | Self::Digest { .. } => true,
        }
    }
}

impl WriteError {
    /// Whether the same write may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(status) => is_transient(status),
            Self::Unfinished => true,
            Self::File { .. } | Self::Digest { .. } | Self::Malformed(_) => false,
        }
    }
}
