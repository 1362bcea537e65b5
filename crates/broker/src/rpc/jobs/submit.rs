//! Submits: messages taken one after another, several of them on their way to the disk at a time.

use super::{JobsService, Selector, unknown_job};
use crate::{
    engine::{Effect, EngineError},
    rpc::{auth::Caller, convert},
};
use dewar_proto::{limits::MESSAGE_BYTES_MAX, v1};
use dewar_queue::{Command, JobId};
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Response, Status, Streaming};

/// Messages of one submit that wait for the disk. Together they make a full batch of the engine, and its next one comes in
/// while it is written.
const SUBMIT_MESSAGES_AHEAD_MAX: usize = 16;

/// Bytes of parameters in them: one message of the largest.
const SUBMIT_BYTES_AHEAD_MAX: usize = MESSAGE_BYTES_MAX;

/// Keys in one submit, whose tasks' indices are all in its answer: that of a million is 8 MB.
const KEY_COUNT_MAX: usize = 1_000_000;

/// How long a customer may say nothing. It has one of the open submits meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A connection that brings less than this in that time is silent: what keeps it alive is a fraction of it, and the slowest
/// modem brings ten times as much.
const SILENCE_BYTES_MAX: u64 = 4 << 10;

impl JobsService {
    pub(super) async fn take_submit(
        &self,
        mut requests: Streaming<v1::SubmitRequest>,
        caller: &Caller,
        read_bytes: &AtomicU64,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let mut job = None;
        let mut keys = Vec::new();
        let mut ahead = Ahead::new();
        while let Some(request) = ahead
            .finish_until(unless_silent(
                read_bytes,
                convert::next_unless(&self.stop, &mut requests),
            ))
            .await?
        {
            self.disk.admit().map_err(convert::no_room)?;
            let id = convert::job_id("job_id", &request.job_id)?;
            let (known, reuse) = match job {
                Some(known) => known,
                None => *job.insert((id, self.wants_reuse(id, caller).await?)),
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

    async fn wants_reuse(&self, id: JobId, caller: &Caller) -> Result<bool, Status> {
        self.own(caller, Selector::Id(id)).await?;
        let reuse = self.look(move |view| Some(view.queue.job_by_id(id)?.terms().reuse));
        reuse.await?.ok_or_else(unknown_job)
    }
}

/// Waits for the next message, however long it takes on a slow link, and not for one that does not come.
async fn unless_silent<T>(
    read_bytes: &AtomicU64,
    message: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let mut message = pin!(message);
    loop {
        let before = read_bytes.load(Ordering::Relaxed);
        if let Ok(came) = timeout(SILENCE_MAX, &mut message).await {
            return came;
        }
        if read_bytes.load(Ordering::Relaxed) - before <= SILENCE_BYTES_MAX {
            let silence_s = SILENCE_MAX.as_secs();
            return Err(Status::deadline_exceeded(format!(
                "the submit said nothing for {silence_s} s; what was acknowledged is kept, send the rest again"
            )));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{Instant, sleep};

    /// How long one waits for a message that never comes whole, while so much of it comes each second for five minutes.
    async fn waited(bytes_per_s: u64) -> Duration {
        let began = Instant::now();
        let read_bytes = AtomicU64::new(0);
        let link = async {
            for _ in 0..300 {
                sleep(Duration::from_secs(1)).await;
                read_bytes.fetch_add(bytes_per_s, Ordering::Relaxed);
            }
            pending::<Result<(), Status>>().await
        };
        let refused = unless_silent(&read_bytes, link).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_on_a_slow_link_is_waited_for_and_silence_is_not() {
        assert_eq!(waited(0).await, SILENCE_MAX);
        assert_eq!(waited(10).await, SILENCE_MAX, "what keeps a link alive");
        let slow = waited(1000).await;
        assert!(slow >= Duration::from_secs(300), "{slow:?}");
        assert!(
            slow <= Duration::from_secs(300) + 2 * SILENCE_MAX,
            "{slow:?}"
        );
    }
}
