//! Between the wire and our types, and how a call is told that it will not do.

mod from_wire;
mod to_wire;

pub(super) use from_wire::*;
pub(super) use to_wire::*;

use crate::{disk_space::DiskFull, engine::EngineError};
use dewar_queue::Refusal;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// A field that will not do.
pub(super) fn invalid(field: &str, problem: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {problem}"))
}

/// The same problem, of a field inside another. Names of fields are put together only when there is something to say
/// about them: a million tasks are mostly right.
pub(super) fn within(field: &str, status: &Status) -> Status {
    Status::new(status.code(), format!("{field}.{}", status.message()))
}

/// The one place that chooses codes for what the queue refuses.
pub(crate) fn status(error: EngineError) -> Status {
    let text = error.to_string();
    match error {
        EngineError::Gone => Status::unavailable(text),
        EngineError::Refused(refusal) => match refusal {
            Refusal::UnknownJob | Refusal::UnknownTask { .. } => Status::not_found(text),
            Refusal::Gap { .. }
            | Refusal::JobClosed(_)
            | Refusal::UnknownWorker
            | Refusal::DependencyEnded { .. }
            | Refusal::InputsGone { .. } => Status::failed_precondition(text),
            Refusal::OtherOwner(_) => Status::already_exists(text),
            Refusal::QueueFull { .. } | Refusal::OwnerFull { .. } | Refusal::TooManyNeeds => {
                Status::resource_exhausted(text)
            }
            Refusal::AbsurdWorker | Refusal::KeyMissing(_) | Refusal::BadDependency { .. } => {
                Status::invalid_argument(text)
            }
        },
    }
}

/// What would need room on a full disk.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn no_room(full: DiskFull) -> Status {
    Status::resource_exhausted(full.to_string())
}

/// The next message of a stream that is not waited for once the broker stops: whoever says nothing would hold it up, and
/// hear of a broken connection instead of the reason.
pub(super) async fn next_unless<T>(
    stop: &CancellationToken,
    messages: &mut tonic::Streaming<T>,
) -> Result<Option<T>, Status> {
    tokio::select! {
        biased;
        message = next(messages) => message,
        () = stop.cancelled() => Err(Status::unavailable("the broker is shutting down")),
    }
}

/// The next message of a stream. One beyond the bound is refused like all that is beyond one.
pub(super) async fn next<T>(messages: &mut tonic::Streaming<T>) -> Result<Option<T>, Status> {
    messages
        .message()
        .await
        .map_err(|status| match status.code() {
            tonic::Code::OutOfRange => Status::resource_exhausted(status.message()),
            _ => status,
        })
}
