//! Ctrl-C: the first ends the work in order, the second at once.

use std::{io, process};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Signals caught from now on.
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Catches SIGINT and SIGTERM. The first is told by `tell`.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn catch(tell: impl Fn() + Send + 'static) -> io::Result<Self> {
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
                tell();
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
