//! A client that brings its own broker and worker: `thread:N`.

use crate::{Client, ConnectError, ConnectOptions, client::Shared};
use dewar_embedded::{Embedded, End, StartError};
use std::sync::{Arc, Mutex};

pub use dewar_embedded::Options as EmbeddedOptions;

/// Why broker and worker did not start inside this process.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// One of them did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its token is none.
    #[error(transparent)]
    Token(#[from] dewar_proto::transport::MalformedToken),
    /// It started, but did not answer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Where a client keeps what it brought, until it is shut down or dropped.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Option<Brought>>);

#[derive(Debug)]
struct Brought {
    embedded: Embedded,
    ended: tokio::task::JoinHandle<()>,
}

impl Client {
    /// Starts a broker and a worker inside this process, and connects to them. They stop with
    /// [`Client::shutdown`], or when the last clone and job of this client is dropped.
    ///
    /// # Errors
    /// If the data folder is in use, or one of them does not start.
    pub async fn embedded(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let mut embedded = Embedded::start(options).await?;
        let token = embedded.token().parse()?;
        let options = ConnectOptions::default();
        let shared = Shared::connect(embedded.address(), token, options, true).await?;
        if let Some(end) = embedded.take_end() {
            let gone = Arc::clone(&shared.caller.gone);
            let ended = tokio::spawn(async move {
                // Nobody will start this broker again while we wait, so calls must not wait for it.
                let _ = gone.set(how_it_ended(end).await);
            });
            let brought = Brought { embedded, ended };
            *shared.embedded.lock() = Some(brought);
        }
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Stops the broker and the worker that this client brought, and waits until their data folder is free. Does
    /// nothing for a client of a broker elsewhere.
    pub async fn shutdown(self) {
        let brought = self.shared.embedded.lock().take();
        if let Some(Brought { embedded, ended }) = brought {
            embedded.stop();
            // It ends by itself; were it to panic, there would be nothing left to wait for.
            let _ = ended.await;
        }
    }
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Brought>> {
        // Nothing is done under the lock that could leave it half-way.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

async fn how_it_ended(end: End) -> String {
    match end.wait().await {
        Ok(()) => "it was shut down".to_owned(),
        Err(fault) => fault.to_string(),
    }
}
