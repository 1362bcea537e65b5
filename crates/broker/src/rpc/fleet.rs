//! The service Fleet: one two-way stream for each worker's tasks, and one for its part in the swarm.

mod assignments;

use super::{
    auth, connections, convert,
    share::{self, Share},
};
use crate::{
    config::Patience,
    engine::{EngineHandle, FromWorker, Hello, OUTBOX_MESSAGE_COUNT_MAX, ToWorker, WorkerInfo},
};
use dewar_proto::{PROTOCOL, check_protocol, v1};
use dewar_queue::{Failure, FailureClass, KIND_COUNT_MAX, TaskResult, WorkerHello, WorkerId};
use futures::Stream;
use std::{pin::Pin, sync::Arc};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// Messages that are encoded and wait for the socket. The worker's outbox in the engine is the real bound.
const STREAM_BUFFER_COUNT: usize = 16;

/// Assignments in one message.
const ASSIGNMENT_COUNT_MAX: usize = 16;

/// Attempts a worker may say that it holds.
const HELD_COUNT_MAX: usize = 65_536;

pub(super) struct FleetService {
    engine: EngineHandle,
    patience: Patience,
    broker_id: Uuid,
    share: Share,
}

impl FleetService {
    pub(super) fn new(
        engine: EngineHandle,
        patience: Patience,
        broker_id: Uuid,
        share: Share,
    ) -> Self {
        Self {
            engine,
            patience,
            broker_id,
            share,
        }
    }

    fn welcome(&self) -> v1::BrokerMessage {
        let ms =
            |duration: std::time::Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        broker_message(v1::broker_message::Message::Welcome(v1::Welcome {
            protocol: Some(PROTOCOL),
            broker_start: self.engine.broker_start(),
            heartbeat_ms: ms(self.patience.heartbeat),
            lease_ms: ms(self.patience.lease),
            program_version: env!("CARGO_PKG_VERSION").into(),
            broker_id: self.broker_id.into_bytes().into(),
        }))
    }
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for FleetService {
    type AttendStream = Pin<Box<dyn Stream<Item = Result<v1::BrokerMessage, Status>> + Send>>;
    type ShareStream = ReceiverStream<Result<v1::ShareResponse, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let ends = connections::ends(&request);
        let caller = auth::caller(&request)?;
        let mut incoming = request.into_inner();
        let first = convert::next(&mut incoming)
            .await?
            .and_then(|first| first.message);
        let Some(v1::worker_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("the first message must be hello"));
        };
        let minor = hello.protocol.map_or(0, |protocol| protocol.minor);
        let mut hello = hello_from_wire(hello, caller.owner.clone())?;
        if let (true, Some(ends)) = (hello.info.site.is_empty(), ends) {
            hello.info.site = share::subnet(ends.remote);
        }
        let worker = hello.worker.id;
        let known = self.engine.query(move |view| {
            let (info, _) = view.fleet.info(worker)?;
            Some(info.owner.clone())
        });
        // Nobody ends another's tries by taking their worker's place.
        if let Some(owner) = known.await.map_err(convert::status)? {
            caller.may_change(format_args!("worker {}", hello.worker.name), &owner)?;
        }
        // Each try it says it holds may be one to stop; those must not cut off whoever has many.
        let (outbox, inbox) = mpsc::channel(OUTBOX_MESSAGE_COUNT_MAX + hello.held.len());
        let session = self
            .engine
            .attend(hello, outbox)
            .await
            .map_err(convert::status)?;

        let (sender, receiver) = mpsc::channel(STREAM_BUFFER_COUNT);
        // The channel is new and empty, so the welcome has room.
        let _ = sender.try_send(Ok(self.welcome()));
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = listen(&engine, worker, session, incoming) => ended,
                ended = speak(&engine, worker, session, inbox, minor, &sender) => ended,
            };
            if let Err(status) = ended {
                // A worker whose socket takes nothing is not told either.
                let _ = sender.try_send(Err(status));
            }
            // If the engine is gone, so is the session.
            let _ = engine.hear(worker, session, FromWorker::Disconnected).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn share(
        &self,
        request: Request<Streaming<v1::ShareRequest>>,
    ) -> Result<Response<Self::ShareStream>, Status> {
        let ends = connections::ends(&request);
        let begun = self.share.clone().begin(ends, request.into_inner());
        Ok(Response::new(begun.await?))
    }
}

/// Passes on what the worker says, until it says no more.
async fn listen(
    engine: &EngineHandle,
    worker: WorkerId,
    session: u64,
    mut incoming: Streaming<v1::WorkerMessage>,
) -> Result<(), Status> {
    while let Some(message) = convert::next(&mut incoming).await? {
        let message = from_wire(message)?;
        engine
            .hear(worker, session, message)
            .await
            .map_err(convert::status)?;
    }
    Ok(())
}

/// Passes on what the worker is told, until the engine ends the session.
async fn speak(
    engine: &EngineHandle,
    worker: WorkerId,
    session: u64,
    mut inbox: mpsc::Receiver<ToWorker>,
    minor: u32,
    sender: &mpsc::Sender<Result<v1::BrokerMessage, Status>>,
) -> Result<(), Status> {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, ASSIGNMENT_COUNT_MAX).await > 0 {
        while !waiting.is_empty() {
            let portion = assignments::portion(&mut waiting);
            let packed = assignments::pack(engine.packs(), portion, minor).await?;
            for message in packed.messages {
                if sender.send(Ok(broker_message(message))).await.is_err() {
                    return Ok(());
                }
            }
            for refused in packed.refused {
                engine
                    .hear(worker, session, refused)
                    .await
                    .map_err(convert::status)?;
            }
        }
    }
    Err(Status::unavailable(
        "the broker ends this session; say hello again",
    ))
}

fn broker_message(message: v1::broker_message::Message) -> v1::BrokerMessage {
    v1::BrokerMessage {
        message: Some(message),
    }
}

/// What becomes of a try whose result the broker cannot take. To end the session instead would do nothing but have the
/// worker say the same again, or another one compute the same.
fn untakable(status: &Status) -> TaskResult {
    TaskResult::Failed(Failure {
        class: FailureClass::KernelError,
        message: format!("the broker cannot take its result: {}", status.message()),
    })
}

fn hello_from_wire(hello: v1::Hello, owner: Arc<str>) -> Result<Hello, Status> {
    check_protocol(hello.protocol, "this worker", "broker")
        .map_err(|error| Status::failed_precondition(error.to_string()))?;
    let text = |field: &str, text: &str| convert::name(field, text).map(|text| text.to_string());
    let kinds = hello.kinds.into_iter().enumerate();
    let kinds = kinds
        .map(|(index, kind)| convert::kind(&format!("hello.kinds[{index}]"), Some(kind)))
        .collect::<Result<Vec<_>, _>>()?;
    if hello.kernels.len() > KIND_COUNT_MAX {
        let problem = format!("has {}, at most {KIND_COUNT_MAX}", hello.kernels.len());
        return Err(convert::invalid("hello.kernels", problem));
    }
    let kernels = hello.kernels.into_iter().enumerate();
    let kernels = kernels
        .map(|(index, kernel)| convert::kernel(&format!("hello.kernels[{index}]"), kernel))
        .collect::<Result<Vec<_>, _>>()?;
    if hello.held.len() > HELD_COUNT_MAX {
        let problem = format!("has {} tries, at most {HELD_COUNT_MAX}", hello.held.len());
        return Err(convert::invalid("hello.held", problem));
    }
    let held = hello.held.into_iter().enumerate();
    let held = held
        .map(|(index, held)| {
            convert::address(&format!("hello.held[{index}]"), held.task, held.attempt)
        })
        .collect::<Result<_, _>>()?;
    let worker = WorkerHello {
        id: convert::worker_id("hello.worker_id", &hello.worker_id)?,
        name: convert::name("hello.name", &hello.name)?,
        slot_count: hello.slot_count,
        memory_bytes: hello.memory_bytes,
        kinds,
        kernels,
        instruction_class: convert::name("hello.instruction_class", &hello.instruction_class)?,
        held: Vec::new(),
    };
    Ok(Hello {
        worker,
        held,
        info: WorkerInfo {
            host_name: text("hello.host_name", &hello.host_name)?,
            site: text("hello.site", &hello.site)?,
            program_version: text("hello.program_version", &hello.program_version)?,
            owner,
        },
    })
}

fn from_wire(message: v1::WorkerMessage) -> Result<FromWorker, Status> {
    use v1::worker_message::Message;
    match message.message {
        // A later minor may say things that this broker does not know; a worker should not, but silence is no harm.
        None => Ok(FromWorker::Heartbeat {
            progress: Vec::new(),
        }),
        Some(Message::Hello(_)) => Err(convert::invalid("hello", "was said already")),
        Some(Message::Heartbeat(heartbeat)) => {
            let progress = heartbeat.progress.into_iter().enumerate();
            let progress = progress
                // A kernel's nonsense about how far it is costs the bar, not the worker.
                .filter(|(_, entry)| entry.fraction.is_finite())
                .map(|(index, entry)| {
                    let field = format!("heartbeat.progress[{index}]");
                    let address = convert::address(&field, entry.task, entry.attempt)?;
                    Ok((address, entry.fraction))
                })
                .collect::<Result<_, Status>>()?;
            Ok(FromWorker::Heartbeat { progress })
        }
        Some(Message::Report(report)) => Ok(FromWorker::Report {
            address: convert::address("report", report.task, report.attempt)?,
            result: convert::result("report.result", report.result)
                .unwrap_or_else(|status| untakable(&status)),
            run_ms: report.run_ms,
            fetch_ms: report.fetch_ms,
        }),
        Some(Message::HandBack(hand_back)) => {
            let attempts = hand_back.attempts.into_iter().enumerate();
            let attempts = attempts
                .map(|(index, held)| {
                    let field = format!("hand_back.attempts[{index}]");
                    convert::address(&field, held.task, held.attempt)
                })
                .collect::<Result<_, _>>()?;
            Ok(FromWorker::HandBack { attempts })
        }
        Some(Message::Draining(_)) => Ok(FromWorker::Draining),
        Some(Message::Availability(availability)) => {
            let reason = convert::name("availability.busy_reason", &availability.busy_reason)?;
            Ok(FromWorker::Availability {
                busy_reason: (!reason.is_empty()).then_some(reason),
            })
        }
    }
}
