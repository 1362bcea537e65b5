//! Blobs of a job: bytes and files made known to the broker, and read back.

use crate::{CallError, Client, Job};
use bytes::Bytes;
use dewar_blobs::{
    BlobClient, BlobRef, FileProgress, LocalFile, NamedFile, ReadError, WriteError, hash_file,
};
use dewar_proto::limits::CHUNK_BYTES;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};
use tonic::{Code, Status};

/// Why a file did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read here.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The broker refused.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Client {
    /// A whole blob, checked against its digest.
    ///
    /// # Errors
    /// If the broker does not have it.
    pub async fn read_blob(&self, blob: &BlobRef) -> Result<Bytes, CallError> {
        const CALL: &str = "reading a blob";
        let caller = &self.shared.caller;
        let mut waits = caller.retry.waits();
        loop {
            let blobs = BlobClient::new(caller.channel.clone());
            match blobs.read_blob(blob).await {
                Ok(bytes) => {
                    caller.link.up();
                    return Ok(bytes);
                }
                Err(ReadError::Refused(status)) => {
                    caller.after_failure(CALL, &status, &mut waits).await?;
                }
                // The bytes were spoiled on their way; what the broker keeps may still be right.
                Err(error) => {
                    tracing::warn!(blob = %blob.digest, %error, "reading again");
                    waits.next().await;
                }
            }
        }
    }
}

impl Job {
    /// Makes a blob of bytes; the job holds it until it is released or over.
    ///
    /// # Errors
    /// If the broker has no room.
    pub async fn upload(&self, bytes: Bytes) -> Result<BlobRef, CallError> {
        const CALL: &str = "uploading a blob";
        let written = self
            .write(CALL, |blobs| {
                let (bytes, job) = (bytes.clone(), self.held_by());
                async move { blobs.write_bytes(bytes, job).await }
            })
            .await;
        written.map_err(|error| error.into_call(CALL))
    }

    /// Makes a blob of a file on this machine; the job holds it until it is released or over.
    ///
    /// A broker that sees the same file, in a folder it exports, serves it in place, and nothing is read now; any other
    /// gets it sent. Whether it is the same file is told by path, size, time and inode. `progress` hears of the hashing and
    /// the sending if it comes to that. A file served in place must stay as it is: tasks that need it fail if it does not.
    ///
    /// # Errors
    /// If the file cannot be read, or the broker has no room.
    pub async fn import_file(
        &self,
        path: &Path,
        progress: impl Fn(FileProgress) + Send + Sync + Clone + 'static,
    ) -> Result<BlobRef, ImportError> {
        let failed = |source| ImportError::File {
            path: path.to_owned(),
            source,
        };
        let path = path.canonicalize().map_err(failed)?;
        let size_bytes = path.metadata().map_err(failed)?.len();
        if let Some(blob) = self.import_in_place(&path, size_bytes, &progress).await? {
            return Ok(blob);
        }
        self.send_file(&path, progress).await
    }

    /// [`Client::read_blob`].
    ///
    /// # Errors
    /// If the broker does not have it.
    pub async fn read_blob(&self, blob: &BlobRef) -> Result<Bytes, CallError> {
        self.client.read_blob(blob).await
    }

    /// Lets the broker read the file itself. `None` if it cannot, or finds another file there.
    async fn import_in_place(
        &self,
        path: &Path,
        size_bytes: u64,
        progress: &(impl Fn(FileProgress) + Send + Sync + Clone + 'static),
    ) -> Result<Option<BlobRef>, ImportError> {
        const CALL: &str = "importing a file";
        let Some(broker_path) = path.to_str() else {
            return Ok(None);
        };
        let imported = self
            .write(CALL, |blobs| {
                let (progress, job) = (progress.clone(), self.held_by());
                let hashed = move |done_bytes| {
                    progress(FileProgress::Hashed {
                        done_bytes,
                        size_bytes,
                    });
                };
                async move { blobs.import_file(broker_path, job, hashed).await }
            })
            .await;
        let imported = match imported {
            Ok(blob) => blob,
            Err(Unwritten::Refused(status)) if is_out_of_sight(status.code()) => {
                tracing::debug!(
                    path = broker_path,
                    reason = status.message(),
                    "sending the file"
                );
                return Ok(None);
            }
            Err(error) => return Err(error.into_call(CALL).into()),
        };
        let same_process = self.client.shared.same_process;
        // Small files, and all files at a broker of minor 1, are named by their bytes.
        let by_bytes = size_bytes <= CHUNK_BYTES || self.client.shared.protocol.minor < 2;
        if same_process || is_same_file(path, imported, by_bytes).await? {
            return Ok(Some(imported));
        }
        tracing::info!(
            path = broker_path,
            "the broker has another file of this name; sending ours"
        );
        self.release(&[imported.digest]).await?;
        Ok(None)
    }

    /// Sends the file: in chunks if it is large and the broker takes them, so that a break costs little.
    async fn send_file(
        &self,
        path: &Path,
        progress: impl Fn(FileProgress) + Send + Sync + Clone + 'static,
    ) -> Result<BlobRef, ImportError> {
        const CALL: &str = "sending a file";
        let named = &name_file(path, progress.clone()).await?;
        let in_chunks = named.is_chunked() && self.client.shared.protocol.minor >= 2;
        let written = self
            .write(CALL, |blobs| {
                let (progress, job) = (progress.clone(), self.held_by());
                async move {
                    if in_chunks {
                        blobs.send_chunks(named, job, progress).await
                    } else {
                        blobs.send_whole(named, job, progress).await
                    }
                }
            })
            .await;
        written.map_err(|error| match error {
            Unwritten::File { path, source } => ImportError::File { path, source },
            other => other.into_call(CALL).into(),
        })
    }

    fn held_by(&self) -> Option<[u8; 16]> {
        Some(self.id().to_bytes())
    }

    /// Repeats a write until it is done or refused.
    async fn write<F>(
        &self,
        call: &'static str,
        write: impl Fn(BlobClient) -> F,
    ) -> Result<BlobRef, Unwritten>
    where
        F: Future<Output = Result<BlobRef, WriteError>>,
    {
        let caller = &self.client.shared.caller;
        let mut waits = caller.retry.waits();
        loop {
            let reason = match write(BlobClient::new(caller.channel.clone())).await {
                Ok(blob) => {
                    caller.link.up();
                    return Ok(blob);
                }
                Err(error) if error.is_transient() => error.to_string(),
                Err(WriteError::Refused(status)) => {
                    caller.link.up();
                    return Err(Unwritten::Refused(status));
                }
                Err(WriteError::File { path, source }) => {
                    return Err(Unwritten::File { path, source });
                }
                Err(error) => return Err(Unwritten::Answer(error.to_string())),
            };
            tracing::debug!(call, reason, "broker away");
            caller
                .wait(&reason, &mut waits)
                .await
                .map_err(Unwritten::Call)?;
        }
    }
}

/// A write that waiting cannot mend.
enum Unwritten {
    Refused(Status),
    File { path: PathBuf, source: io::Error },
    Answer(String),
    Call(CallError),
}

impl Unwritten {
    fn into_call(self, call: &'static str) -> CallError {
        let problem = match self {
            Self::Call(error) => return error,
            Self::Refused(status) => return CallError::new(call, &status),
            Self::File { path, source } => format!("cannot read {}: {source}", path.display()),
            Self::Answer(problem) => problem,
        };
        CallError::Answer { call, problem }
    }
}

/// Whether a blob the broker made of a file of its own is this file: told by the bytes, or else by
/// path, size, time and inode.
async fn is_same_file(path: &Path, imported: BlobRef, by_bytes: bool) -> Result<bool, ImportError> {
    let path = path.to_owned();
    let comparing = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            if by_bytes {
                Ok(hash_file(&File::open(path)?, |_| {})?.blob() == imported)
            } else {
                Ok(LocalFile::look(&path)?.reference() == imported)
            }
        }
    });
    let compared = comparing
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    compared.map_err(|source| ImportError::File { path, source })
}

async fn name_file(
    path: &Path,
    progress: impl Fn(FileProgress) + Send + Sync + 'static,
) -> Result<NamedFile, ImportError> {
    NamedFile::open(path, progress).await.map_err(|error| {
        let source = match error {
            WriteError::File { source, .. } => source,
            other => io::Error::other(other),
        };
        let path = path.to_owned();
        ImportError::File { path, source }
    })
}

/// What a broker answers about a path it may not or cannot read.
fn is_out_of_sight(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound | Code::FailedPrecondition | Code::PermissionDenied | Code::InvalidArgument
    )
}
