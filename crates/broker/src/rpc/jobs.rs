//! The service Jobs: what customers say.

mod show;
mod submit;
mod turns;
mod watch;

pub(super) use turns::OPEN_ON_CONNECTION_MAX;

use super::{
    auth::{self, Caller},
    connections::Connection,
    convert,
};
use crate::{
    disk_space::DiskSpace,
    engine::{Effect, EngineHandle, View},
    reports::{KeepError, Reports},
};
use dewar_blobs::{BlobRef, BlobStore, LoadedBlob};
use dewar_proto::{check_protocol, v1};
use dewar_queue::{Command, Job, JobId, JobNumber, JobTerms, TaskSelection, TaskState};
use futures::Stream;
use show::{Wanted, detail_of, job_of, tasks_page};
use std::{pin::Pin, sync::Arc};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use turns::Turns;

/// Tasks in one page of a list.
const PAGE_TASK_COUNT_MAX: u32 = 1000;

/// Jobs told of in one answer: with a name of the longest each they fit a message.
const TOLD_JOB_COUNT_MAX: usize = 4096;

/// Blobs in one release.
const RELEASE_COUNT_MAX: usize = 65_536;

pub(crate) struct JobsService {
    engine: EngineHandle,
    disk: DiskSpace,
    reports: Reports,
    watches: Arc<Semaphore>,
    turns: Turns,
    blobs: BlobStore,
    stop: CancellationToken,
}

impl JobsService {
    pub(super) fn new(
        engine: EngineHandle,
        disk: DiskSpace,
        reports: Reports,
        blobs: BlobStore,
        stop: CancellationToken,
    ) -> Self {
        Self {
            engine,
            disk,
            reports,
            watches: Arc::new(Semaphore::new(watch::WATCH_COUNT_MAX)),
            turns: Turns::new(),
            blobs,
            stop,
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

    /// A job that the caller may change.
    async fn own(&self, caller: &Caller, selector: Selector) -> Result<(JobId, JobNumber), Status> {
        let job = self.look(move |view| {
            let job = select(view, selector)?;
            Some((job.id(), job.number(), job.owner().clone()))
        });
        let (id, number, owner) = job.await?.ok_or_else(unknown_job)?;
        caller.may_change(number, &owner)?;
        Ok((id, number))
    }

    /// Tasks that the caller may change.
    async fn selection(
        &self,
        caller: &Caller,
        tasks: Option<v1::TaskSelector>,
    ) -> Result<TaskSelection, Status> {
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
            Some(By::All(true)) => {
                caller.may_change_all("all jobs", "name your own by `--owner`")?;
                Ok(TaskSelection::All)
            }
            Some(By::Owner(owner)) => {
                let owner = convert::name("tasks.owner", &owner)?;
                caller.may_change(format_args!("every job of {owner}"), &owner)?;
                Ok(TaskSelection::Owner(owner))
            }
            Some(By::Job(job)) => {
                let (_, job) = self.own(caller, selector(Some(job))?).await?;
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
        let Caller { owner, .. } = auth::caller(&request)?;
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
        let caller = auth::caller(&request)?;
        let connection = request.extensions().get::<Connection>();
        let read_bytes = connection.map(|connection| connection.read_bytes.clone());
        let _open = self.turns.open(&caller, connection).await?;
        let read_bytes = read_bytes.unwrap_or_default();
        self.take_submit(request.into_inner(), &caller, &read_bytes)
            .await
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
        let outcomes = self.begin_watch(number, request.after_sequence)?;
        Ok(Response::new(Box::pin(outcomes)))
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
        let worker_name = convert::name("worker_name", &request.worker_name)?;
        let wanted = Wanted {
            state,
            worker_name: Some(worker_name).filter(|name| !name.is_empty()),
            from_index: request.from_index,
            limit,
        };
        let page =
            self.look(move |view| select(view, selector).map(|job| tasks_page(view, job, &wanted)));
        page.await?.ok_or_else(unknown_job).map(Response::new)
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::TaskDetail>, Status> {
        let v1::GetTaskRequest { job, index } = request.into_inner();
        let selector = selector(job)?;
        let detail = self.look(move |view| {
            let job = select(view, selector).ok_or_else(unknown_job)?;
            detail_of(view, job, index).ok_or_else(|| {
                let count = job.task_count();
                let number = job.number();
                Status::not_found(format!("{number} has no task {index}, but {count} of them"))
            })
        });
        let mut detail = detail.await??;
        let blobs = self.blobs.clone();
        let named = tokio::task::spawn_blocking(move || {
            name_files(&blobs, &mut detail.inputs);
            detail
        });
        let detail = named
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(detail))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let caller = auth::caller(&request)?;
        let selector = selector(request.into_inner().job)?;
        let (id, _) = self.own(&caller, selector).await?;
        self.command(Command::CancelJob { job: id }).await?;
        self.job(id).await
    }

    async fn cancel_tasks(
        &self,
        request: Request<v1::CancelTasksRequest>,
    ) -> Result<Response<v1::CancelTasksResponse>, Status> {
        let caller = auth::caller(&request)?;
        let tasks = self.selection(&caller, request.into_inner().tasks).await?;
        let effect = self.command(Command::CancelTasks { tasks }).await?;
        let (jobs, task_count) = (effect.jobs, effect.task_count);
        let job_count = jobs.len() as u64;
        let jobs = self.look(move |view| {
            let jobs = jobs.into_iter().take(TOLD_JOB_COUNT_MAX);
            let jobs = jobs.filter_map(|job| job_of(view, view.queue.job(job)));
            jobs.collect()
        });
        Ok(Response::new(v1::CancelTasksResponse {
            job_count,
            task_count,
            jobs: jobs.await?,
        }))
    }

    async fn rerun(
        &self,
        request: Request<v1::RerunRequest>,
    ) -> Result<Response<v1::RerunResponse>, Status> {
        let caller = auth::caller(&request)?;
        let v1::RerunRequest { tasks, succeeded } = request.into_inner();
        let tasks = self.selection(&caller, tasks).await?;
        let effect = self.command(Command::Rerun { tasks, succeeded }).await?;
        Ok(Response::new(v1::RerunResponse {
            job_count: effect.jobs.len() as u64,
            task_count: effect.task_count,
            skipped: effect.skipped,
        }))
    }

    async fn close(
        &self,
        request: Request<v1::CloseJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let caller = auth::caller(&request)?;
        let id = convert::job_id("job_id", &request.into_inner().job_id)?;
        self.own(&caller, Selector::Id(id)).await?;
        self.command(Command::CloseJob { job: id }).await?;
        self.job(id).await
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let caller = auth::caller(&request)?;
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
        self.own(&caller, Selector::Id(job)).await?;
        self.command(Command::ReleaseBlobs { job, digests }).await?;
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let caller = auth::caller(&request)?;
        let v1::PublishRequest { job_id, html } = request.into_inner();
        let id = convert::job_id("job_id", &job_id)?;
        self.own(&caller, Selector::Id(id)).await?;
        self.disk.admit().map_err(convert::no_room)?;
        let kept = self.reports.keep(id.0, html.into()).await;
        kept.map_err(|error| match error {
            KeepError::TooLarge { .. } => convert::invalid("html", error.to_string()),
            KeepError::TooMany | KeepError::Disk(_) => {
                Status::resource_exhausted(error.to_string())
            }
        })?;
        Ok(Response::new(v1::PublishResponse {}))
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

/// Where files lie that are read in place. One that cannot be looked at has no name to tell.
fn name_files(blobs: &BlobStore, inputs: &mut [v1::TaskInput]) {
    for input in inputs {
        let Ok(blob) = BlobRef::from_wire(input.blob.as_ref(), "blob") else {
            continue;
        };
        let file = blobs.load(&blob.digest);
        let file = file.ok().filter(LoadedBlob::is_by_reference);
        if let Some(file) = file.and_then(|file| file.local_file().ok()) {
            input.file = String::from_utf8_lossy(&file.to_wire().path).into_owned();
        }
    }
}

fn unknown_job() -> Status {
    Status::not_found("the broker has no such job")
}
