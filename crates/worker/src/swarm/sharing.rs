//! The connection on which the worker tells what it wants and has: made again whenever it breaks.

use crate::config::{BACKOFF_MAX, backoff};
use dewar_proto::{AuthorizedChannel, limits, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use v1::fleet_client::FleetClient;

/// Messages that wait for the network: as many as chunks can be wanted, and holdings of as many blobs.
const OUTBOX_MAX: usize = 1024;

/// What the connection tells its owner.
pub(super) enum FromBroker {
    /// What goes into the outbox is said on this connection; hello must be first.
    Connecting(mpsc::Sender<v1::ShareRequest>),
    Heard(v1::share_response::Message),
    Ended,
    /// The broker is too old to know a swarm, or will not have us in it.
    NoSwarm(Status),
}

/// Connects, listens, and connects again for as long as anyone listens.
pub(super) async fn keep_sharing(channel: AuthorizedChannel, events: mpsc::Sender<FromBroker>) {
    let mut waits = backoff();
    loop {
        let (ended, was_heard) = share(&channel, &events).await;
        if was_heard {
            waits = backoff();
        }
        let event = match ended {
            Err(status) if status.code() == Code::Unimplemented => FromBroker::NoSwarm(status),
            Err(status) => {
                tracing::debug!(reason = status.message(), "the swarm is away");
                FromBroker::Ended
            }
            Ok(()) => FromBroker::Ended,
        };
        let is_over = matches!(event, FromBroker::NoSwarm(_));
        if events.send(event).await.is_err() || is_over {
            return;
        }
        tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)).await;
    }
}

async fn share(
    channel: &AuthorizedChannel,
    events: &mpsc::Sender<FromBroker>,
) -> (Result<(), Status>, bool) {
    let (sender, receiver) = mpsc::channel(OUTBOX_MAX);
    if events.send(FromBroker::Connecting(sender)).await.is_err() {
        return (Ok(()), false);
    }
    let mut fleet =
        FleetClient::new(channel.clone()).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let mut stream = match fleet.share(ReceiverStream::new(receiver)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return (Err(status), false),
    };
    let mut was_heard = false;
    loop {
        match stream.message().await {
            Ok(Some(v1::ShareResponse { message })) => {
                was_heard = true;
                if let Some(message) = message
                    && events.send(FromBroker::Heard(message)).await.is_err()
                {
                    return (Ok(()), was_heard);
                }
            }
            Ok(None) => return (Ok(()), was_heard),
            Err(status) => return (Err(status), was_heard),
        }
    }
}
