//! Submits: messages taken one after another, several of them on their way to the disk at a time.

use super::{JobsService, unknown_job};
use crate::{
    engine::{Effect, EngineError},
    rpc::convert,
};
use dewar_proto::{limits::MESSAGE_BYTES_MAX, v1};
use dewar_queue::{Command, JobId};
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

/// Messages of one submit that wait for the disk. Together they make a full batch of the engine, and its next one comes in
/// while it is written.
const SUBMIT_MESSAGES_AHEAD_MAX: usize = 16;

/// Bytes of parameters in them: one message of the largest.
const SUBMIT_BYTES_AHEAD_MAX: usize = MESSAGE_BYTES_MAX;

/// Keys in one submit, whose tasks' indices are all in its answer: that of a million is 8 MB.
const KEY_COUNT_MAX: usize = 1_000_000;

/// How long a customer may take to send the next message. It has one of the open submits meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(30);

impl JobsService {
    pub(super) async fn take_submit(
        &self,
        mut requests: Streaming<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let mut job = None;
        let mut keys = Vec::new();
        let mut ahead = Ahead::new();
        while let Some(request) = ahead.finish_until(next(&self.stop, &mut requests)).await? {
            self.disk.admit().map_err(convert::no_room)?;
            let id = convert::job_id("job_id", &request.job_id)?;
            let (known, reuse) = match job {
                Some(known) => known,
                None => *job.insert((id, self.wants_reuse(id).await?)),
            };
            if known != id {
                return Err(convert::invalid("job_id", "differs within one call"));
            }
            let bytes = request.tasks.iter().map(parameter_bytes).sum::<usize>();
            let specs = request.tasks.into_iter().enumerate();
            let specs = specs.map(|(index, spec)| {
                let mut spec = convert::spec(spec)
                    .map_err(|status| convert::within(&format!("tasks[{index}]"), &status))?;
                if reuse {
                    convert::digest_parameters(&mut spec);
                }
                Ok(Arc::new(spec))
            });
            let specs: Vec<_> = specs.collect::<Result<_, Status>>()?;
            keys.extend(specs.iter().filter_map(|spec| spec.key.clone()));
            if keys.len() > KEY_COUNT_MAX {
                return Err(Status::resource_exhausted(format!(
                    "one submit names at most {KEY_COUNT_MAX} keys; send the rest in another"
                )));
            }
            let command = Command::Submit {
                job: id,
                first_index: request.first_index,
                specs,
            };
            let turn = ahead.take_turn(&self.turns.messages).await;
            let turn = turn.map_err(convert::status)?;
            let begun = self.engine.begin(command).await.map_err(convert::status)?;
            ahead
                .push(begun, bytes, turn)
                .await
                .map_err(convert::status)?;
        }
        ahead.finish().await.map_err(convert::status)?;
        let (id, _) = job.ok_or_else(|| Status::invalid_argument("the stream is empty"))?;
        let answer = self.look(move |view| {
            let job = view.queue.job_by_id(id)?;
            let indices = keys.iter().filter_map(|key| job.index_of_key(key));
            Some(v1::SubmitResponse {
                task_count: job.task_count(),
                indices: indices.collect(),
            })
        });
        answer.await?.ok_or_else(unknown_job).map(Response::new)
    }

    async fn wants_reuse(&self, id: JobId) -> Result<bool, Status> {
        let reuse = self.look(move |view| Some(view.queue.job_by_id(id)?.terms().reuse));
        reuse.await?.ok_or_else(unknown_job)
    }
}

async fn next(
    stop: &CancellationToken,
    requests: &mut Streaming<v1::SubmitRequest>,
) -> Result<Option<v1::SubmitRequest>, Status> {
    let waited = timeout(SILENCE_MAX, convert::next_unless(stop, requests)).await;
    waited.unwrap_or_else(|_| {
        let silence_s = SILENCE_MAX.as_secs();
        Err(Status::deadline_exceeded(format!(
            "the submit said nothing for {silence_s} s; what was acknowledged is kept, send the rest again"
        )))
    })
}

/// Messages of one submit that wait for the disk, the oldest first.
struct Ahead<F> {
    begun: VecDeque<Begun<F>>,
    bytes: usize,
}

struct Begun<F> {
    done: Pin<Box<F>>,
    bytes: usize,
    _turn: OwnedSemaphorePermit,
}

impl<F: Future<Output = Result<Effect, EngineError>>> Ahead<F> {
    fn new() -> Self {
        Self {
            begun: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Waits for a turn of a message. Whoever waits has none: two that did would wait for each other.
    async fn take_turn(
        &mut self,
        turns: &Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, EngineError> {
        loop {
            if let Ok(turn) = turns.clone().try_acquire_owned() {
                return Ok(turn);
            }
            if !self.finish_oldest().await? {
                let turn = turns.clone().acquire_owned().await;
                return turn.map_err(|_| EngineError::Gone);
            }
        }
    }

    /// Adds one, and waits for the oldest as long as they are too many.
    async fn push(
        &mut self,
        done: F,
        bytes: usize,
        turn: OwnedSemaphorePermit,
    ) -> Result<(), EngineError> {
        self.bytes += bytes;
        self.begun.push_back(Begun {
            done: Box::pin(done),
            bytes,
            _turn: turn,
        });
        while self.begun.len() >= SUBMIT_MESSAGES_AHEAD_MAX || self.bytes > SUBMIT_BYTES_AHEAD_MAX {
            self.finish_oldest().await?;
        }
        Ok(())
    }

    /// Waits for something else, and finishes meanwhile what is done: a customer that says nothing more keeps no turn.
    async fn finish_until<T>(
        &mut self,
        other: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                biased;
                came = &mut other => return came,
                done = self.finish_oldest(), if !self.begun.is_empty() => {
                    done.map_err(convert::status)?;
                }
            }
        }
    }

    /// Waits for the oldest. False if there is none. Dropped on the way, it has lost nothing.
    async fn finish_oldest(&mut self) -> Result<bool, EngineError> {
        let Some(oldest) = self.begun.front_mut() else {
            return Ok(false);
        };
        let done = oldest.done.as_mut().await;
        let oldest = self.begun.pop_front();
        self.bytes -= oldest.map_or(0, |oldest| oldest.bytes);
        done.map(|_| true)
    }

    /// Waits for all.
    async fn finish(mut self) -> Result<(), EngineError> {
        while self.finish_oldest().await? {}
        Ok(())
    }
}

fn parameter_bytes(spec: &v1::TaskSpec) -> usize {
    let place = spec
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.place.as_ref());
    match place {
        Some(v1::payload::Place::Inline(bytes)) => bytes.len(),
        Some(v1::payload::Place::Blob(_)) | None => 0,
    }
}
