//! Blobs: reads and writes of the broker's folder, and files imported into it.
//!
//! Disks block, so everything that touches one runs on a blocking thread, a chunk at a time and few at once: no peer,
//! however slow, keeps a thread to itself, and the engine always finds one to write with.

mod digests;
mod import;
mod near;
mod sending;
mod status;
mod uploads;

pub(super) use near::Neighbours;

use super::{
    connections::{self, Ends},
    convert,
    traffic::Traffic,
};
use crate::{disk_space::DiskSpace, engine::EngineHandle};
use bytes::{Bytes, BytesMut};
use dewar_blobs::{BlobRef, BlobStore, BlobWriter, Digest, LoadedBlob};
use dewar_proto::{
    limits::CHUNK_BYTES,
    v1::{
        self, ChunkDigestsRequest, ChunkDigestsResponse, ImportFileRequest, ImportFileResponse,
        ReadRequest, ReadResponse, StatRequest, StatResponse, WriteHeader, WriteRequest,
        blobs_server::Blobs, write_request::Part,
    },
};
use dewar_queue::{Command, JobId};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use import::Hashing;
use sending::{messages_of, paced, range, within};
use status::{from_load, from_save};
use std::{pin::Pin, sync::Arc};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Disk accesses at once: enough for the fastest disks, and few beside the runtime's 512 blocking threads.
const ACCESSES_MAX: usize = 16;

/// Offers of uploads that are looked at at once.
const OFFERS_MAX: usize = 4;

/// Chunks of one read that are ahead of the network.
const CHUNKS_AHEAD: usize = 2;

/// Bytes of a write that are gathered before the disk has them.
const WRITE_BYTES: usize = CHUNK_BYTES as usize;

/// Bytes of a path: what Linux takes.
const PATH_BYTES_MAX: usize = 4096;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub(super) struct BlobsService {
    store: BlobStore,
    engine: EngineHandle,
    disk: DiskSpace,
    accesses: Arc<Semaphore>,
    /// Offers may read and copy for long, and must not keep others from the disk.
    offers: Arc<Semaphore>,
    hashing: Hashing,
    traffic: Traffic,
    /// Workers, for what they keep and the folder does not have.
    neighbours: Neighbours,
    stop: CancellationToken,
}

impl BlobsService {
    pub(super) fn new(
        store: BlobStore,
        engine: EngineHandle,
        disk: DiskSpace,
        traffic: Traffic,
        neighbours: Neighbours,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            engine,
            disk,
            accesses: Arc::new(Semaphore::new(ACCESSES_MAX)),
            offers: Arc::new(Semaphore::new(OFFERS_MAX)),
            hashing: Hashing::new(stop.clone()),
            traffic,
            neighbours,
            stop,
        }
    }

    /// Waits until the background has done with the folder, after a stop.
    pub(super) async fn ended(&self) {
        self.hashing.ended().await;
    }

    async fn load(&self, digest: Digest) -> Result<LoadedBlob, Status> {
        let store = self.store.clone();
        let loaded = on_disk(&self.accesses, move || store.load(&digest)).await?;
        loaded.map_err(|error| from_load(&error))
    }

    /// Makes a job hold a blob; durable when it returns.
    async fn hold(&self, job: Option<JobId>, blob: BlobRef) -> Result<(), Status> {
        let Some(job) = job else {
            return Ok(());
        };
        let blob = dewar_queue::BlobRef {
            digest: dewar_queue::Digest(blob.digest.0),
            size_bytes: blob.size_bytes,
        };
        let command = Command::HoldBlob { job, blob };
        let held = self.engine.command(command).await;
        held.map(|_| ()).map_err(convert::status)
    }

    /// The job that will hold a blob, known to the broker: nobody should send gigabytes to be told that it is not.
    async fn holder(&self, field: &str, bytes: &[u8]) -> Result<Option<JobId>, Status> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let job = convert::job_id(field, bytes)?;
        let known = self
            .engine
            .query(move |view| view.queue.job_by_id(job).is_some())
            .await
            .map_err(convert::status)?;
        if known {
            Ok(Some(job))
        } else {
            Err(convert::status(dewar_queue::Refusal::UnknownJob.into()))
        }
    }

    /// The blob whose bytes will follow, and the job that will hold it.
    async fn announced(&self, header: &WriteHeader) -> Result<(BlobRef, Option<JobId>), Status> {
        let blob = BlobRef::from_wire(header.blob.as_ref(), "header.blob")
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let job = self.holder("header.job_id", &header.job_id).await?;
        Ok((blob, job))
    }

    /// Whether the blob is here and readable. One whose imported file changed is as good as absent.
    async fn is_here(&self, blob: BlobRef) -> Result<bool, Status> {
        match self.load(blob.digest).await {
            Ok(loaded) if loaded.size_bytes() == blob.size_bytes => Ok(true),
            Ok(loaded) => Err(convert::invalid(
                "header.blob.size_bytes",
                format!(
                    "is {}, but the blob has {} bytes",
                    blob.size_bytes,
                    loaded.size_bytes()
                ),
            )),
            Err(_) => Ok(false),
        }
    }

    /// Whether a blob's bytes may come. A worker's output is of a task that runs: the worker keeps it until there is room.
    fn admit(&self, job: Option<JobId>) -> Result<(), Status> {
        match job {
            Some(_) => self.disk.admit().map_err(convert::no_room),
            None => self
                .disk
                .admit_output()
                .map_err(|full| Status::unavailable(full.to_string())),
        }
    }

    /// Takes the bytes of a blob from the network to the disk, a chunk at a time.
    async fn save(
        &self,
        blob: BlobRef,
        job: Option<JobId>,
        messages: &mut Streaming<WriteRequest>,
    ) -> Result<(), Status> {
        self.admit(job)?;
        let store = self.store.clone();
        let mut writer = on_disk(&self.accesses, move || store.writer(blob))
            .await?
            .map_err(|error| from_save(&error, job))?;
        let mut gathered = BytesMut::new();
        while let Some(message) = convert::next_unless(&self.stop, messages).await? {
            let Some(Part::Data(data)) = message.part else {
                return Err(convert::invalid("part", "only the first may be a header"));
            };
            self.traffic.receive(data.len()).await;
            gathered.extend_from_slice(&data);
            if gathered.len() >= WRITE_BYTES {
                self.admit(job)?;
                writer = self
                    .write_on(writer, gathered.split().freeze(), job)
                    .await?;
            }
        }
        writer = self.write_on(writer, gathered.freeze(), job).await?;
        on_disk(&self.accesses, move || writer.finish())
            .await?
            .map_err(|error| from_save(&error, job))
    }

    async fn write_on(
        &self,
        mut writer: BlobWriter,
        bytes: Bytes,
        job: Option<JobId>,
    ) -> Result<BlobWriter, Status> {
        on_disk(&self.accesses, move || {
            writer.write(&bytes).map(|()| writer)
        })
        .await?
        .map_err(|error| from_save(&error, job))
    }
}

#[tonic::async_trait]
impl Blobs for BlobsService {
    type ReadStream = Messages<ReadResponse>;
    type ImportFileStream = ReceiverStream<Result<ImportFileResponse, Status>>;
    type ReadChunkStream = Messages<ReadResponse>;

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        let digest = digest(&request.get_ref().digest)?;
        let size_bytes = match self.store.size_of(&digest) {
            Some(size_bytes) => Some(size_bytes),
            None => self.neighbours.size_of(digest).await?,
        };
        Ok(Response::new(StatResponse {
            present: size_bytes.is_some(),
            size_bytes: size_bytes.unwrap_or_default(),
        }))
    }

    async fn chunk_digests(
        &self,
        request: Request<ChunkDigestsRequest>,
    ) -> Result<Response<ChunkDigestsResponse>, Status> {
        let ends = connections::ends(&request);
        let is_same_machine = ends.is_some_and(Ends::is_same_machine);
        let request = request.into_inner();
        let digest = digest(&request.digest)?;
        let loaded = match self.load(digest).await {
            Ok(loaded) => loaded,
            Err(status) => {
                let near = self.neighbours.named(digest, status).await?;
                return near.digests(&request.runs).map(Response::new);
            }
        };
        let digests = self.digests_of(&loaded, &request.runs, is_same_machine);
        digests.await.map(Response::new)
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let digest = digest(&request.digest)?;
        let loaded = match self.load(digest).await {
            Ok(loaded) => loaded,
            Err(status) => {
                let near = self.neighbours.find(digest, status).await?;
                let range = range(request.range, near.size_bytes())?;
                return Ok(Response::new(self.read_near(near, range)));
            }
        };
        let range = range(request.range, loaded.size_bytes())?;
        let accesses = Arc::clone(&self.accesses);
        let messages = stream::iter(range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES))
            .map(move |chunk_index| {
                let (loaded, accesses) = (loaded.clone(), Arc::clone(&accesses));
                async move {
                    let read = on_disk(&accesses, move || loaded.read_chunk(chunk_index));
                    let bytes = read.await?.map_err(|error| from_load(&error))?;
                    Ok::<_, Status>((chunk_index * CHUNK_BYTES, bytes))
                }
            })
            .buffered(CHUNKS_AHEAD)
            .map_ok(move |(offset, bytes)| stream::iter(messages_of(within(bytes, offset, &range))))
            .try_flatten();
        let traffic = self.traffic.clone();
        Ok(Response::new(paced(traffic, messages)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<v1::BlobRef>, Status> {
        let mut messages = request.into_inner();
        let first = convert::next_unless(&self.stop, &mut messages)
            .await?
            .and_then(|message| message.part);
        let Some(Part::Header(header)) = first else {
            return Err(convert::invalid("part", "the first must be a header"));
        };
        let (blob, job) = self.announced(&header).await?;
        // Before anyone looks whether it is here, so that it cannot go between the look and the hold.
        let _pin = self.store.pin(blob.digest);
        if self.is_here(blob).await? {
            self.note_held(blob, job).await?;
        } else {
            self.save(blob, job, &mut messages).await?;
            self.hold(job, blob).await?;
        }
        Ok(Response::new(blob.into()))
    }

    async fn import_file(
        &self,
        request: Request<ImportFileRequest>,
    ) -> Result<Response<Self::ImportFileStream>, Status> {
        let ImportFileRequest { path, job_id } = request.into_inner();
        if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0') {
            let problem = format!("must be a path of 1 to {PATH_BYTES_MAX} bytes");
            return Err(convert::invalid("path", problem));
        }
        self.disk.admit().map_err(convert::no_room)?;
        let job = self.holder("job_id", &job_id).await?;
        let (steps, receiver) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move { service.import(path.into(), job, &steps).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn read_chunk(
        &self,
        _: Request<v1::ReadChunkRequest>,
    ) -> Result<Response<Self::ReadChunkStream>, Status> {
        Err(Status::unimplemented(
            "workers give chunks by their own digests; the broker gives ranges of blobs",
        ))
    }

    async fn offer(
        &self,
        request: Request<v1::OfferRequest>,
    ) -> Result<Response<v1::OfferResponse>, Status> {
        let missing = self.take_offer(request.into_inner()).await?;
        Ok(Response::new(v1::OfferResponse { missing }))
    }

    async fn write_chunks(
        &self,
        request: Request<Streaming<v1::WriteChunksRequest>>,
    ) -> Result<Response<v1::WriteChunksResponse>, Status> {
        let missing = self.take_chunks(&mut request.into_inner()).await?;
        Ok(Response::new(v1::WriteChunksResponse { missing }))
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, Status> {
    convert::digest("digest", bytes).map(|digest| Digest(digest.0))
}

/// Runs work that blocks, when it is its turn.
async fn on_disk<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let turn = Arc::clone(turns).acquire_owned().await;
    let turn = turn.map_err(|_| Status::unavailable("the broker is shutting down"))?;
    spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    })
    .await
    .map_err(|_| Status::internal("a disk access was cut short"))
}
