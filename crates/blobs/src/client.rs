//! Asking a holder of blobs, a broker or a worker, over the wire.
//!
//! Every call is one try: whether to repeat it, and for how long, is for the caller, who asks
//! [`crate::is_transient`]. Repeating is always safe. What comes back is checked before it is given on.

mod error;
mod in_place;
mod named;
mod upload;

pub use error::{ListError, ReadError, WriteError};
pub use named::NamedChunks;
pub use upload::{FileProgress, NamedFile};

use crate::{
    BlobRef, Chunk, ChunkList, Digest, LocalFile, Pace, Pieces, chunk_count, hash_bytes, pieces_of,
};
use bytes::{Bytes, BytesMut};
use dewar_proto::{
    AuthorizedChannel,
    limits::{CHUNK_BYTES, MESSAGE_BYTES_MAX},
    v1::{
        ByteRange, ChunkDigestsRequest, ChunkDigestsResponse, ChunkRun, ImportFileRequest,
        ReadChunkRequest, ReadRequest, ReadResponse, StatRequest, WriteHeader, WriteRequest,
        blobs_client::BlobsClient, import_file_response::Step, write_request::Part,
    },
};
use futures::{Stream, StreamExt as _, stream};
use in_place::InPlace;
use std::{ops::Range, sync::Arc};
use tokio::sync::Semaphore;
use tonic::{Status, Streaming};

/// Largest chunk list we decode: that of a blob of 8 TiB.
const CHUNK_LIST_BYTES_MAX: usize = 256 << 20;

/// Memory set aside before the first byte of a blob came: a peer's word on a size is not worth more.
const READ_AHEAD_BYTES_MAX: u64 = 16 << 20;

/// Chunks a cache fetches from one holder at once, as many as the broker lets a worker have. They fill 1 Gbit/s with a delay of
/// 30 ms; more of them on one connection are memory that no processor's cache holds.
pub(crate) const FETCHES_AT_ONCE: usize = 4;

/// A holder of blobs. Cheap to clone; calls run side by side.
#[derive(Clone)]
pub struct BlobClient {
    client: BlobsClient<AuthorizedChannel>,
    in_place: InPlace,
    /// Turns of caches that have no other source.
    pub(crate) fetches: Arc<Semaphore>,
    /// Of blobs that are written.
    upload: Pace,
}

impl BlobClient {
    /// A client over a connection, which is made when first used.
    pub fn new(channel: AuthorizedChannel) -> Self {
        let client = BlobsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let in_place = InPlace::default();
        Self {
            client,
            in_place,
            fetches: Arc::new(Semaphore::new(FETCHES_AT_ONCE)),
            upload: Pace::new(None),
        }
    }

    /// The same, sending blobs no faster than `upload` lets it.
    #[must_use]
    pub fn with_upload(self, upload: Pace) -> Self {
        Self { upload, ..self }
    }

    /// The size of a blob, or `None` if the holder does not have it.
    ///
    /// # Errors
    /// As the holder, or the network, says.
    pub async fn stat(&self, digest: &Digest) -> Result<Option<u64>, Status> {
        let digest = digest.0.to_vec();
        let reply = self.client.clone().stat(StatRequest { digest }).await?;
        let reply = reply.into_inner();
        Ok(reply.present.then_some(reply.size_bytes))
    }

    /// The chunks of a blob in `runs` of indices, which are ascending, disjoint and inside the blob. No runs means all.
    ///
    /// What is said of a blob named by its bytes is proven by that name. Of a file used by reference it is believed: ask
    /// nobody but the broker.
    ///
    /// # Errors
    /// If they do not come, or are not the blob's.
    pub async fn chunks(
        &self,
        blob: BlobRef,
        runs: &[Range<u64>],
    ) -> Result<NamedChunks, ListError> {
        let all = 0..chunk_count(blob.size_bytes);
        let runs = match runs {
            [] => std::slice::from_ref(&all),
            runs => runs,
        };
        if let Some(list) = ChunkList::of_one_chunk(blob) {
            return Ok(NamedChunks::proven(&list, runs, None));
        }
        let is_all = runs.len() == 1 && runs[0] == all;
        let mut reply = self
            .ask_for_digests(blob, if is_all { &[] } else { runs })
            .await?;
        if reply.by_reference {
            return Ok(NamedChunks::believed(blob, runs, reply)?);
        }
        // A part proves nothing. A broker of minor 1 has given the whole list already.
        if reply.digests.len() as u64 != all.end.saturating_mul(32) {
            reply = self.ask_for_digests(blob, &[]).await?;
        }
        let list = ChunkList::new(blob, reply.digests)?;
        let local = reply.local_file.as_ref().map(LocalFile::from_wire);
        Ok(NamedChunks::proven(&list, runs, local))
    }

    async fn ask_for_digests(
        &self,
        blob: BlobRef,
        runs: &[Range<u64>],
    ) -> Result<ChunkDigestsResponse, ListError> {
        let runs = runs.iter().map(|run| ChunkRun {
            first_index: run.start,
            count: run.end.saturating_sub(run.start),
        });
        let reply = self
            .client
            .clone()
            .max_decoding_message_size(CHUNK_LIST_BYTES_MAX)
            .chunk_digests(ChunkDigestsRequest {
                digest: blob.digest.0.to_vec(),
                runs: runs.collect(),
            })
            .await
            .map_err(ListError::Refused)?;
        Ok(reply.into_inner())
    }

    /// One chunk, checked.
    ///
    /// # Errors
    /// If it does not come, or is not the one.
    pub async fn read_chunk(&self, chunk: &Chunk) -> Result<Pieces, ReadError> {
        let stream = self.read_range(&chunk.blob.digest, chunk.range()).await?;
        collect_chunk(stream, chunk).await
    }

    /// One chunk, checked, from a worker, which knows it by its own digest.
    ///
    /// # Errors
    /// If it does not come, or is not the one.
    pub async fn read_peer_chunk(&self, chunk: &Chunk) -> Result<Pieces, ReadError> {
        let chunk_digest = chunk.digest.0.to_vec();
        let request = ReadChunkRequest { chunk_digest };
        let stream = self.client.clone().read_chunk(request).await;
        let stream = stream.map_err(ReadError::Refused)?.into_inner();
        collect_chunk(stream, chunk).await
    }

    /// A whole blob in memory, checked.
    ///
    /// # Errors
    /// If it does not come, or is not the one.
    pub async fn read_blob(&self, blob: &BlobRef) -> Result<Bytes, ReadError> {
        let stream = self.read_range(&blob.digest, 0..blob.size_bytes).await?;
        let bytes = collect(stream, blob).await?;
        // Large ones keep a processor busy for a while, and nothing else may wait for that.
        let (actual, bytes) = if bytes.len() as u64 <= CHUNK_BYTES {
            (blake3::hash(&bytes), bytes)
        } else {
            tokio::task::spawn_blocking(move || (blake3::hash(&bytes), bytes))
                .await
                .map_err(|error| ReadError::Refused(Status::internal(error.to_string())))?
        };
        let (expected, actual) = (blob.digest, Digest::from(actual));
        if actual == expected {
            return Ok(bytes);
        }
        match self.chunks(*blob, &[]).await {
            Ok(named) if named.by_reference => named.verify_all(bytes).await,
            Err(ListError::Refused(status)) => Err(ReadError::Refused(status)),
            _ => Err(ReadError::Digest { expected, actual }),
        }
    }

    /// The bytes of a range as the holder gives them: nothing is checked.
    async fn read_range(
        &self,
        blob: &Digest,
        range: Range<u64>,
    ) -> Result<Streaming<ReadResponse>, ReadError> {
        let request = ReadRequest {
            digest: blob.0.to_vec(),
            range: Some(ByteRange {
                offset_bytes: range.start,
                length_bytes: range.end.saturating_sub(range.start),
            }),
        };
        let stream = self.client.clone().read(request).await;
        Ok(stream.map_err(ReadError::Refused)?.into_inner())
    }

    /// Makes a blob of bytes in memory. `job` holds it from then on; a worker's output has none yet.
    ///
    /// # Errors
    /// If the broker does not take it.
    pub async fn write_bytes(
        &self,
        bytes: Bytes,
        job: Option<[u8; 16]>,
    ) -> Result<BlobRef, WriteError> {
        let blob = if bytes.len() as u64 <= CHUNK_BYTES {
            hash_bytes(&bytes).blob()
        } else {
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || hash_bytes(&bytes).blob())
                .await
                .map_err(|error| WriteError::Refused(Status::internal(error.to_string())))?
        };
        self.write(blob, job, stream::iter(pieces_of(bytes))).await
    }

    async fn write(
        &self,
        blob: BlobRef,
        job: Option<[u8; 16]>,
        data: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<BlobRef, WriteError> {
        let header = Part::Header(WriteHeader {
            blob: Some(blob.into()),
            job_id: job.map(Vec::from).unwrap_or_default(),
        });
        let upload = self.upload.clone();
        let data = data.then(move |data| {
            let upload = upload.clone();
            async move {
                upload.take(data.len()).await;
                Part::Data(data)
            }
        });
        let parts = stream::once(async { header })
            .chain(data)
            .map(|part| WriteRequest { part: Some(part) });
        let reply = self
            .client
            .clone()
            .write(parts)
            .await
            .map_err(WriteError::Refused)?;
        let actual = BlobRef::try_from(reply.get_ref())?.digest;
        if actual == blob.digest {
            Ok(blob)
        } else {
            let expected = blob.digest;
            Err(WriteError::Digest { expected, actual })
        }
    }

    /// Makes a blob of a file on the broker's machine, in place. It is usable at once; a broker of minor 1 hashes it first,
    /// and `progress` hears how many bytes.
    ///
    /// The broker answers `FailedPrecondition` for a path outside the folders it exports, and `NotFound` for one it
    /// does not see; [`BlobClient::send_whole`] is then the way.
    ///
    /// # Errors
    /// If the broker does not take it.
    pub async fn import_file(
        &self,
        path: &str,
        job: Option<[u8; 16]>,
        mut progress: impl FnMut(u64),
    ) -> Result<BlobRef, WriteError> {
        let request = ImportFileRequest {
            path: path.to_owned(),
            job_id: job.map(Vec::from).unwrap_or_default(),
        };
        let mut steps = self
            .client
            .clone()
            .import_file(request)
            .await
            .map_err(WriteError::Refused)?
            .into_inner();
        while let Some(message) = steps.message().await.map_err(WriteError::Refused)? {
            match message.step {
                Some(Step::HashedBytes(hashed_bytes)) => progress(hashed_bytes),
                Some(Step::Blob(blob)) => return Ok(BlobRef::try_from(&blob)?),
                Some(Step::Digest(_)) | None => {}
            }
        }
        Err(WriteError::Unfinished)
    }
}

/// A chunk out of a stream, checked as it comes.
async fn collect_chunk(
    mut stream: Streaming<ReadResponse>,
    chunk: &Chunk,
) -> Result<Pieces, ReadError> {
    let expected = chunk.size_bytes();
    let (mut pieces, mut check, mut received) = (Pieces::default(), chunk.check(), 0);
    while let Some(message) = stream.message().await.map_err(ReadError::Refused)? {
        received += message.data.len() as u64;
        if received > expected {
            break;
        }
        check.update(&message.data);
        pieces.push(message.data);
    }
    check_length(&chunk.blob.digest, expected, received)?;
    check.finish()?;
    Ok(pieces)
}

/// A whole blob out of a stream. Its length is checked, and nothing else.
async fn collect(mut stream: Streaming<ReadResponse>, blob: &BlobRef) -> Result<Bytes, ReadError> {
    let expected = blob.size_bytes;
    let mut bytes = BytesMut::with_capacity(expected.min(READ_AHEAD_BYTES_MAX) as usize);
    while let Some(message) = stream.message().await.map_err(ReadError::Refused)? {
        bytes.extend_from_slice(&message.data);
        if bytes.len() as u64 > expected {
            break;
        }
    }
    check_length(&blob.digest, expected, bytes.len() as u64)?;
    Ok(bytes.freeze())
}

fn check_length(blob: &Digest, expected: u64, received: u64) -> Result<(), ReadError> {
    let wrong = ReadError::Length {
        blob: *blob,
        expected,
        received,
    };
    (received == expected).then_some(()).ok_or(wrong)
}
