//! Sending a file: whole, or only the chunks that the broker lacks, and after a break only those that had not come.

use super::{BlobClient, WriteError};
use crate::{BlobRef, ChunkList, buffer::Buffer, chunk_count, hash_file, pieces_of};
use bytes::Bytes;
use dewar_proto::{
    limits::MESSAGE_BYTES_MAX,
    v1::{ChunkRun, OfferRequest, WriteChunksRequest, WriteHeader, write_chunks_request::Part},
};
use futures::{StreamExt as _, stream};
use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Smaller files are sent whole: what a break costs is little.
const CHUNKED_BYTES_MIN: u64 = 8 << 20;

/// Bytes of an offer beside the digests.
const OFFER_BYTES: u64 = 1024;

/// Pieces that wait for the network: two megabytes read ahead of it.
const PIECES_WAITING_MAX: usize = 8;

/// A file that was named, to be sent in as many tries as it takes.
#[derive(Debug, Clone)]
pub struct NamedFile {
    path: PathBuf,
    file: Arc<File>,
    list: ChunkList,
}

/// Reading in the background.
type Reading = JoinHandle<io::Result<()>>;

impl NamedFile {
    /// Names a file. `progress` hears how many bytes were hashed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn open(
        path: &Path,
        progress: impl Fn(FileProgress) + Send + Sync + 'static,
    ) -> Result<Self, WriteError> {
        let path = path.to_owned();
        let hashing = spawn_blocking({
            let path = path.clone();
            move || {
                let file = File::open(path)?;
                let size_bytes = file.metadata()?.len();
                let list = hash_file(&file, |done_bytes| {
                    progress(FileProgress::Hashed {
                        done_bytes,
                        size_bytes,
                    });
                })?;
                Ok((file, list))
            }
        });
        let hashed = hashing
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        match hashed {
            Ok((file, list)) => Ok(Self {
                path,
                file: Arc::new(file),
                list,
            }),
            Err(source) => Err(WriteError::File { path, source }),
        }
    }

    /// Its name.
    pub fn blob(&self) -> BlobRef {
        self.list.blob()
    }

    /// Whether it is better sent in chunks, and its list fits a message.
    pub fn is_chunked(&self) -> bool {
        let size_bytes = self.blob().size_bytes;
        let offer_bytes = chunk_count(size_bytes).saturating_mul(32) + OFFER_BYTES;
        size_bytes >= CHUNKED_BYTES_MIN && offer_bytes <= MESSAGE_BYTES_MAX as u64
    }

    /// Reads runs of its chunks in the background. What is read comes as a stream, and the end of reading by itself.
    fn read_runs(
        &self,
        runs: Vec<Range<u64>>,
        progress: impl Fn(FileProgress) + Send + 'static,
    ) -> (ReceiverStream<Piece>, Reading) {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let file = self.clone();
        let reading = spawn_blocking(move || send_pieces(&file, &runs, &sender, progress));
        (ReceiverStream::new(receiver), reading)
    }

    /// Waits until reading has ended. That the file could not be read is the cause; the broker's complaint only its
    /// consequence.
    async fn read_well(&self, reading: Reading) -> Result<(), WriteError> {
        let read = reading
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|source| WriteError::File {
            path: self.path.clone(),
            source,
        })
    }

    /// A chunk's bytes, which must still be those that were named.
    fn read_chunk(&self, index: u64) -> io::Result<Bytes> {
        let changed = || io::Error::other("the file changed while it was sent");
        let chunk = self.list.chunk(index).ok_or_else(changed)?;
        let mut bytes = Buffer::new(chunk.size_bytes() as usize);
        self.file.read_exact_at(&mut bytes, chunk.range().start)?;
        chunk.verify(&bytes).map_err(|_| changed())?;
        Ok(bytes.freeze())
    }
}

/// How far sending a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileProgress {
    /// The file is being named.
    Hashed {
        /// So far.
        done_bytes: u64,
        /// Of the file.
        size_bytes: u64,
    },
    /// The file is on its way.
    Sent {
        /// So far.
        done_bytes: u64,
        /// Of the file.
        size_bytes: u64,
    },
}

/// What is read of a file, in order.
enum Piece {
    /// The chunk whose bytes follow.
    Chunk(u64),
    Data(Bytes),
}

impl BlobClient {
    /// Sends a file whole: one try. `job` holds the blob from then on; `progress` hears how many bytes were sent.
    ///
    /// # Errors
    /// If the file cannot be read, changed, or the broker does not take it.
    pub async fn send_whole(
        &self,
        file: &NamedFile,
        job: Option<[u8; 16]>,
        progress: impl Fn(FileProgress) + Send + 'static,
    ) -> Result<BlobRef, WriteError> {
        let blob = file.blob();
        let all = 0..chunk_count(blob.size_bytes);
        let (pieces, reading) = file.read_runs(vec![all], progress);
        let data = pieces.filter_map(async |piece| match piece {
            Piece::Data(data) => Some(data),
            Piece::Chunk(_) => None,
        });
        let written = self.write(blob, job, data).await;
        file.read_well(reading).await?;
        written
    }

    /// Sends a file in chunks to a broker of minor 2: one try, which begins where the last one ended. `job` holds the blob
    /// once it is whole; `progress` hears how many bytes the broker has.
    ///
    /// # Errors
    /// If the file cannot be read, changed, or the broker does not take it.
    pub async fn send_chunks(
        &self,
        file: &NamedFile,
        job: Option<[u8; 16]>,
        progress: impl Fn(FileProgress) + Send + 'static,
    ) -> Result<BlobRef, WriteError> {
        let blob = file.blob();
        let job_id = job.map(Vec::from).unwrap_or_default();
        let offer = OfferRequest {
            blob: Some(blob.into()),
            chunk_digests: file.list.digests().clone(),
            job_id: job_id.clone(),
        };
        let answer = self
            .client
            .clone()
            .offer(offer)
            .await
            .map_err(WriteError::Refused)?;
        let missing = runs_of(answer.into_inner().missing, blob)?;
        if !missing.is_empty() {
            self.send_runs(file, job_id, missing, progress).await?;
        }
        Ok(blob)
    }

    async fn send_runs(
        &self,
        file: &NamedFile,
        job_id: Vec<u8>,
        missing: Vec<Range<u64>>,
        progress: impl Fn(FileProgress) + Send + 'static,
    ) -> Result<(), WriteError> {
        let header = Part::Header(WriteHeader {
            blob: Some(file.blob().into()),
            job_id,
        });
        let (pieces, reading) = file.read_runs(missing, progress);
        let parts = pieces.map(|piece| match piece {
            Piece::Chunk(index) => Part::ChunkIndex(index),
            Piece::Data(data) => Part::Data(data),
        });
        let messages = stream::once(async { header })
            .chain(parts)
            .map(|part| WriteChunksRequest { part: Some(part) });
        let answer = self.client.clone().write_chunks(messages).await;
        file.read_well(reading).await?;
        let missing = answer.map_err(WriteError::Refused)?.into_inner().missing;
        if missing.is_empty() {
            Ok(())
        } else {
            Err(WriteError::Refused(Status::aborted(
                "the upload is not whole yet",
            )))
        }
    }
}

/// Reads runs of a file's chunks, for as long as anyone takes them.
fn send_pieces(
    file: &NamedFile,
    runs: &[Range<u64>],
    sender: &mpsc::Sender<Piece>,
    progress: impl Fn(FileProgress),
) -> io::Result<()> {
    let size_bytes = file.blob().size_bytes;
    let bytes_of = |index| file.list.chunk(index).map_or(0, |chunk| chunk.size_bytes());
    let missing_bytes: u64 = runs.iter().cloned().flatten().map(bytes_of).sum();
    let mut done_bytes = size_bytes.saturating_sub(missing_bytes);
    for index in runs.iter().cloned().flatten() {
        let bytes = file.read_chunk(index)?;
        if sender.blocking_send(Piece::Chunk(index)).is_err() {
            break;
        }
        for data in pieces_of(bytes) {
            done_bytes += data.len() as u64;
            // The broker is gone, or wants no more; its answer says which.
            if sender.blocking_send(Piece::Data(data)).is_err() {
                return Ok(());
            }
            progress(FileProgress::Sent {
                done_bytes,
                size_bytes,
            });
        }
    }
    Ok(())
}

/// The runs the broker wants, if they are of this blob.
fn runs_of(runs: Vec<ChunkRun>, blob: BlobRef) -> Result<Vec<Range<u64>>, WriteError> {
    let count = chunk_count(blob.size_bytes);
    let mut earlier = 0;
    let mut wanted = Vec::with_capacity(runs.len());
    for ChunkRun {
        first_index,
        count: length,
    } in runs
    {
        let end = first_index.saturating_add(length);
        if first_index < earlier || end > count {
            let problem = "the broker asks for chunks that are not in the blob";
            return Err(WriteError::Refused(Status::internal(problem)));
        }
        earlier = end;
        wanted.push(first_index..end);
    }
    Ok(wanted)
}
