//! The connection to the broker: made again whenever it breaks, for ever.
//!
//! It knows nothing of tasks. The session gets an outbox for each connection and puts its hello there first.

use crate::{
    config::{BACKOFF_MAX, backoff},
    session::Event,
};
use dewar_proto::{AuthorizedChannel, limits, v1};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use v1::fleet_client::FleetClient;

/// Messages that wait for the network; more wait in the session.
const OUTBOX_MESSAGES_MAX: usize = 1024;

/// How long the broker may take to accept the stream.
const ATTEND_TIMEOUT: Duration = Duration::from_secs(10);

/// What the session says on one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) sender: mpsc::Sender<v1::WorkerMessage>,
    /// Ends the connection: the next one says again what matters.
    pub(crate) stuck: CancellationToken,
}

/// Connects, listens and connects again until `leave`, or until the broker refuses for good.
pub(crate) async fn keep_connected(
    channel: AuthorizedChannel,
    events: mpsc::Sender<Event>,
    leave: CancellationToken,
) {
    let mut waits = backoff();
    while !leave.is_cancelled() {
        let (ended, was_heard) = attend(&channel, &events).await;
        let is_refusal = matches!(&ended, Err(status) if is_refusal(status.code()));
        if was_heard && !is_refusal {
            waits = backoff();
        }
        let event = match ended {
            Err(status) if is_final(status.code(), was_heard) => Event::Refused(status),
            Err(status) => Event::Disconnected {
                reason: status.message().to_owned(),
                is_refusal,
            },
            Ok(()) => Event::Disconnected {
                reason: "the broker ended the session".to_owned(),
                is_refusal,
            },
        };
        if events.send(event).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)) => {}
            () = leave.cancelled() => {}
        }
    }
}

/// One connection, to its end. Says whether anything was heard on it.
async fn attend(
    channel: &AuthorizedChannel,
    events: &mpsc::Sender<Event>,
) -> (Result<(), Status>, bool) {
    let (sender, receiver) = mpsc::channel(OUTBOX_MESSAGES_MAX);
    let stuck = CancellationToken::new();
    let outbox = Outbox {
        sender,
        stuck: stuck.clone(),
    };
    if events.send(Event::Connecting(outbox)).await.is_err() {
        return (Ok(()), false);
    }
    let mut fleet =
        FleetClient::new(channel.clone()).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let attending = timeout(ATTEND_TIMEOUT, fleet.attend(ReceiverStream::new(receiver)));
    let mut stream = match attending.await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return (Err(status), false),
        Err(_) => return (Err(Status::deadline_exceeded("no answer")), false),
    };
    let mut was_heard = false;
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = stuck.cancelled() => return (Err(Status::cancelled("the broker reads nothing")), was_heard),
        };
        match message {
            Ok(Some(v1::BrokerMessage { message })) => {
                was_heard = true;
                if let Some(message) = message {
                    // A session that has left hears nothing, but its last words may still be on their way out: only
                    // the broker ends the stream.
                    let _ = events.send(Event::Heard(message)).await;
                }
            }
            Ok(None) => return (Ok(()), was_heard),
            Err(status) => return (Err(status), was_heard),
        }
    }
}

/// Refusals that no later try can mend. Everything else is a broker that is away, starting or being replaced. Once it was
/// heard, the broker took the worker, and what it refuses is a message.
fn is_final(code: Code, was_heard: bool) -> bool {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => true,
        Code::Unimplemented => !was_heard,
        _ => is_refusal(code) && !was_heard,
    }
}

/// Something that was said is wrong.
fn is_refusal(code: Code) -> bool {
    matches!(code, Code::FailedPrecondition | Code::InvalidArgument)
}
