//! What callers are told of a folder that refuses.

use dewar_blobs::{ImportError, LoadError, SaveError};
use dewar_queue::JobId;
use std::{error::Error, io};
use tonic::Status;

pub(super) fn from_load(error: &LoadError) -> Status {
    let text = with_causes(error);
    match error {
        LoadError::Unknown(_) => Status::not_found(text),
        LoadError::Changed { .. } => Status::failed_precondition(text),
        LoadError::Corrupt { .. } => Status::data_loss(text),
        // Without its file it will not come back by asking again…
        LoadError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Status::failed_precondition(text)
        }
        // … but a disk or a server of files that is away, or too many open files, may pass.
        LoadError::Io { .. } => Status::unavailable(text),
    }
}

pub(super) fn from_save(error: &SaveError, job: Option<JobId>) -> Status {
    let text = with_causes(error);
    match error {
        SaveError::Length { .. } | SaveError::Digest { .. } => Status::invalid_argument(text),
        // A worker's output waits until there is room.
        SaveError::Full { .. } if job.is_none() => Status::unavailable(text),
        SaveError::Full { .. } => Status::resource_exhausted(text),
        SaveError::Busy { .. } => Status::unavailable(text),
        SaveError::Io { .. } => Status::internal(text),
    }
}

pub(super) fn from_import(error: &ImportError) -> Status {
    let text = with_causes(error);
    match error {
        ImportError::NotFound { .. } => Status::not_found(text),
        ImportError::NotAbsolute { .. } | ImportError::NotRegular { .. } => {
            Status::invalid_argument(format!("path: {text}"))
        }
        ImportError::NotExported { .. } | ImportError::Changing { .. } => {
            Status::failed_precondition(text)
        }
        ImportError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Status::permission_denied(text)
        }
        ImportError::Io { .. } => Status::internal(text),
    }
}

/// An error and what led to it, on one line: causes do not travel.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn what_may_pass_is_not_final() {
        let check = |kind: io::ErrorKind| {
            let error = LoadError::Io {
                path: "a".into(),
                source: kind.into(),
            };
            from_load(&error).code()
        };
        assert_eq!(check(io::ErrorKind::NotFound), Code::FailedPrecondition);
        assert_eq!(check(io::ErrorKind::PermissionDenied), Code::Unavailable);
        assert_eq!(
            check(io::ErrorKind::StaleNetworkFileHandle),
            Code::Unavailable
        );
    }
}
