//! A worker's part in the swarm, as messages: the call Share of the service Fleet.

mod keeping;

use super::{connections::Ends, convert};
use crate::{
    engine::EngineHandle,
    swarm::{self, Arrival, Holder, Miss, Said, SwarmHandle, ToMember, Unreached},
};
use dewar_blobs::{BlobClient, BlobRef, ChunkSet, Digest, chunk_count, chunk_range};
use dewar_proto::{Token, check_protocol, transport, v1};
use dewar_queue::WorkerId;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;
use v1::share_request::Message;

/// Messages that are encoded and wait for the socket. The outbox in the swarm is the real bound.
const STREAM_BUFFER_COUNT: usize = 64;

/// Chunks in one message of wants.
const CHUNKS_IN_WANT_MAX: usize = 4096;

/// Blobs in one message of holdings.
const HOLDINGS_MAX: usize = 4096;

/// Characters of what a worker says for people.
const MESSAGE_CHARS_MAX: usize = 256;

/// How long a worker's data port may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pauses before tries to reach it: it may hear of its token only a moment after the broker dials.
const DIAL_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// What the call needs.
#[derive(Clone)]
pub(super) struct Share {
    pub(super) engine: EngineHandle,
    pub(super) swarm: SwarmHandle,
    /// What opens workers to one another, and to the broker.
    pub(super) peer_token: Arc<str>,
    /// Whose results a worker's folder keeps.
    pub(super) broker_id: Uuid,
}

impl Share {
    /// Begins a worker's session in the swarm, which ends with either stream.
    pub(super) async fn begin(
        self,
        ends: Option<Ends>,
        mut incoming: Streaming<v1::ShareRequest>,
    ) -> Result<ReceiverStream<Result<v1::ShareResponse, Status>>, Status> {
        let first = convert::next(&mut incoming).await?;
        let Some(Message::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the first message must be hello"));
        };
        check_protocol(hello.protocol, "this worker", "broker")
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let worker = convert::worker_id("hello.worker_id", &hello.worker_id)?;
        let arrival = self.arrival(worker, &hello, ends).await?;
        let address = data_address(&hello.data_address, ends.map(|ends| ends.remote))?;
        let (outbox, inbox) = mpsc::channel(swarm::OUTBOX_MAX);
        let session = self
            .swarm
            .join(worker, arrival, outbox)
            .await
            .map_err(|_| gone())?;
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER_COUNT);
        // The channel is new and empty, so the welcome has room.
        let _ = sender.try_send(Ok(self.welcome()));
        tokio::spawn(async move {
            let dialing = async {
                if let Some(address) = address {
                    self.dial(worker, session, address).await;
                }
                // The session ends with its streams, not with this.
                std::future::pending().await
            };
            let ended = tokio::select! {
                ended = listen(&self.swarm, worker, session, incoming) => ended,
                ended = speak(inbox, &sender) => ended,
                ended = dialing => ended,
            };
            if let Err(status) = ended {
                let _ = sender.try_send(Err(status));
            }
            // If the swarm is gone, so is the session.
            let _ = self.swarm.leave(worker, session).await;
        });
        Ok(ReceiverStream::new(receiver))
    }

    async fn arrival(
        &self,
        worker: WorkerId,
        hello: &v1::ShareHello,
        ends: Option<Ends>,
    ) -> Result<Arrival, Status> {
        let known = self.engine.query(move |view| {
            let name = view.queue.worker(worker)?.hello().name.clone();
            let (info, _) = view.fleet.info(worker)?;
            Some((name, info.site.as_str().into()))
        });
        let known = known.await.map_err(convert::status)?;
        let (name, site) = known.ok_or_else(|| {
            Status::unavailable("this worker does not attend; it must say hello there first")
        })?;
        Ok(Arrival {
            name,
            site,
            node: convert::name("hello.node", &hello.node)?,
            is_local: ends.is_some_and(Ends::is_same_machine),
        })
    }

    fn welcome(&self) -> v1::ShareResponse {
        let peer_token = self.peer_token.to_string();
        response(v1::share_response::Message::Welcome(v1::ShareWelcome {
            peer_token,
            broker_id: self.broker_id.into_bytes().into(),
        }))
    }

    /// Offers a worker to others once the broker has reached it itself.
    async fn dial(&self, worker: WorkerId, session: u64, address: String) {
        for pause in DIAL_PAUSES {
            sleep(pause).await;
            match reach(&address, &self.peer_token).await {
                Ok(()) => {
                    // If the swarm is gone, nobody is offered.
                    let _ = self.swarm.reached(worker, session, address.into()).await;
                    return;
                }
                Err(reason) => {
                    tracing::debug!(%address, reason, "a worker's data port was not reached");
                    let unreached = Unreached {
                        address: address.as_str().into(),
                        reason: reason.into(),
                    };
                    let _ = self.swarm.unreached(worker, session, unreached).await;
                }
            }
        }
        tracing::info!(%address, "a worker cannot be reached, so others do not fetch from it");
    }
}

async fn reach(address: &str, token: &str) -> Result<(), String> {
    let token: Token = token
        .parse()
        .map_err(|_| "the token is malformed".to_owned())?;
    let channel = transport::channel(address, token).map_err(|error| error.to_string())?;
    let client = BlobClient::new(channel);
    match timeout(DIAL_TIMEOUT, client.stat(&Digest([0; 32]))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer".to_owned()),
    }
}

async fn listen(
    swarm: &SwarmHandle,
    worker: WorkerId,
    session: u64,
    mut incoming: Streaming<v1::ShareRequest>,
) -> Result<(), Status> {
    while let Some(request) = convert::next(&mut incoming).await? {
        for said in from_wire(request)? {
            swarm
                .said(worker, session, said)
                .await
                .map_err(|_| gone())?;
        }
    }
    Ok(())
}

async fn speak(
    mut inbox: mpsc::Receiver<ToMember>,
    sender: &mpsc::Sender<Result<v1::ShareResponse, Status>>,
) -> Result<(), Status> {
    while let Some(message) = inbox.recv().await {
        let message = match message {
            ToMember::Fetch(order) => v1::share_response::Message::Fetch(v1::Fetch {
                blob: Some(order.blob.into()),
                chunk: order.chunk,
                peer: match order.from {
                    Holder::Broker => None,
                    Holder::Worker(worker) => Some(v1::Peer {
                        worker_id: worker.0.to_vec(),
                        address: order.address.as_deref().unwrap_or_default().to_owned(),
                    }),
                },
            }),
            ToMember::Precache(blob) => v1::share_response::Message::Precache(v1::Precache {
                blob: Some(blob.into()),
            }),
            ToMember::Keeper(message) => keeping::to_wire(message),
        };
        if sender.send(Ok(response(message))).await.is_err() {
            return Ok(());
        }
    }
    Err(Status::unavailable(
        "the broker ends this session; say hello again",
    ))
}

fn response(message: v1::share_response::Message) -> v1::ShareResponse {
    v1::ShareResponse {
        message: Some(message),
    }
}

fn gone() -> Status {
    Status::unavailable("the broker is shutting down")
}

/// Where peers reach a worker, if it says so. A host left out is the one the broker sees.
fn data_address(said: &str, remote: Option<IpAddr>) -> Result<Option<String>, Status> {
    const FIELD: &str = "hello.data_address";
    if said.is_empty() {
        return Ok(None);
    }
    let said = convert::name(FIELD, said)?;
    let Some((host, port)) = said.rsplit_once(':') else {
        return Err(convert::invalid(FIELD, "is not HOST:PORT"));
    };
    if port.parse::<u16>().is_err() {
        return Err(convert::invalid(FIELD, "has no port"));
    }
    let host = match (host, remote) {
        ("", Some(IpAddr::V6(ip))) => format!("[{ip}]"),
        ("", Some(ip)) => ip.to_string(),
        ("", None) => return Ok(None),
        (host, _) => host.to_owned(),
    };
    Ok(Some(format!("{host}:{port}")))
}

fn from_wire(request: v1::ShareRequest) -> Result<Vec<Said>, Status> {
    let said = match request.message {
        // A later minor may say things that this broker does not know.
        None => return Ok(Vec::new()),
        Some(Message::Hello(_)) => return Err(convert::invalid("hello", "was said already")),
        Some(Message::Holdings(holdings)) => return from_holdings(holdings),
        Some(Message::Want(want)) => {
            let (blob, chunks) = chunks("want", want.blob.as_ref(), want.chunks)?;
            Said::Wants { blob, chunks }
        }
        Some(Message::Unwant(unwant)) => {
            let (blob, chunks) = chunks("unwant", unwant.blob.as_ref(), unwant.chunks)?;
            Said::WantsNoMore { blob, chunks }
        }
        Some(Message::Got(got)) => {
            let (blob, chunk) = chunk("got", got.blob.as_ref(), got.chunk)?;
            let range = chunk_range(blob.size_bytes, chunk);
            Said::Got {
                blob,
                chunk,
                from: holder("got.source_worker_id", &got.source_worker_id)?,
                size_bytes: range.end - range.start,
            }
        }
        Some(Message::Missed(missed)) => {
            let (blob, chunk) = chunk("missed", missed.blob.as_ref(), missed.chunk)?;
            Said::Missed {
                blob,
                chunk,
                from: holder("missed.source_worker_id", &missed.source_worker_id)?,
                miss: miss(missed.reason()),
                message: one_line(&missed.message),
            }
        }
        Some(Message::PrecacheFailed(failed)) => Said::CannotPrecache {
            blob: blob("precache_failed", failed.blob.as_ref())?,
            message: one_line(&failed.message),
        },
        Some(Message::Keeping(keeping)) => keeping::announcement(keeping)?,
        Some(Message::Keeps(keeps)) => keeping::keeps(keeps)?,
        Some(Message::CannotKeep(cannot)) => Said::CannotKeep {
            blob: blob("cannot_keep", cannot.blob.as_ref())?,
            message: one_line(&cannot.message),
        },
        Some(Message::KeepsNoMore(gone)) => {
            let (blob, stamp) = keeping::kept("keeps_no_more.kept", gone.kept.as_ref())?;
            Said::KeepsNoMore { blob, stamp }
        }
    };
    Ok(vec![said])
}

fn from_holdings(holdings: v1::Holdings) -> Result<Vec<Said>, Status> {
    let count = holdings.added.len() + holdings.removed.len();
    if count > HOLDINGS_MAX {
        let problem = format!("name {count} blobs, at most {HOLDINGS_MAX} a message");
        return Err(convert::invalid("holdings", problem));
    }
    let added = holdings.added.into_iter().enumerate().map(|(index, held)| {
        let (blob, chunks) = holding(&format!("holdings.added[{index}]"), &held)?;
        Ok(Said::Holds { blob, chunks })
    });
    let removed = holdings
        .removed
        .into_iter()
        .enumerate()
        .map(|(index, held)| {
            let (blob, chunks) = holding(&format!("holdings.removed[{index}]"), &held)?;
            Ok(Said::HoldsNoMore { blob, chunks })
        });
    added.chain(removed).collect()
}

fn holding(field: &str, held: &v1::Holding) -> Result<(BlobRef, ChunkSet), Status> {
    let blob = blob(field, held.blob.as_ref())?;
    let chunks = ChunkSet::from_bitmap(&held.chunks);
    if chunks
        .max()
        .is_some_and(|last| last >= chunk_count(blob.size_bytes))
    {
        let problem = "holds chunks that the blob does not have";
        return Err(convert::invalid(&format!("{field}.chunks"), problem));
    }
    Ok((blob, chunks))
}

fn chunks(
    field: &str,
    named: Option<&v1::BlobRef>,
    chunks: Vec<u64>,
) -> Result<(BlobRef, Vec<u64>), Status> {
    let blob = blob(field, named)?;
    if chunks.len() > CHUNKS_IN_WANT_MAX {
        let problem = format!("has {}, at most {CHUNKS_IN_WANT_MAX}", chunks.len());
        return Err(convert::invalid(&format!("{field}.chunks"), problem));
    }
    for index in &chunks {
        chunk(field, named, *index)?;
    }
    Ok((blob, chunks))
}

fn chunk(field: &str, named: Option<&v1::BlobRef>, index: u64) -> Result<(BlobRef, u64), Status> {
    let blob = blob(field, named)?;
    if index >= chunk_count(blob.size_bytes) {
        let problem = format!(
            "is {index}, but the blob has {} chunks",
            chunk_count(blob.size_bytes)
        );
        return Err(convert::invalid(&format!("{field}.chunk"), problem));
    }
    Ok((blob, index))
}

fn blob(field: &str, blob: Option<&v1::BlobRef>) -> Result<BlobRef, Status> {
    BlobRef::from_wire(blob, &format!("{field}.blob"))
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Whoever a chunk came from; nobody named is the broker.
fn holder(field: &str, worker_id: &[u8]) -> Result<Holder, Status> {
    if worker_id.is_empty() {
        return Ok(Holder::Broker);
    }
    convert::worker_id(field, worker_id).map(Holder::Worker)
}

fn miss(reason: v1::MissReason) -> Miss {
    match reason {
        v1::MissReason::Corrupt => Miss::Corrupt,
        v1::MissReason::Lacking => Miss::Lacking,
        v1::MissReason::Slow => Miss::Slow,
        v1::MissReason::Unreachable | v1::MissReason::Unspecified => Miss::Unreachable,
    }
}

/// What a worker says for people, cut to what people read: a long word from its system is no reason to leave it.
fn one_line(text: &str) -> Arc<str> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars()
        .take(MESSAGE_CHARS_MAX)
        .collect::<String>()
        .into()
}

/// The site of a worker that names none: its subnet.
pub(super) fn subnet(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => subnet(ip.into()),
            None => {
                let [a, b, c, d, ..] = ip.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_proto::limits::CHUNK_BYTES;

    #[test]
    fn addresses_without_a_host_are_where_the_broker_sees_the_worker() {
        let seen = Some("10.1.2.3".parse().unwrap());
        let check = |said, remote| data_address(said, remote).ok();
        assert_eq!(check("", seen), Some(None));
        assert_eq!(check(":7000", seen), Some(Some("10.1.2.3:7000".into())));
        let six = Some("fd00::1".parse().unwrap());
        assert_eq!(check(":7000", six), Some(Some("[fd00::1]:7000".into())));
        assert_eq!(check("node7:7000", seen), Some(Some("node7:7000".into())));
        assert_eq!(check(":7000", None), Some(None));
        assert_eq!(check("node7", seen), None);
        assert_eq!(check("node7:99999", seen), None);
    }

    #[test]
    fn what_is_said_for_people_is_cut_and_not_refused() {
        let missed = v1::Missed {
            blob: Some(v1::BlobRef {
                digest: vec![7; 32],
                size_bytes: 1,
            }),
            message: "no\nroute ".repeat(1000),
            ..Default::default()
        };
        let request = v1::ShareRequest {
            message: Some(Message::Missed(missed)),
        };
        let said = from_wire(request).unwrap();
        let [Said::Missed { message, .. }] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX);
        assert!(message.starts_with("no route no"), "{message}");
    }

    #[test]
    fn a_subnet_is_the_site_of_those_who_name_none() {
        let check = |ip: &str| subnet(ip.parse().unwrap());
        assert_eq!(check("10.1.2.3"), "10.1.2.0/24");
        assert_eq!(check("::ffff:10.1.2.3"), "10.1.2.0/24");
        assert_eq!(check("fd00:1:2:3:4::5"), "fd00:1:2:3::/64");
    }

    #[test]
    fn what_a_blob_does_not_have_is_refused_by_name() {
        let named = v1::BlobRef {
            digest: vec![7; 32],
            size_bytes: 3 * CHUNK_BYTES,
        };
        let refused = chunk("got", Some(&named), 3).unwrap_err();
        assert!(refused.message().contains("got.chunk"), "{refused}");
        let held = v1::Holding {
            blob: Some(named.clone()),
            chunks: vec![0b1000],
        };
        assert!(holding("holdings.added[0]", &held).is_err());
        let held = v1::Holding {
            blob: Some(named),
            chunks: vec![0b0101],
        };
        assert_eq!(holding("holdings.added[0]", &held).unwrap().1.len(), 2);
    }
}
