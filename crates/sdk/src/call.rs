//! One call to the broker, repeated until it is answered.
//!
//! Every request of the protocol can be repeated safely, so there is one rule for all of them: what a later try
//! may mend is tried again for ever, and everything else is the caller's to hear at once.

use crate::{TaskIndex, link::LinkSender};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use dewar_blobs::is_transient;
use dewar_proto::{AuthorizedChannel, v1::ProtocolVersion};
use std::{
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tonic::{Code, Response, Status};

/// How long to wait between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Wait after the first failure. Later waits double, each with as much again at random, so that many
    /// customers do not all come back in the same instant.
    pub first_wait: Duration,
    /// Where the doubling ends.
    pub wait_max: Duration,
}

impl Default for Retry {
    /// 100 ms at first and 5 s at most: a restarted broker is found again before anyone notices, and one that is
    /// away for a weekend is not pestered.
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(100),
            wait_max: Duration::from_secs(5),
        }
    }
}

impl Retry {
    /// Waits without end.
    pub(crate) fn waits(self) -> Waits {
        Waits(
            ExponentialBuilder::new()
                .with_min_delay(self.first_wait)
                .with_max_delay(self.wait_max)
                .without_max_times()
                .with_jitter()
                .build(),
            self.wait_max,
        )
    }
}

/// The waits of one call.
#[derive(Debug)]
pub(crate) struct Waits(backon::ExponentialBackoff, Duration);

impl Waits {
    pub(crate) async fn next(&mut self) {
        let wait = self.0.next().unwrap_or(self.1);
        tokio::time::sleep(wait).await;
    }
}

/// Why the broker did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The token is unknown to the broker.
    #[error(
        "the broker does not accept this token ({message}); give the contents of the broker's file `token` \
         with --token-file or DEWAR_TOKEN"
    )]
    Token {
        /// What the broker said.
        message: String,
    },
    /// What was named belongs to another owner.
    #[error("{call} was refused: {message}")]
    NotYours {
        /// What was asked.
        call: &'static str,
        /// What the broker said: whose it is, and who may.
        message: String,
    },
    /// What was named does not exist there.
    #[error("{message}")]
    NotFound {
        /// What the broker said.
        message: String,
    },
    /// The broker has no room for it.
    #[error("the broker is full: {message}")]
    Full {
        /// What the broker said.
        message: String,
    },
    /// The broker refused, and will refuse again.
    #[error("{call} was refused: {message}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The kind of refusal.
        code: Code,
        /// What the broker said.
        message: String,
    },
    /// A submit failed half-way.
    #[error("{source}; of this submit {}", Accepted(accepted.as_ref()))]
    InPart {
        /// The tasks that the broker has, which are the first of those given; those with keys are left out if it had them
        /// before. None if it could not be asked.
        accepted: Option<Range<TaskIndex>>,
        /// Why the others were not accepted.
        source: Box<CallError>,
    },
    /// The broker's release is too old for it.
    #[error(
        "{what} needs a broker of protocol {}.{} or later, and this one speaks {}.{}; install this release there too",
        needed.major, needed.minor, spoken.major, spoken.minor
    )]
    BrokerTooOld {
        /// What was asked.
        what: &'static str,
        /// The protocol that has it.
        needed: ProtocolVersion,
        /// The broker's.
        spoken: ProtocolVersion,
    },
    /// The broker inside this process failed.
    #[error(
        "the broker inside this process failed: {message}; the same command again goes on from there"
    )]
    Gone {
        /// What happened.
        message: String,
    },
    /// The broker's answer makes no sense to this release.
    #[error(
        "{call}: the broker's answer is not understood: {problem}; use the same release on both ends"
    )]
    Answer {
        /// What was asked.
        call: &'static str,
        /// What was wrong.
        problem: String,
    },
}

impl CallError {
    /// A permanent status, sorted.
    pub(crate) fn new(call: &'static str, status: &Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated => Self::Token { message },
            Code::PermissionDenied => Self::NotYours { call, message },
            Code::NotFound => Self::NotFound { message },
            Code::ResourceExhausted => Self::Full { message },
            Code::Unimplemented => Self::Answer {
                call,
                problem: "it does not know this call".to_owned(),
            },
            code => Self::Refused {
                call,
                code,
                message,
            },
        }
    }
}

/// How much of a submit was accepted, in words.
struct Accepted<'a>(Option<&'a Range<TaskIndex>>);

impl fmt::Display for Accepted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Range { start, end }) => {
                let count = end.0.saturating_sub(start.0);
                write!(
                    formatter,
                    "the first {count} tasks were accepted, from index {start}"
                )
            }
            None => write!(
                formatter,
                "some tasks may have been accepted, and the broker could not be asked how many"
            ),
        }
    }
}

/// The channel, and what every call does about failure.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) channel: AuthorizedChannel,
    pub(crate) link: LinkSender,
    pub(crate) retry: Retry,
    /// Why the broker will never come back, if it was inside this process and failed.
    pub(crate) gone: Arc<OnceLock<String>>,
}

impl Caller {
    /// Calls until there is an answer or a permanent error.
    pub(crate) async fn call<T, F>(
        &self,
        call: &'static str,
        request: impl Fn(AuthorizedChannel) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut waits = self.retry.waits();
        loop {
            match request(self.channel.clone()).await {
                Ok(response) => {
                    self.link.up();
                    return Ok(response.into_inner());
                }
                Err(status) => self.after_failure(call, &status, &mut waits).await?,
            }
        }
    }

    /// Waits before another try, unless the broker is gone for good.
    pub(crate) async fn wait(&self, reason: &str, waits: &mut Waits) -> Result<(), CallError> {
        self.link.away(reason);
        if let Some(message) = self.gone.get() {
            return Err(CallError::Gone {
                message: message.clone(),
            });
        }
        waits.next().await;
        Ok(())
    }

    /// Waits if another try may help.
    pub(crate) async fn after_failure(
        &self,
        call: &'static str,
        status: &Status,
        waits: &mut Waits,
    ) -> Result<(), CallError> {
        if is_transient(status) {
            tracing::debug!(call, code = ?status.code(), message = status.message(), "broker away");
            self.wait(status.message(), waits).await
        } else {
            self.link.up();
            Err(CallError::new(call, status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_their_bound() {
        let retry = Retry::default();
        let mut waits = retry.waits();
        let mut longest = Duration::ZERO;
        for n in 0..100 {
            let before = tokio::time::Instant::now();
            waits.next().await;
            let wait = before.elapsed();
            assert!(wait >= retry.first_wait, "wait {n} is {wait:?}");
            longest = longest.max(wait);
        }
        assert!(longest >= retry.wait_max, "{longest:?}");
        assert!(longest <= 2 * retry.wait_max, "{longest:?}");
    }
}
