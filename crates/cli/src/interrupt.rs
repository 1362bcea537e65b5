//! Ctrl-C: the first ends the work in order, the second at once.

use super::narrator::Narrator;
use std::{io, process, sync::Arc};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Signals caught from now on.
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Catches SIGINT and SIGTERM.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn catch(narrator: Arc<Narrator>) -> io::Result<Self> {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let (came, receiver) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if came.send_replace(true) {
                    // Asked twice: the broker may be away, and its job has to wait for `dewar cancel`.
                    process::exit(1);
                }
                narrator
                    .say("stopping: cancelling the job at the broker (once more to leave at once)");
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for the first.
    pub fn came(&self) -> impl Future<Output = ()> + use<> {
        let mut receiver = self.0.clone();
        async move {
            // The sender lives as long as the runtime; were it gone, nobody could interrupt any more.
            if receiver.wait_for(|came| *came).await.is_err() {
                std::future::pending().await
            }
        }
    }
}
