//! Uploads in chunks: an offer says what is missing, and chunks come in any order.

use super::{BlobsService, convert, from_save, on_disk};
use bytes::{Bytes, BytesMut};
use dewar_blobs::{BlobRef, ChunkError, ChunkList, chunk_count, chunk_range};
use dewar_proto::v1::{ChunkRun, OfferRequest, WriteChunksRequest, write_chunks_request::Part};
use dewar_queue::JobId;
use std::ops::Range;
use tonic::{Status, Streaming};

impl BlobsService {
    /// Begins an upload, or takes it up again; what is whole is held.
    pub(super) async fn take_offer(&self, request: OfferRequest) -> Result<Vec<ChunkRun>, Status> {
        let blob = BlobRef::from_wire(request.blob.as_ref(), "blob")
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let job = self.holder("job_id", &request.job_id).await?;
        let list = ChunkList::new(blob, request.chunk_digests)
            .map_err(|error| convert::invalid("chunk_digests", error.to_string()))?;
        let _pin = self.store.pin(blob.digest);
        if self.is_here(blob).await? {
            self.note_held(blob, job).await?;
            return Ok(Vec::new());
        }
        self.admit(job)?;
        let store = self.store.clone();
        let missing = on_disk(&self.offers, move || store.offer(&list)).await?;
        let missing = missing.map_err(|error| from_save(&error, job))?;
        if missing.is_empty() {
            self.note_held(blob, job).await?;
        }
        Ok(to_wire(missing))
    }

    /// Takes chunks until no more come; a blob that is whole by then is held.
    pub(super) async fn take_chunks(
        &self,
        messages: &mut Streaming<WriteChunksRequest>,
    ) -> Result<Vec<ChunkRun>, Status> {
        let first = convert::next_unless(&self.stop, messages)
            .await?
            .and_then(|message| message.part);
        let Some(Part::Header(header)) = first else {
            return Err(convert::invalid("part", "the first must be a header"));
        };
        let (blob, job) = self.announced(&header).await?;
        let _pin = self.store.pin(blob.digest);
        let mut coming: Option<Coming> = None;
        while let Some(message) = convert::next_unless(&self.stop, messages).await? {
            match message.part {
                Some(Part::ChunkIndex(index)) => {
                    if let Some(coming) = coming {
                        return Err(coming.unfinished());
                    }
                    coming = Some(Coming::new(blob, index)?);
                }
                Some(Part::Data(data)) => {
                    self.traffic.receive(data.len()).await;
                    let Some(part) = &mut coming else {
                        return Err(convert::invalid("part", "data must follow a chunk_index"));
                    };
                    part.take(&data)?;
                }
                Some(Part::Header(_)) | None => {
                    return Err(convert::invalid("part", "only the first may be a header"));
                }
            }
            if coming.as_ref().is_some_and(Coming::is_whole)
                && let Some(whole) = coming.take()
            {
                self.write_chunk(whole, job).await?;
            }
        }
        let store = self.store.clone();
        let missing = on_disk(&self.accesses, move || store.missing(&blob)).await?;
        if missing.is_empty() {
            self.note_held(blob, job).await?;
        }
        Ok(to_wire(missing))
    }

    async fn write_chunk(&self, whole: Coming, job: Option<JobId>) -> Result<(), Status> {
        self.admit(job)?;
        let store = self.store.clone();
        let Coming { blob, index, .. } = whole;
        let bytes: Bytes = whole.bytes.freeze();
        let written = on_disk(&self.accesses, move || {
            store.write_chunk(&blob, index, &bytes)
        });
        written.await?.map_err(|error| match &error {
            ChunkError::NotOffered(_) => Status::aborted(error.to_string()),
            ChunkError::Corrupt(_) => convert::invalid("data", error.to_string()),
            ChunkError::Save(error) => from_save(error, job),
        })
    }

    /// Has a job hold a blob that is here; a worker's output is left alone until its outcome names it.
    pub(super) async fn note_held(&self, blob: BlobRef, job: Option<JobId>) -> Result<(), Status> {
        if job.is_none() {
            self.store.note_rewritten(&blob.digest);
        }
        self.hold(job, blob).await
    }
}

/// A chunk whose bytes come.
struct Coming {
    blob: BlobRef,
    index: u64,
    size_bytes: u64,
    bytes: BytesMut,
}

impl Coming {
    fn new(blob: BlobRef, index: u64) -> Result<Self, Status> {
        let count = chunk_count(blob.size_bytes);
        if index >= count {
            let problem = format!("is {index}, but the blob has {count} chunks");
            return Err(convert::invalid("chunk_index", problem));
        }
        let range = chunk_range(blob.size_bytes, index);
        let size_bytes = range.end - range.start;
        Ok(Self {
            blob,
            index,
            size_bytes,
            bytes: BytesMut::with_capacity(size_bytes as usize),
        })
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        let came = self.bytes.len() as u64 + data.len() as u64;
        let Self {
            index, size_bytes, ..
        } = *self;
        if came > size_bytes {
            let problem = format!("chunk {index} has {size_bytes} bytes, but {came} came");
            return Err(convert::invalid("data", problem));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.size_bytes
    }

    fn unfinished(&self) -> Status {
        let (index, size_bytes, came) = (self.index, self.size_bytes, self.bytes.len());
        let problem = format!("of chunk {index} only {came} of {size_bytes} bytes came");
        convert::invalid("chunk_index", problem)
    }
}

fn to_wire(runs: Vec<Range<u64>>) -> Vec<ChunkRun> {
    let runs = runs.into_iter().map(|run| ChunkRun {
        first_index: run.start,
        count: run.end - run.start,
    });
    runs.collect()
}
