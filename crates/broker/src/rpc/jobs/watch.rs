//! Outcomes on their way to a customer who watches.

use super::{JobsService, unknown_job};
use crate::{engine::EngineHandle, rpc::convert};
use dewar_proto::v1;
use dewar_queue::{Command, JobNumber, Outcome};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Outcomes taken from the engine at a time.
const OUTCOME_COUNT_MAX: usize = 256;

/// Outcomes that wait for a customer's socket.
const WATCH_BUFFER_COUNT: usize = 64;

/// Customers that may watch at a time, over all connections: each has a task and a buffer of outcomes.
pub(super) const WATCH_COUNT_MAX: usize = 4096;

impl JobsService {
    /// Begins to watch: the job's outcomes beyond a sequence number.
    pub(super) fn begin_watch(
        &self,
        number: JobNumber,
        after_sequence: u64,
    ) -> Result<ReceiverStream<Result<v1::Outcome, Status>>, Status> {
        let turn = self.watches.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{WATCH_COUNT_MAX} customers watch already; the broker takes no more"
            ))
        })?;
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER_COUNT);
        let engine = self.engine.clone();
        tokio::spawn(async move {
            // While it is watched, the job's customer is there. If the engine is gone, nobody minds.
            let watches = |begins| Command::Watch {
                job: number,
                begins,
            };
            let _ = engine.command(watches(true)).await;
            let watched = watch(&engine, number, after_sequence, &sender).await;
            let _ = engine.command(watches(false)).await;
            drop(turn);
            if let Err(status) = watched {
                // Nobody listens any more if this fails.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// Sends outcomes until the job is finished and all were sent, or the customer has gone.
async fn watch(
    engine: &EngineHandle,
    number: JobNumber,
    mut sequence: u64,
    sender: &mpsc::Sender<Result<v1::Outcome, Status>>,
) -> Result<(), Status> {
    // Subscribed before the first look, so that nothing falls between.
    let mut changes = engine.subscribe(number).await.map_err(convert::status)?;
    loop {
        changes.mark_unchanged();
        let (outcomes, finished) = engine
            .query(move |view| {
                let job = view.queue.job(number)?;
                let outcomes = job.outcomes_after(sequence).take(OUTCOME_COUNT_MAX);
                Some((
                    outcomes.cloned().collect::<Vec<Arc<Outcome>>>(),
                    job.is_finished(),
                ))
            })
            .await
            .map_err(convert::status)?
            .ok_or_else(unknown_job)?;
        if outcomes.is_empty() {
            if finished {
                return Ok(());
            }
            tokio::select! {
                // An error says that the job is forgotten or the broker stops: the next look tells which.
                _ = changes.changed() => {}
                () = sender.closed() => return Ok(()),
            }
            continue;
        }
        for outcomes in outcomes.chunks(WATCH_BUFFER_COUNT) {
            let messages = outcomes
                .iter()
                .filter_map(|outcome| convert::message_of(outcome));
            let messages = convert::payloads_to_wire(engine.packs(), messages).await?;
            let mut messages = messages.into_iter();
            for outcome in outcomes {
                sequence = outcome.sequence;
                let message = convert::message_of(outcome).and_then(|_| messages.next());
                let outcome = convert::outcome_to_wire(outcome, message);
                if sender.send(Ok(outcome)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
