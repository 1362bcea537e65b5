//! What a worker process does when it is told to end.

use crate::{Running, RunningError};
use tokio::signal::unix::{Signal, SignalKind, signal};

impl Running {
    /// Waits until the worker has left. SIGTERM and Ctrl-C make it hand back what it runs, which is charged to nobody,
    /// and leave; another of them makes it leave that very moment.
    ///
    /// # Errors
    /// As [`Running::wait`], and if it was told twice.
    pub async fn serve_until_signalled(&mut self) -> Result<(), RunningError> {
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate()).map_err(RunningError::Signals)?,
            signal(SignalKind::interrupt()).map_err(RunningError::Signals)?,
        );
        tokio::select! {
            ended = self.wait() => return ended,
            () = either(&mut terminate, &mut interrupt) => {}
        }
        tracing::info!("stopping");
        self.stop();
        tokio::select! {
            ended = self.wait() => ended,
            () = either(&mut terminate, &mut interrupt) => Err(RunningError::Interrupted),
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
