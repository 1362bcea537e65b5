//! One chunk from one place: a single try, and in which way it failed.

use dewar_blobs::{BlobClient, Chunk, Pace, Pieces, ReadError};
use dewar_proto::{Token, transport, v1::MissReason};
use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::Code;

/// How long a peer may take to give a chunk. Somebody nearer to the wire than 100 KB/s is found in that time.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to peers that are kept.
const PEERS_MAX: usize = 256;

/// Tries of a chunk at the broker, which is the last one to ask.
const BROKER_TRIES_MAX: u32 = 4;

/// The first pause between two of them; each is twice the one before.
const BROKER_PAUSE: Duration = Duration::from_millis(200);

/// A peer that holds a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) worker_id: Vec<u8>,
    pub(super) address: Arc<str>,
}

/// Why a peer did not give a chunk.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) reason: MissReason,
    pub(super) message: String,
}

/// The broker, and connections to peers, made when first used.
pub(crate) struct Sources {
    broker: BlobClient,
    token: Option<Token>,
    local: Option<IpAddr>,
    clients: HashMap<Arc<str>, BlobClient>,
    /// Of what comes, from whomever.
    pace: Pace,
}

impl Sources {
    /// Without a token, which the broker gives, no peer is reached. Connections are made from `local`.
    pub(crate) fn new(broker: BlobClient, local: Option<IpAddr>, pace: Pace) -> Self {
        Self {
            broker,
            token: None,
            local,
            clients: HashMap::new(),
            pace,
        }
    }

    /// The transfer of a chunk from the broker.
    pub(super) fn broker_transfer(
        &self,
        chunk: Chunk,
    ) -> impl Future<Output = Result<Pieces, ReadError>> + Send + use<> {
        let (broker, pace) = (self.broker.clone(), self.pace.clone());
        async move {
            pace.take(size(&chunk)).await;
            from_broker(broker, chunk).await
        }
    }

    /// The transfer of a chunk from a peer. It begins when its bytes may come: a peer is not called slow for our own bound.
    pub(super) fn peer_transfer(
        &mut self,
        peer: &Peer,
        chunk: Chunk,
    ) -> impl Future<Output = Result<Pieces, Trouble>> + Send + use<> {
        let (client, pace) = (self.client(peer), self.pace.clone());
        async move {
            let client = client?;
            pace.take(size(&chunk)).await;
            from_peer(client, chunk).await
        }
    }

    pub(super) fn set_token(&mut self, token: Token) {
        self.token = Some(token);
        self.clients.clear();
    }

    /// The way to a peer.
    fn client(&mut self, peer: &Peer) -> Result<BlobClient, Trouble> {
        if let Some(client) = self.clients.get(&peer.address) {
            return Ok(client.clone());
        }
        let unreachable = |message: String| Trouble {
            reason: MissReason::Unreachable,
            message,
        };
        let token = self.token.clone();
        let token = token.ok_or_else(|| unreachable("the broker gave no token".to_owned()))?;
        let channel = transport::channel_from(self.local, &peer.address, token)
            .map_err(|error| unreachable(error.to_string()))?;
        if self.clients.len() >= PEERS_MAX {
            // Those in use live on in their calls.
            self.clients.clear();
        }
        let client = BlobClient::new(channel);
        self.clients
            .insert(Arc::clone(&peer.address), client.clone());
        Ok(client)
    }
}

/// A chunk from a peer.
async fn from_peer(client: BlobClient, chunk: Chunk) -> Result<Pieces, Trouble> {
    match timeout(PEER_TIMEOUT, client.read_peer_chunk(&chunk)).await {
        Ok(Ok(pieces)) => Ok(pieces),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err(Trouble {
            reason: MissReason::Slow,
            message: format!("no chunk within {} s", PEER_TIMEOUT.as_secs()),
        }),
    }
}

fn size(chunk: &Chunk) -> usize {
    usize::try_from(chunk.size_bytes()).unwrap_or(usize::MAX)
}

fn trouble(error: &ReadError) -> Trouble {
    let reason = match error {
        ReadError::Refused(status) if status.code() == Code::NotFound => MissReason::Lacking,
        ReadError::Refused(_) => MissReason::Unreachable,
        ReadError::Corrupt(_) | ReadError::Length { .. } | ReadError::Digest { .. } => {
            MissReason::Corrupt
        }
    };
    Trouble {
        reason,
        message: error.to_string(),
    }
}

/// A chunk from the broker, tried a few times: there is nobody else to ask.
async fn from_broker(client: BlobClient, chunk: Chunk) -> Result<Pieces, ReadError> {
    let mut tries = 0;
    loop {
        match client.read_chunk(&chunk).await {
            Err(error) if error.is_transient() && tries + 1 < BROKER_TRIES_MAX => {
                tracing::debug!(blob = %chunk.blob.digest, chunk = chunk.index, %error, "fetching a chunk again");
                tokio::time::sleep(BROKER_PAUSE * 2_u32.pow(tries)).await;
                tries += 1;
            }
            ended => return ended,
        }
    }
}
