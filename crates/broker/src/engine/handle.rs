//! How everyone else reaches the engine.

use super::{
    Effect, EngineError, View,
    message::{FromWorker, Hello, Message, ToWorker},
};
use crate::{meter::Meter, store::PackReader};
use dewar_queue::{Command, HoldingChange, JobNumber, WorkerId};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// A way to the engine; clones are the same.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) packs: PackReader,
    pub(super) meter: Arc<Meter>,
    pub(super) broker_start: u64,
}

impl EngineHandle {
    /// Gives a command to the queue; what it brings is durable when this returns.
    ///
    /// # Errors
    /// If the rules say no, or the broker is shutting down.
    pub async fn command(&self, command: Command) -> Result<Effect, EngineError> {
        self.begin(command).await?.await
    }

    /// Gives a command to the queue, and returns what waits until that is durable. Commands begun one after another are
    /// decided in that order, and share a batch if they can.
    ///
    /// # Errors
    /// If the broker is shutting down.
    pub(crate) async fn begin(
        &self,
        command: Command,
    ) -> Result<impl Future<Output = Result<Effect, EngineError>> + use<>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Command { command, reply }).await?;
        Ok(async { answer.await.map_err(|_| EngineError::Gone)? })
    }

    /// Looks at the queue. The engine waits meanwhile, so the look must be short.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let query = move |view: View<'_>| {
            // The asker may have gone.
            let _ = reply.send(look(view));
        };
        self.send(Message::Query(Box::new(query))).await?;
        answer.await.map_err(|_| EngineError::Gone)
    }

    /// A receiver that changes whenever the job gets outcomes or ends, and closes when it is forgotten.
    pub(crate) async fn subscribe(
        &self,
        job: JobNumber,
    ) -> Result<watch::Receiver<()>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Subscribe { job, reply }).await?;
        answer.await.map_err(|_| EngineError::Gone)
    }

    /// Begins a worker's session, and gives its number.
    pub(crate) async fn attend(
        &self,
        hello: Hello,
        outbox: mpsc::Sender<ToWorker>,
    ) -> Result<u64, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Attend {
            hello: Box::new(hello),
            outbox,
            reply,
        })
        .await?;
        answer.await.map_err(|_| EngineError::Gone)?
    }

    /// Passes on what a worker said.
    pub(crate) async fn hear(
        &self,
        worker: WorkerId,
        session: u64,
        message: FromWorker,
    ) -> Result<(), EngineError> {
        self.send(Message::FromWorker {
            worker,
            session,
            message,
        })
        .await
    }

    /// Passes on what chunks a worker holds, for dispatch to prefer it. Nothing is answered: the worker may have gone.
    pub async fn note_holdings(
        &self,
        worker: WorkerId,
        changes: Vec<HoldingChange>,
    ) -> Result<(), EngineError> {
        self.send(Message::Holdings { worker, changes }).await
    }

    /// What happened, counted.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Reads packed payloads.
    pub(crate) fn packs(&self) -> &PackReader {
        &self.packs
    }

    /// How often the data folder was opened.
    pub(crate) fn broker_start(&self) -> u64 {
        self.broker_start
    }

    async fn send(&self, message: Message) -> Result<(), EngineError> {
        self.sender
            .send(message)
            .await
            .map_err(|_| EngineError::Gone)
    }
}
