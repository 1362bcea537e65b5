//! Which refusals pass: the peer was away, or the connection broke.

use std::error::Error as _;
use tonic::{Code, Status};

/// Whether the same call may succeed later, because the answer came from the network and not from the peer.
///
/// The transport invents codes of its own when a connection breaks in mid-call, so those with a transport error
/// behind them count whatever their code.
pub fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => true,
        Code::Unknown | Code::Internal => {
            status.source().is_some() || ended_without_status(status.message())
        }
        _ => false,
    }
}

/// A stream that was cut off before its trailers; tonic has only words for it.
fn ended_without_status(message: &str) -> bool {
    message.starts_with("grpc-status header missing")
        || message.starts_with("h2 protocol error")
        || message.starts_with("transport error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_transient() {
        for (status, expected) in [
            (Status::unavailable("tcp connect error"), true),
            (Status::cancelled("Timeout expired"), true),
            (Status::deadline_exceeded(""), true),
            (Status::unknown("transport error"), true),
            (
                Status::unknown("grpc-status header missing, mapped from HTTP status code 200"),
                true,
            ),
            (
                Status::from_error(Box::new(std::io::Error::from(
                    std::io::ErrorKind::ConnectionReset,
                ))),
                true,
            ),
            (Status::unknown("a bug"), false),
            (Status::internal("a bug"), false),
            (Status::not_found("no such blob"), false),
            (Status::resource_exhausted("disk full"), false),
            (Status::unauthenticated("wrong token"), false),
            (Status::invalid_argument("digest"), false),
        ] {
            assert_eq!(is_transient(&status), expected, "{status}");
        }
    }
}
