//! The service Jobs: what customers say.

use super::{auth, convert};
use crate::{
    disk_space::DiskSpace,
    engine::{Effect, EngineError, EngineHandle, View},
};
use dewar_proto::{
    check_protocol,
    limits::{MESSAGE_BYTES_MAX, SUBMIT_TASKS_MAX},
    v1,
};
use dewar_queue::{Command, Job, JobId, JobNumber, JobTerms, Outcome, TaskSelection, TaskState};
use futures::Stream;
use std::{collections::VecDeque, pin::Pin, sync::Arc};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Tasks in one page of a list.
const PAGE_TASK_COUNT_MAX: u32 = 1000;

/// Tasks of a job looked at for one page. A page of few finds in a large job is short, and goes on from where it ended.
const PAGE_LOOK_COUNT_MAX: usize = 100_000;

/// Tasks named as those that one waits for.
const WAITS_FOR_COUNT_MAX: usize = 8;

/// Outcomes taken from the engine at a time.
const OUTCOME_COUNT_MAX: usize = 256;

/// Outcomes that wait for a customer's socket.
const WATCH_BUFFER_COUNT: usize = 64;

/// Messages of one submit that wait for the disk. Together they make a full batch of the engine, and its next one comes in
/// while it is written.
const SUBMIT_MESSAGES_AHEAD_MAX: usize = 16;

/// Bytes of parameters in them: one message of the largest.
const SUBMIT_BYTES_AHEAD_MAX: usize = MESSAGE_BYTES_MAX;

/// Blobs in one release.
const RELEASE_COUNT_MAX: usize = 65_536;

/// Customers that may watch at a time, over all connections: each has a task and a buffer of outcomes.
const WATCH_COUNT_MAX: usize = 4096;

/// Submits that are read at a time: each may hold a message of 8 MiB, and as much that waits for the disk. Others wait for
/// their turn.
const SUBMIT_COUNT_MAX: usize = 32;

pub(super) struct JobsService {
    engine: EngineHandle,
    disk: DiskSpace,
    watches: Arc<Semaphore>,
    submits: Semaphore,
}

impl JobsService {
    pub(super) fn new(engine: EngineHandle, disk: DiskSpace) -> Self {
        Self {
            engine,
            disk,
            watches: Arc::new(Semaphore::new(WATCH_COUNT_MAX)),
            submits: Semaphore::new(SUBMIT_COUNT_MAX),
        }
    }

    async fn command(&self, command: Command) -> Result<Effect, Status> {
        self.engine.command(command).await.map_err(convert::status)
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.engine.query(look).await.map_err(convert::status)
    }

    async fn wants_reuse(&self, id: JobId) -> Result<bool, Status> {
        let reuse = self.look(move |view| Some(view.queue.job_by_id(id)?.terms().reuse));
        reuse.await?.ok_or_else(unknown_job)
    }

    async fn selection(&self, tasks: Option<v1::TaskSelector>) -> Result<TaskSelection, Status> {
        use v1::task_selector::By;
        let tasks = tasks.ok_or_else(|| convert::invalid("tasks", "is missing"))?;
        let indices = tasks.task_indices;
        if !indices.is_empty() && !matches!(tasks.by, Some(By::Job(_))) {
            return Err(convert::invalid(
                "tasks.task_indices",
                "are those of one job",
            ));
        }
        match tasks.by {
            None | Some(By::All(false)) => {
                Err(convert::invalid("tasks.by", "names no job and no owner"))
            }
            Some(By::All(true)) => Ok(TaskSelection::All),
            Some(By::Owner(owner)) => {
                Ok(TaskSelection::Owner(convert::name("tasks.owner", &owner)?))
            }
            Some(By::Job(job)) => {
                let selector = selector(Some(job))?;
                let job = self.look(move |view| select(view, selector).map(Job::number));
                let job = job.await?.ok_or_else(unknown_job)?;
                Ok(if indices.is_empty() {
                    TaskSelection::Job(job)
                } else {
                    TaskSelection::Tasks { job, indices }
                })
            }
        }
    }

    async fn job(&self, id: JobId) -> Result<Response<v1::Job>, Status> {
        let job = self.look(move |view| job_of(view, view.queue.job_by_id(id)));
        job.await?.ok_or_else(unknown_job).map(Response::new)
    }
}

#[tonic::async_trait]
impl v1::jobs_server::Jobs for JobsService {
    async fn create(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let auth::Caller(owner) = auth::caller(&request)?;
        let request = request.into_inner();
        check_protocol(request.protocol, "this customer", "broker")
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        if !(-100..=100).contains(&request.priority) {
            let problem = format!("is {}, must be -100 to 100", request.priority);
            return Err(convert::invalid("priority", problem));
        }
        let id = convert::job_id("job_id", &request.job_id)?;
        self.command(Command::CreateJob {
            id,
            owner,
            name: convert::name("name", &request.name)?,
            priority: request.priority,
            terms: JobTerms {
                keep_ms: (request.keep_ms > 0).then_some(request.keep_ms),
                absence_ms_max: (request.absence_ms_max > 0).then_some(request.absence_ms_max),
                reuse: request.reuse,
            },
        })
        .await?;
        self.job(id).await
    }

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let _turn = self.submits.acquire().await;
        let mut requests = request.into_inner();
        let mut job = None;
        let mut keys = Vec::new();
        let mut ahead = Ahead::new();
        while let Some(request) = convert::next(&mut requests).await? {
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

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::Outcome, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let id = convert::job_id("job_id", &request.job_id)?;
        let number = self.look(move |view| view.queue.job_by_id(id).map(Job::number));
        let number = number.await?.ok_or_else(unknown_job)?;
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
            let watched = watch(&engine, number, request.after_sequence, &sender).await;
            let _ = engine.command(watches(false)).await;
            drop(turn);
            if let Err(status) = watched {
                // Nobody listens any more if this fails.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let unfinished_only = request.into_inner().unfinished_only;
        let jobs = self.look(move |view| {
            let jobs = view.queue.jobs();
            let wanted = jobs.filter(|job| !(unfinished_only && job.is_finished()));
            wanted.filter_map(|job| job_of(view, Some(job))).collect()
        });
        let jobs = jobs.await?;
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let selector = selector(request.into_inner().job)?;
        let job = self.look(move |view| job_of(view, select(view, selector)));
        job.await?.ok_or_else(unknown_job).map(Response::new)
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let request = request.into_inner();
        let selector = selector(request.job)?;
        let state = match v1::TaskState::try_from(request.state) {
            Err(_) => return Err(convert::invalid("state", "is none that this broker knows")),
            Ok(v1::TaskState::Unspecified) => None,
            Ok(v1::TaskState::Waiting) => Some(TaskState::Waiting),
            Ok(v1::TaskState::Running) => Some(TaskState::Running),
            Ok(v1::TaskState::Succeeded) => Some(TaskState::Succeeded),
            Ok(v1::TaskState::Failed) => Some(TaskState::Failed),
            Ok(v1::TaskState::Cancelled) => Some(TaskState::Cancelled),
        };
        let limit = match request.limit {
            0 => PAGE_TASK_COUNT_MAX,
            limit => limit.min(PAGE_TASK_COUNT_MAX),
        };
        let from_index = request.from_index;
        let page = self.look(move |view| {
            select(view, selector).map(|job| tasks_page(view, job, state, from_index, limit))
        });
        page.await?.ok_or_else(unknown_job).map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let selector = selector(request.into_inner().job)?;
        let id = self.look(move |view| select(view, selector).map(Job::id));
        let id = id.await?.ok_or_else(unknown_job)?;
        self.command(Command::CancelJob { job: id }).await?;
        self.job(id).await
    }

    async fn cancel_tasks(
        &self,
        request: Request<v1::CancelTasksRequest>,
    ) -> Result<Response<v1::CancelTasksResponse>, Status> {
        let tasks = self.selection(request.into_inner().tasks).await?;
        let effect = self.command(Command::CancelTasks { tasks }).await?;
        Ok(Response::new(v1::CancelTasksResponse {
            job_count: effect.job_count,
            task_count: effect.task_count,
        }))
    }

    async fn rerun(
        &self,
        request: Request<v1::RerunRequest>,
    ) -> Result<Response<v1::RerunResponse>, Status> {
        let v1::RerunRequest { tasks, succeeded } = request.into_inner();
        let tasks = self.selection(tasks).await?;
        let effect = self.command(Command::Rerun { tasks, succeeded }).await?;
        Ok(Response::new(v1::RerunResponse {
            job_count: effect.job_count,
            task_count: effect.task_count,
        }))
    }

    async fn close(
        &self,
        request: Request<v1::CloseJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let id = convert::job_id("job_id", &request.into_inner().job_id)?;
        self.command(Command::CloseJob { job: id }).await?;
        self.job(id).await
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let request = request.into_inner();
        if request.digests.len() > RELEASE_COUNT_MAX {
            let problem = format!("has {}, at most {RELEASE_COUNT_MAX}", request.digests.len());
            return Err(convert::invalid("digests", problem));
        }
        let digests = request.digests.iter().enumerate();
        let digests = digests
            .map(|(index, digest)| convert::digest(&format!("digests[{index}]"), digest))
            .collect::<Result<_, _>>()?;
        let job = convert::job_id("job_id", &request.job_id)?;
        self.command(Command::ReleaseBlobs { job, digests }).await?;
        Ok(Response::new(v1::ReleaseResponse {}))
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

#[derive(Debug, Clone, Copy)]
enum Selector {
    Id(JobId),
    Number(JobNumber),
}

fn selector(selector: Option<v1::JobSelector>) -> Result<Selector, Status> {
    match selector.and_then(|selector| selector.by) {
        None => Err(convert::invalid("job", "neither job_id nor number is set")),
        Some(v1::job_selector::By::JobId(id)) => {
            Ok(Selector::Id(convert::job_id("job.job_id", &id)?))
        }
        Some(v1::job_selector::By::Number(number)) => Ok(Selector::Number(JobNumber(number))),
    }
}

fn select(view: View<'_>, selector: Selector) -> Option<&Job> {
    match selector {
        Selector::Id(id) => view.queue.job_by_id(id),
        Selector::Number(number) => view.queue.job(number),
    }
}

fn unknown_job() -> Status {
    Status::not_found("the broker has no such job")
}

fn job_of(view: View<'_>, job: Option<&Job>) -> Option<v1::Job> {
    let job = job?;
    let counts = view.queue.counts_of(job);
    let terms = job.terms();
    Some(v1::Job {
        job_id: job.id().0.into(),
        number: job.number().0,
        name: job.name().to_string(),
        owner: job.owner().to_string(),
        priority: job.priority(),
        created_unix_ms: job.created_unix_ms(),
        closed: job.is_closed(),
        waiting_count: counts.waiting,
        running_count: counts.running,
        succeeded_count: counts.succeeded,
        failed_count: counts.failed,
        cancelled_count: counts.cancelled,
        blocked_reason: view.queue.blocked_reason(job).unwrap_or_default(),
        keep_ms: terms.keep_ms.unwrap_or(view.queue.config().keep_ms),
        absence_ms_max: terms.absence_ms_max.unwrap_or(0),
        reuse: terms.reuse,
        last_sequence: job.outcome_count(),
    })
}

fn tasks_page(
    view: View<'_>,
    job: &Job,
    state: Option<TaskState>,
    from_index: u64,
    limit: u32,
) -> v1::ListTasksResponse {
    let mut tasks = Vec::new();
    let mut next_index = from_index;
    for _ in 0..PAGE_LOOK_COUNT_MAX {
        if tasks.len() >= limit as usize {
            break;
        }
        let Some(task) = job.task(next_index) else {
            break;
        };
        let task_state = view.queue.state_of(task);
        if state.is_none_or(|state| state == task_state) {
            let workers = task
                .live()
                .iter()
                .filter_map(|(_, id)| view.queue.worker(*id));
            let progress = task
                .live()
                .iter()
                .map(|(attempt, _)| view.fleet.progress(*attempt));
            tasks.push(v1::Task {
                index: next_index,
                kind: Some(convert::kind_to_wire(&task.spec().kind)),
                state: convert::state_to_wire(task_state).into(),
                attempts_begun: task.attempts_begun(),
                worker_names: workers
                    .map(|worker| worker.hello().name.to_string())
                    .collect(),
                failure: task.failure().map(convert::failure_to_wire),
                run_ms: task.outcome().map_or(0, |outcome| outcome.run_ms),
                progress: match task.state() {
                    TaskState::Succeeded => 1.0,
                    _ => progress.fold(0.0, f32::max),
                },
                key: task.spec().key.as_deref().unwrap_or_default().into(),
                generation: task.generation(),
                reused: task.outcome().is_some_and(|outcome| outcome.reused),
                waits_for: task.waits_for().take(WAITS_FOR_COUNT_MAX).collect(),
            });
        }
        next_index += 1;
    }
    let more = next_index < job.task_count();
    v1::ListTasksResponse {
        tasks,
        next_index: if more { next_index } else { 0 },
    }
}
