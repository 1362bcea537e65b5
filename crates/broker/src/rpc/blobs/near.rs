//! Blobs that workers keep, for those who ask the broker: it passes on what a worker gives, a checked chunk at a time, and
//! keeps nothing of it.

use super::{
    BlobsService, CHUNKS_AHEAD, Messages, digests::runs_of, from_save, messages_of, on_disk, paced,
    within,
};
use crate::{
    near::Taking,
    rpc::convert,
    swarm::{NearBlob, SwarmHandle},
};
use bytes::{Bytes, BytesMut};
use dewar_blobs::{BlobClient, Chunk, Digest, ReadError};
use dewar_proto::{
    Token,
    limits::CHUNK_BYTES,
    transport,
    v1::{ChunkDigestsResponse, ChunkRun, ReadResponse},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

/// How long a worker may take to give a chunk before another one is asked.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to workers that are kept.
const CLIENTS_MAX: usize = 64;

/// Workers, as holders of blobs. Clones share their connections.
#[derive(Clone)]
pub(in crate::rpc) struct Neighbours {
    swarm: SwarmHandle,
    token: Arc<str>,
    clients: Arc<Mutex<HashMap<Arc<str>, BlobClient>>>,
}

/// A blob at workers, and the ways to those that can be reached.
#[derive(Clone)]
pub(super) struct Found {
    blob: Arc<NearBlob>,
    clients: Vec<BlobClient>,
}

impl Neighbours {
    pub(in crate::rpc) fn new(swarm: SwarmHandle, token: Arc<str>) -> Self {
        Self {
            swarm,
            token,
            clients: Arc::default(),
        }
    }

    /// A blob's size, if workers keep it.
    pub(super) async fn size_of(&self, digest: Digest) -> Result<Option<u64>, Status> {
        let blob = self.swarm.find_near(digest).await.map_err(|_| gone())?;
        Ok(blob.map(|blob| blob.list.blob().size_bytes))
    }

    /// A blob that the broker does not have, for which it would say `status`. Whether anybody can give it is not asked.
    pub(super) async fn named(&self, digest: Digest, status: Status) -> Result<Found, Status> {
        if status.code() != Code::NotFound {
            return Err(status);
        }
        let blob = self.swarm.find_near(digest).await.map_err(|_| gone())?;
        let blob = Arc::new(blob.ok_or(status)?);
        if let Some(why) = &blob.lost {
            return Err(Status::failed_precondition(lost(&blob, why)));
        }
        let clients = blob.holders.iter();
        let clients = clients.filter_map(|(_, address)| self.client(address));
        Ok(Found {
            clients: clients.collect(),
            blob,
        })
    }

    /// The same, from whoever can give it.
    pub(super) async fn find(&self, digest: Digest, status: Status) -> Result<Found, Status> {
        let found = self.named(digest, status).await?;
        if found.clients.is_empty() {
            let keepers = names(&found.blob);
            let text = format!("blob {digest} is kept at {keepers}, and none of them is here");
            return Err(Status::unavailable(text));
        }
        Ok(found)
    }

    fn client(&self, address: &Arc<str>) -> Option<BlobClient> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(address) {
            return Some(client.clone());
        }
        let token: Token = self.token.parse().ok()?;
        let client = BlobClient::new(transport::channel(address, token).ok()?);
        if clients.len() >= CLIENTS_MAX {
            // Those in use live on in their calls.
            clients.clear();
        }
        clients.insert(Arc::clone(address), client.clone());
        Some(client)
    }
}

impl Found {
    pub(super) fn size_bytes(&self) -> u64 {
        self.blob.list.blob().size_bytes
    }

    /// The digests of runs of its chunks.
    pub(super) fn digests(&self, runs: &[ChunkRun]) -> Result<ChunkDigestsResponse, Status> {
        let list = &self.blob.list;
        let mut digests = BytesMut::new();
        for index in runs_of(runs, list.chunk_count())?.into_iter().flatten() {
            digests.extend(list.chunk_digest(index).iter().flat_map(|digest| digest.0));
        }
        Ok(ChunkDigestsResponse {
            size_bytes: self.size_bytes(),
            digests: digests.freeze(),
            ..Default::default()
        })
    }

    /// A chunk from the first that gives it.
    async fn chunk(&self, index: u64) -> Result<Bytes, Status> {
        let chunk = self.blob.list.chunk(index);
        let chunk = chunk.ok_or_else(|| Status::internal("there is no such chunk"))?;
        let mut why = "nobody has it".to_owned();
        for (client, (name, _)) in self.clients.iter().zip(&self.blob.holders) {
            match from_one(client, &chunk).await {
                Ok(bytes) => return Ok(bytes),
                Err(message) => {
                    tracing::warn!(worker = %name, blob = %chunk.blob.digest, index, message, "a kept chunk did not come");
                    why = format!("{name}: {message}");
                }
            }
        }
        Err(Status::unavailable(why))
    }
}

impl BlobsService {
    /// A range of a blob as workers give it.
    pub(super) fn read_near(&self, found: Found, range: Range<u64>) -> Messages<ReadResponse> {
        let traffic = self.traffic.clone();
        let messages = stream::iter(range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES))
            .map(move |index| {
                let (found, traffic) = (found.clone(), traffic.clone());
                async move {
                    let bytes = found.chunk(index).await?;
                    traffic.receive(bytes.len()).await;
                    Ok::<_, Status>((index * CHUNK_BYTES, bytes))
                }
            })
            .buffered(CHUNKS_AHEAD)
            .map_ok(move |(offset, bytes)| stream::iter(messages_of(within(bytes, offset, &range))))
            .try_flatten();
        paced(self.traffic.clone(), messages)
    }
}

/// Blobs that are fetched at once to be kept.
const TAKEN_IN_AT_ONCE: usize = 2;

impl BlobsService {
    /// Fetches what workers keep and soon nobody has, and keeps it here. Until `stop`.
    pub(in crate::rpc) async fn take_in(self, blobs: mpsc::UnboundedReceiver<Taking>) {
        let swarm = self.neighbours.swarm.clone();
        let taking = UnboundedReceiverStream::new(blobs).for_each_concurrent(
            TAKEN_IN_AT_ONCE,
            async |taking| {
                let digest = taking.digest;
                let taken = self.take_in_one(taking).await;
                match &taken {
                    Ok(()) => tracing::info!(blob = %digest, "kept here, since workers that have it leave"),
                    Err(status) => tracing::warn!(
                        blob = %digest, reason = status.message(), "not taken in, though workers that have it leave"
                    ),
                }
                // A swarm that is gone decides nothing any more.
                let _ = swarm.taken_in(digest, taken.is_ok()).await;
            },
        );
        tokio::select! {
            () = taking => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn take_in_one(&self, taking: Taking) -> Result<(), Status> {
        let Taking { digest, is_awaited } = taking;
        // So that it does not go while it comes.
        let pin = self.store.pin(digest);
        let is_here = self.store.size_of(&digest).is_some();
        if !is_here {
            self.fetch_and_save(digest).await?;
        }
        // What somebody else wrote is not ours to delete: what is to name it may be on its way.
        if is_here || is_awaited {
            self.store.note_rewritten(&digest);
            return Ok(());
        }
        drop(pin);
        self.drop_unless_held(digest).await
    }

    async fn fetch_and_save(&self, digest: Digest) -> Result<(), Status> {
        self.admit(None)?;
        let unknown = Status::not_found("nobody keeps it");
        let found = self.neighbours.find(digest, unknown).await?;
        let (store, blob) = (self.store.clone(), found.blob.list.blob());
        let mut writer = on_disk(&self.accesses, move || store.writer(blob))
            .await?
            .map_err(|error| from_save(&error, None))?;
        for index in 0..found.blob.list.chunk_count() {
            let bytes = found.chunk(index).await?;
            self.traffic.receive(bytes.len()).await;
            writer = self.write_on(writer, bytes, None).await?;
        }
        on_disk(&self.accesses, move || writer.finish())
            .await?
            .map_err(|error| from_save(&error, None))
    }

    /// The queue may have given it up meanwhile.
    async fn drop_unless_held(&self, digest: Digest) -> Result<(), Status> {
        let is_held = self.engine.query(move |view| {
            let digest = dewar_queue::Digest(digest.0);
            view.queue.is_held(&digest)
        });
        if is_held.await.map_err(convert::status)? {
            return Ok(());
        }
        let store = self.store.clone();
        let deleted = on_disk(&self.accesses, move || store.delete(&digest)).await?;
        deleted.map_err(|error| Status::internal(error.to_string()))?;
        Err(Status::not_found("nobody needs it any more"))
    }
}

async fn from_one(client: &BlobClient, chunk: &Chunk) -> Result<Bytes, String> {
    match timeout(CHUNK_TIMEOUT, client.read_peer_chunk(chunk)).await {
        Ok(Ok(pieces)) => Ok(pieces.into_bytes()),
        Ok(Err(ReadError::Refused(status))) => Err(status.message().to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CHUNK_TIMEOUT.as_secs())),
    }
}

fn names(blob: &NearBlob) -> String {
    match &blob.keepers[..] {
        [] => "workers".to_owned(),
        keepers => keepers.join(" and "),
    }
}

fn lost(blob: &NearBlob, why: &str) -> String {
    let (digest, keepers) = (blob.list.blob().digest, names(blob));
    format!(
        "blob {digest} was kept at {keepers}, none of which is here for long, and {why}; start one of them again with its \
         cache folder"
    )
}

fn gone() -> Status {
    Status::unavailable("the broker is shutting down")
}
