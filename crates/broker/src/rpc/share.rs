//! A worker's part in the swarm, as messages: the call Share of the service Fleet.

mod keeping;
mod reach;
mod said;

pub(in crate::rpc) use reach::subnet;

use super::{connections::Ends, convert};
use crate::{
    engine::EngineHandle,
    swarm::{self, Arrival, Holder, SwarmHandle, ToMember},
};
use dewar_proto::{check_protocol, v1};
use dewar_queue::WorkerId;
use reach::{data_address, dial};
use said::from_wire;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;
use v1::share_request::Message;

/// Messages that are encoded and wait for the socket. The outbox in the swarm is the real bound.
const STREAM_BUFFER_COUNT: usize = 64;

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
                    dial(&self.swarm, (worker, session), address, &self.peer_token).await;
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
