//! Delivery: what a kernel gave becomes an output the broker can keep, for however long the broker is away.
//!
//! An output is named before it is sent, so that its report can be kept on disk while its pieces wait for the broker.

use crate::{
    attempt::failure,
    config::{BACKOFF_MAX, backoff},
    near::{Near, NotKept},
    results::{Keeper, Kept, Piece},
    session::Event,
};
use bytes::Bytes;
use dewar_blobs::{BlobClient, hash_bytes};
use dewar_proto::{limits, v1};
use dewar_task::RunOutput;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use v1::payload::Place;

/// Makes blobs of products.
#[derive(Clone)]
pub(crate) struct Delivery {
    blobs: BlobClient,
    /// Where pieces go instead, if they may.
    near: Option<Near>,
    keeper: Keeper,
    /// The process is about to end: what is not on disk goes there at once.
    haste: CancellationToken,
}

/// Where a result is while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// In memory, which is enough unless the broker is away.
    InMemory,
    /// In memory, and worth a copy on disk before anything else.
    ToKeep,
    /// On disk, as far as it takes anything.
    OnDisk,
}

/// Why a piece is not where it is safe.
enum PlaceError {
    /// It may be the next time.
    Later(String),
    Never(DeliveryError),
}

/// Why an output did not get to the broker.
#[derive(Debug)]
pub(crate) enum DeliveryError {
    /// The broker will never take it.
    Refused(v1::Failure),
    /// What was kept is no more what was computed.
    Damaged,
}

/// What is wrong with an output that no broker takes.
pub(crate) fn excess(output: &RunOutput) -> Option<v1::Failure> {
    let blob_count = output.blobs.len();
    (blob_count > limits::TASK_BLOBS_MAX).then(|| {
        let message = format!(
            "the kernel gave {blob_count} blobs; a task may give {}",
            limits::TASK_BLOBS_MAX
        );
        failure(v1::FailureClass::KernelError, &message)
    })
}

/// Whether an output fits into its report as it is.
pub(crate) fn fits_report(output: &RunOutput) -> bool {
    output.blobs.is_empty() && output.message.len() <= limits::PAYLOAD_INLINE_BYTES_MAX
}

/// An output that [`fits_report`].
pub(crate) fn inline(output: RunOutput) -> v1::Output {
    v1::Output {
        message: Some(v1::Payload {
            place: Some(Place::Inline(output.message)),
        }),
        blobs: Vec::new(),
    }
}

/// An output as its report names it, and the pieces it names.
pub(crate) async fn named(output: RunOutput) -> (v1::Output, Vec<Piece>) {
    let naming = tokio::task::spawn_blocking(move || {
        let mut pieces = Vec::new();
        let mut name = |bytes: Bytes| {
            let blob = hash_bytes(&bytes).blob();
            pieces.push(Piece { blob, bytes });
            v1::BlobRef::from(blob)
        };
        let place = if output.message.len() <= limits::PAYLOAD_INLINE_BYTES_MAX {
            Place::Inline(output.message)
        } else {
            Place::Blob(name(output.message))
        };
        let blobs = output.blobs.into_iter().map(name).collect();
        let message = Some(v1::Payload { place: Some(place) });
        (v1::Output { message, blobs }, pieces)
    });
    naming.await.expect("hashing does not panic")
}

impl Delivery {
    pub(crate) fn new(blobs: BlobClient, near: Option<Near>, keeper: Keeper) -> Self {
        Self {
            blobs,
            near,
            keeper,
            haste: CancellationToken::new(),
        }
    }

    /// Makes deliveries keep on disk what is not there yet.
    pub(crate) fn hurry(&self) {
        self.haste.cancel();
    }

    /// Brings the pieces of a result where they are safe: near, or to the broker, waiting for it if need be, and gives the result back. The session hears when it is on
    /// disk, where it goes as soon as it has to wait.
    pub(crate) async fn deliver(
        &self,
        mut result: Kept,
        mut waiting: Waiting,
        events: &mpsc::Sender<Event>,
    ) -> Result<Kept, DeliveryError> {
        let mut index = 0;
        let mut waits = backoff();
        let mut goes_near = self.near.is_some();
        while let Some(piece) = result.pieces.get(index).cloned() {
            if waiting == Waiting::ToKeep {
                // A disk that refused it is asked again with the next one, and at the end.
                waiting = Waiting::OnDisk;
                if let Some(pieces) = self.keeper.keep_pieces(result.clone()).await {
                    result.pieces = pieces;
                    // The session may have left meanwhile.
                    let _ = events.send(Event::Kept { key: result.key }).await;
                }
                continue;
            }
            let size_bytes = piece.blob.size_bytes;
            let placed = tokio::select! {
                placed = self.place(piece, &mut goes_near) => placed,
                () = self.haste.cancelled(), if waiting == Waiting::InMemory => {
                    waiting = Waiting::ToKeep;
                    continue;
                }
            };
            match placed {
                Ok(()) => {
                    index += 1;
                    goes_near = self.near.is_some();
                }
                Err(PlaceError::Never(error)) => return Err(error),
                Err(PlaceError::Later(reason)) => {
                    tracing::debug!(reason, size_bytes, "product waits for the broker");
                    if waiting == Waiting::InMemory {
                        waiting = Waiting::ToKeep;
                    } else {
                        tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)).await;
                    }
                }
            }
        }
        Ok(result)
    }

    /// One try. What nobody else keeps goes to the broker, also at the next try.
    async fn place(&self, piece: Piece, goes_near: &mut bool) -> Result<(), PlaceError> {
        if let Some(near) = self.near.as_ref().filter(|_| *goes_near) {
            match near.keep(&piece).await {
                Ok(()) => return Ok(()),
                Err(NotKept::Away) => return Err(PlaceError::Later("broker away".to_owned())),
                Err(NotKept::Refused(reason)) => {
                    tracing::info!(reason, blob = %piece.blob.digest, "a result goes to the broker");
                    *goes_near = false;
                }
            }
        }
        // The outcome that names the blob will hold it, so it is written for no job.
        match self.blobs.write_bytes(piece.bytes, None).await {
            Ok(written) if written == piece.blob => Ok(()),
            Ok(_) => Err(PlaceError::Never(DeliveryError::Damaged)),
            Err(error) if error.is_transient() => Err(PlaceError::Later(error.to_string())),
            Err(error) => {
                let message = format!("the broker did not take the output: {error}");
                let class = v1::FailureClass::KernelError;
                let failure = failure(class, &message);
                Err(PlaceError::Never(DeliveryError::Refused(failure)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Took;
    use crate::{attempt::AttemptKey, results::Identity};
    use dewar_proto::transport;
    use tokio::net::TcpListener;

    /// Whether the session hears so before the broker is called.
    async fn is_said_to_be_kept(disk_works: bool) -> bool {
        let results = tempfile::tempdir().unwrap();
        let identity = Identity::take(results.path(), "a", None).unwrap();
        let folder = identity.folder.clone();
        let (keeper, _) = Keeper::start(identity).unwrap();
        if !disk_works {
            std::fs::remove_dir_all(folder).unwrap();
        }
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = broker.local_addr().unwrap().to_string();
        let channel = transport::channel(&address, "me.0123".parse().unwrap()).unwrap();
        let delivery = Delivery::new(BlobClient::new(channel), None, keeper);
        let task = v1::TaskRef {
            job_id: vec![7; 16],
            index: 0,
        };
        let key = AttemptKey::from_wire(Some(&task), Some(&v1::AttemptId::default())).unwrap();
        let bytes = Bytes::from_static(b"piece");
        let blob = hash_bytes(&bytes).blob();
        let result = Kept {
            key,
            report: key.report(
                v1::report::Result::Succeeded(v1::Output::default()),
                Took::default(),
            ),
            pieces: vec![Piece { blob, bytes }],
        };
        let (events, mut heard) = mpsc::channel(1);
        tokio::select! {
            delivered = delivery.deliver(result, Waiting::ToKeep, &events) => panic!("{delivered:?}"),
            called = broker.accept() => drop(called.unwrap()),
        }
        matches!(heard.try_recv(), Ok(Event::Kept { .. }))
    }

    #[tokio::test]
    async fn what_the_disk_refused_is_not_said_to_be_kept() {
        assert!(is_said_to_be_kept(true).await);
        assert!(!is_said_to_be_kept(false).await);
    }
}
