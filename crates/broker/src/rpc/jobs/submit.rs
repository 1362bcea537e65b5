//! Submits: messages taken one after another, several of them on their way to the disk at a time.

use super::{JobsService, unknown_job};
use crate::{
    engine::{Effect, EngineError},
    rpc::convert,
};
use dewar_proto::{
    limits::{MESSAGE_BYTES_MAX, SUBMIT_TASKS_MAX},
    v1,
};
use dewar_queue::{Command, JobId};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

/// Messages of one submit that wait for the disk. Together they make a full batch of the engine, and its next one comes in
/// while it is written.
const SUBMIT_MESSAGES_AHEAD_MAX: usize = 16;

/// Bytes of parameters in them: one message of the largest.
const SUBMIT_BYTES_AHEAD_MAX: usize = MESSAGE_BYTES_MAX;

/// Submits that are read at a time: each may hold a message of 8 MiB, and as much that waits for the disk. Others wait for
/// their turn.
pub(super) const SUBMIT_COUNT_MAX: usize = 32;

/// Keys in one submit, whose tasks' indices are all in its answer: that of a million is 8 MB.
const KEY_COUNT_MAX: usize = 1_000_000;

/// How long a customer may take to send the next message. It has one of few turns meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(30);

impl JobsService {
    pub(super) async fn take_submit(
        &self,
        mut requests: Streaming<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let _turn = self.submits.acquire().await;
        let mut job = None;
        let mut keys = Vec::new();
        let mut ahead = Ahead::new();
        while let Some(request) = next(&self.stop, &mut requests).await? {
            self.disk.admit().map_err(convert::no_room)?;
            let id = convert::job_id("job_id", &request.job_id)?;
            let (known, reuse) = match job {
                Some(known) => known,
                None => *job.insert((id, self.wants_reuse(id).await?)),
            };
            if known != id {
                return Err(convert::invalid("job_id", "differs within one call"));
            }
            if request.tasks.len() > SUBMIT_TASKS_MAX {
                let problem = format!(
                    "has {} tasks, at most {SUBMIT_TASKS_MAX} a message",
                    request.tasks.len()
                );
                return Err(convert::invalid("tasks", problem));
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
            let begun = self.engine.begin(command).await.map_err(convert::status)?;
            ahead.push(begun, bytes).await.map_err(convert::status)?;
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
    begun: VecDeque<(F, usize)>,
    bytes: usize,
}

impl<F: Future<Output = Result<Effect, EngineError>>> Ahead<F> {
    fn new() -> Self {
        Self {
            begun: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Adds one, and waits for the oldest as long as they are too many.
    async fn push(&mut self, begun: F, bytes: usize) -> Result<(), EngineError> {
        self.begun.push_back((begun, bytes));
        self.bytes += bytes;
        while self.begun.len() >= SUBMIT_MESSAGES_AHEAD_MAX || self.bytes > SUBMIT_BYTES_AHEAD_MAX {
            let Some((oldest, bytes)) = self.begun.pop_front() else {
                break;
            };
            oldest.await?;
            self.bytes -= bytes;
        }
        Ok(())
    }

    /// Waits for all.
    async fn finish(self) -> Result<(), EngineError> {
        for (begun, _) in self.begun {
            begun.await?;
        }
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
