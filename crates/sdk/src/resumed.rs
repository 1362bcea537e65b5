//! A stream of the broker's that is asked for again whenever it breaks.
//!
//! What was heard is the caller's to know: each time the stream is opened anew, it says from where.

use crate::call::{CallError, Caller, Waits};
use dewar_proto::AuthorizedChannel;
use tonic::{Response, Status, Streaming};

/// The stream, or the pause before it is opened again.
#[derive(Debug)]
pub(crate) struct Resumed<T> {
    stream: Option<Streaming<T>>,
    waits: Waits,
}

impl<T> Resumed<T> {
    /// Not opened yet.
    pub(crate) fn new(caller: &Caller) -> Self {
        Self {
            stream: None,
            waits: caller.retry.waits(),
        }
    }

    /// What comes next, or `None` where the broker ended it. `open` opens it, now and after each break.
    pub(crate) async fn next<F>(
        &mut self,
        caller: &Caller,
        call: &'static str,
        open: impl Fn(AuthorizedChannel) -> F,
    ) -> Result<Option<T>, CallError>
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        loop {
            let received = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => match open(caller.channel.clone()).await {
                    Ok(answer) => {
                        caller.link.up();
                        self.stream = Some(answer.into_inner());
                        continue;
                    }
                    Err(status) => Err(status),
                },
            };
            match received {
                Ok(Some(message)) => {
                    self.waits = caller.retry.waits();
                    return Ok(Some(message));
                }
                Ok(None) => {
                    self.stream = None;
                    return Ok(None);
                }
                Err(status) => {
                    self.stream = None;
                    caller.after_failure(call, &status, &mut self.waits).await?;
                }
            }
        }
    }

    /// Waits before it is opened again, longer each time in a row.
    pub(crate) async fn pause(&mut self) {
        self.waits.next().await;
    }
}
