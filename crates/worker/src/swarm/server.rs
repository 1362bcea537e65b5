//! What the worker gives to peers: chunks of its cache and of results it keeps, by their digests, and nothing else.

use crate::{StartError, near::NearStore};
use dewar_blobs::{ChunkCache, Digest, Pace, pieces_of};
use dewar_proto::{
    limits::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES},
    v1::{
        self, ChunkDigestsRequest, ChunkDigestsResponse, ImportFileRequest, ImportFileResponse,
        OfferRequest, OfferResponse, ReadChunkRequest, ReadRequest, ReadResponse, StatRequest,
        StatResponse, WriteChunksRequest, WriteChunksResponse, WriteRequest,
        blobs_server::{Blobs, BlobsServer},
    },
};
use futures::stream::{self, BoxStream, StreamExt as _};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Server, server::TcpIncoming},
};

/// Calls one peer may have open. It is sent here for a few chunks at a time.
const STREAM_COUNT_MAX: u32 = 64;

/// Chunks read from the cache at once.
const READS_MAX: usize = 16;

/// What peers must show, once the broker has said it.
#[derive(Debug, Clone)]
pub(crate) struct PeerToken {
    token: watch::Receiver<Option<Arc<str>>>,
}

/// A bound port, on which peers are served.
#[derive(Debug)]
pub(crate) struct DataPort {
    listener: TcpListener,
    /// What peers are told.
    pub(crate) address: String,
    /// From where connections are made: a machine with several addresses was told which to use.
    pub(crate) local: Option<IpAddr>,
}

impl PeerToken {
    /// A token yet to come, and the way to set it.
    pub(crate) fn channel() -> (watch::Sender<Option<Arc<str>>>, Self) {
        let (sender, token) = watch::channel(None);
        (sender, Self { token })
    }
}

impl Interceptor for PeerToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let shown = request.metadata().get("authorization");
        let shown = shown.and_then(|header| header.as_bytes().strip_prefix(b"Bearer "));
        let expected = self.token.borrow().clone();
        match shown.zip(expected) {
            // Hashes are compared, in constant time, so that the time taken says nothing about the token.
            Some((shown, expected)) if blake3::hash(shown) == blake3::hash(expected.as_bytes()) => {
                Ok(request)
            }
            _ => Err(Status::unauthenticated("not a peer's token")),
        }
    }
}

impl DataPort {
    /// Binds where told, or else to the address by which this machine reaches the broker.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub(crate) fn bind(
        listen: Option<SocketAddr>,
        advertise: Option<String>,
        broker: &str,
    ) -> Result<Self, StartError> {
        let address = match listen {
            Some(address) => address,
            None => SocketAddr::new(address_towards(broker), 0),
        };
        let failed = |source| StartError::DataPort { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let told = match advertise {
            Some(address) => address,
            // On all addresses: the broker sees which one leads here.
            None if bound.ip().is_unspecified() => format!(":{}", bound.port()),
            None => bound.to_string(),
        };
        let chosen = listen.map(|address| address.ip());
        Ok(Self {
            listener,
            address: told,
            local: chosen.filter(|ip| !ip.is_unspecified()),
        })
    }

    /// Serves peers until `stop`.
    pub(crate) async fn serve(
        self,
        (cache, near): (ChunkCache, NearStore),
        token: PeerToken,
        pace: Pace,
        stop: CancellationToken,
    ) {
        let service = BlobsServer::new(PeerBlobs {
            cache,
            near,
            pace,
            reads: Arc::new(Semaphore::new(READS_MAX)),
        });
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let served = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(STREAM_COUNT_MAX)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .add_service(InterceptedService::new(service, token))
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::warn!(%error, "peers are served no more");
        }
    }
}

/// This machine's address on the way to the broker; nothing is sent. Unknown, it is that of the machine to itself.
fn address_towards(broker: &str) -> IpAddr {
    let found = broker.to_socket_addrs().ok();
    let found = found.and_then(|mut addresses| addresses.next());
    let local = found.and_then(|broker| {
        let any: IpAddr = match broker {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(broker).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    local.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

struct PeerBlobs {
    cache: ChunkCache,
    near: NearStore,
    /// Of what goes out.
    pace: Pace,
    reads: Arc<Semaphore>,
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Blobs for PeerBlobs {
    type ReadStream = Messages<ReadResponse>;
    type ReadChunkStream = Messages<ReadResponse>;
    type ImportFileStream = Messages<ImportFileResponse>;

    /// Answered so that the broker can see whether it gets through; blobs are known by their chunks here.
    async fn stat(&self, _: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        Ok(Response::new(StatResponse::default()))
    }

    async fn read_chunk(
        &self,
        request: Request<ReadChunkRequest>,
    ) -> Result<Response<Self::ReadChunkStream>, Status> {
        let digest = Digest::try_from(request.get_ref().chunk_digest.as_slice())
            .map_err(|_| Status::invalid_argument("chunk_digest: must have 32 bytes"))?;
        let _turn = self.reads.acquire().await;
        let (cache, near) = (self.cache.clone(), self.near.clone());
        let found = spawn_blocking(move || match near.open_chunk(&digest) {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            _ => cache.open_chunk(&digest),
        });
        let found = found.await;
        let found = found.map_err(|_| Status::internal("a read was cut short"))?;
        // It may have the chunk all the same, and be asked again later.
        let found = found.map_err(|error| Status::unavailable(error.to_string()))?;
        let bytes = found.ok_or_else(|| Status::not_found("this worker lacks the chunk"))?;
        let pace = self.pace.clone();
        let messages = stream::iter(pieces_of(bytes)).then(move |data| {
            let pace = pace.clone();
            async move {
                pace.take(data.len()).await;
                Ok(ReadResponse { data })
            }
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn chunk_digests(
        &self,
        _: Request<ChunkDigestsRequest>,
    ) -> Result<Response<ChunkDigestsResponse>, Status> {
        Err(only_chunks())
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Err(only_chunks())
    }

    async fn write(
        &self,
        _: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<v1::BlobRef>, Status> {
        Err(only_chunks())
    }

    async fn import_file(
        &self,
        _: Request<ImportFileRequest>,
    ) -> Result<Response<Self::ImportFileStream>, Status> {
        Err(only_chunks())
    }

    async fn offer(&self, _: Request<OfferRequest>) -> Result<Response<OfferResponse>, Status> {
        Err(only_chunks())
    }

    async fn write_chunks(
        &self,
        _: Request<Streaming<WriteChunksRequest>>,
    ) -> Result<Response<WriteChunksResponse>, Status> {
        Err(only_chunks())
    }
}

fn only_chunks() -> Status {
    Status::unimplemented("workers give chunks; ask the broker for all else")
}
