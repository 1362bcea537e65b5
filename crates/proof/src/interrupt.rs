//! What ends a proof from outside. Its processes must not outlive it, and those that are stopped heed no signal: so whoever
//! started them must let go of them in good order.

use std::io;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// Waits until somebody wants it to end. Signals are caught from the first poll on.
///
/// # Errors
/// If signals cannot be heard.
pub(crate) async fn interrupted() -> io::Result<()> {
    Signals::catch()?.wait().await;
    Ok(())
}

/// Cancelled when somebody wants it to end, for those who look now and then. Signals are caught from here on.
///
/// # Errors
/// If signals cannot be heard.
pub(crate) fn noticed(runtime: &Runtime) -> io::Result<CancellationToken> {
    let _inside = runtime.enter();
    let mut signals = Signals::catch()?;
    let noticed = CancellationToken::new();
    let cancel = noticed.clone();
    runtime.spawn(async move {
        signals.wait().await;
        cancel.cancel();
    });
    Ok(noticed)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
