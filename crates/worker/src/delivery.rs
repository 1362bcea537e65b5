//! Delivery: what a kernel gave becomes an output the broker can keep, for however long the broker is away.

use crate::{
    attempt::failure,
    config::{BACKOFF_MAX, backoff},
};
use bytes::Bytes;
use dewar_blobs::{BlobClient, BlobRef};
use dewar_proto::{limits, v1};
use dewar_task::RunOutput;
use memmap2::Mmap;
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Smaller products wait for the broker in memory.
const SPILL_BYTES_MIN: usize = 1 << 20;

/// Makes blobs of products.
#[derive(Clone)]
pub(crate) struct Delivery {
    blobs: BlobClient,
    /// Holds products while the broker is away.
    waiting_dir: PathBuf,
}

/// Whether an output fits into its report as it is.
pub(crate) fn fits_report(output: &RunOutput) -> bool {
    output.blobs.is_empty() && output.message.len() <= limits::PAYLOAD_INLINE_BYTES_MAX
}

/// An output that [`fits_report`].
pub(crate) fn inline(output: RunOutput) -> v1::Output {
    v1::Output {
        message: Some(v1::Payload {
            place: Some(v1::payload::Place::Inline(output.message)),
        }),
        blobs: Vec::new(),
    }
}

impl Delivery {
    pub(crate) fn new(blobs: BlobClient, waiting_dir: PathBuf) -> Self {
        Self { blobs, waiting_dir }
    }

    /// Writes what is large to the broker, waiting for it if need be.
    pub(crate) async fn deliver(&self, output: RunOutput) -> Result<v1::Output, v1::Failure> {
        use v1::payload::Place;
        let place = if output.message.len() <= limits::PAYLOAD_INLINE_BYTES_MAX {
            Place::Inline(output.message)
        } else {
            Place::Blob(self.write(output.message).await?.into())
        };
        let mut blobs = Vec::with_capacity(output.blobs.len());
        for bytes in output.blobs {
            blobs.push(self.write(bytes).await?.into());
        }
        Ok(v1::Output {
            message: Some(v1::Payload { place: Some(place) }),
            blobs,
        })
    }

    async fn write(&self, mut bytes: Bytes) -> Result<BlobRef, v1::Failure> {
        let mut waits = backoff();
        let mut spilled = false;
        loop {
            // The outcome that names the blob will hold it, so it is written for no job.
            match self.blobs.write_bytes(bytes.clone(), None).await {
                Ok(blob) => return Ok(blob),
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, size_bytes = bytes.len(), "product waits for the broker");
                }
                Err(error) => {
                    let message = format!("the broker did not take the output: {error}");
                    return Err(failure(v1::FailureClass::KernelError, &message));
                }
            }
            if !spilled && bytes.len() >= SPILL_BYTES_MIN {
                bytes = self.spill(bytes).await;
                spilled = true;
            }
            tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)).await;
        }
    }

    /// Moves bytes from memory to disk. Where the disk is full they stay in memory: the wait is worth more.
    async fn spill(&self, bytes: Bytes) -> Bytes {
        let (folder, kept) = (self.waiting_dir.clone(), bytes.clone());
        let moved = tokio::task::spawn_blocking(move || on_disk(&folder, &kept)).await;
        match moved.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(on_disk) => on_disk,
            Err(error) => {
                tracing::warn!(%error, folder = %self.waiting_dir.display(), "product stays in memory");
                bytes
            }
        }
    }
}

/// The same bytes, backed by a file without a name, which is gone when they are, or when the process is killed.
fn on_disk(folder: &Path, bytes: &[u8]) -> io::Result<Bytes> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(bytes)?;
    // SAFETY: the file has no name and its handle stays here, so nobody can change or shorten it while it is mapped.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spilled_bytes_are_the_same_and_leave_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let moved = on_disk(folder.path(), &bytes).unwrap();
        assert!(moved == bytes);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        assert!(on_disk(&folder.path().join("missing"), &bytes).is_err());
    }
}
