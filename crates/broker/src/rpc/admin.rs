//! The service Admin: what the people who run the machines ask.

use super::{auth, convert, traffic::Traffic};
use crate::{
    disk_space::DiskSpace,
    engine::{EngineHandle, View, unix_ms},
    swarm::{Counters, SwarmHandle, Unreached},
};
use dewar_blobs::BlobRef;
use dewar_proto::{PROTOCOL, v1};
use dewar_queue::{Command, Worker, WorkerId};
use futures::{StreamExt as _, stream::BoxStream};
use std::{collections::HashMap, sync::Arc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Blobs of one precaching: the stacks of a data set are at most some thousands.
const PRECACHE_BLOBS_MAX: usize = 65_536;

/// What does not change while the broker runs.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) host_name: String,
    pub(crate) started_unix_ms: u64,
    pub(crate) data_dir: String,
}

pub(crate) struct AdminService {
    engine: EngineHandle,
    about: About,
    blob_bytes: super::BlobBytes,
    disk: DiskSpace,
    swarm: SwarmHandle,
    traffic: Traffic,
}

impl AdminService {
    pub(super) fn new(
        engine: EngineHandle,
        about: About,
        blob_bytes: super::BlobBytes,
        disk: DiskSpace,
        swarm: SwarmHandle,
        traffic: Traffic,
    ) -> Self {
        Self {
            engine,
            about,
            blob_bytes,
            disk,
            swarm,
            traffic,
        }
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.engine.query(look).await.map_err(convert::status)
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    type PrecacheStream = BoxStream<'static, Result<v1::PrecacheResponse, Status>>;

    async fn precache(
        &self,
        request: Request<v1::PrecacheRequest>,
    ) -> Result<Response<Self::PrecacheStream>, Status> {
        let v1::PrecacheRequest { blobs, site } = request.into_inner();
        if blobs.is_empty() || blobs.len() > PRECACHE_BLOBS_MAX {
            let problem = format!("has {}, must have 1 to {PRECACHE_BLOBS_MAX}", blobs.len());
            return Err(convert::invalid("blobs", problem));
        }
        let blobs = blobs.iter().enumerate().map(|(index, blob)| {
            BlobRef::from_wire(Some(blob), &format!("blobs[{index}]"))
                .map_err(|error| Status::invalid_argument(error.to_string()))
        });
        let blobs = blobs.collect::<Result<_, _>>()?;
        let site = convert::name("site", &site)?;
        let site = Some(site).filter(|site| !site.is_empty());
        let progress = self.swarm.precache(blobs, site).await.map_err(|_| gone())?;
        let progress = ReceiverStream::new(progress).map(|progress| {
            Ok(v1::PrecacheResponse {
                worker_count: progress.worker_count,
                held_bytes: progress.held_bytes,
                wanted_bytes: progress.wanted_bytes,
                failures: progress.failures,
            })
        });
        Ok(Response::new(progress.boxed()))
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let About {
            host_name,
            started_unix_ms,
            data_dir,
        } = self.about.clone();
        let broker_start = self.engine.broker_start();
        let blob_bytes = (self.blob_bytes)();
        let free_bytes = self.disk.free_bytes();
        let sent_blob_bytes = self.traffic.sent_bytes();
        let received_blob_bytes = self.traffic.received_bytes();
        let refusing = self.disk.admit().err();
        let refusing_reason = refusing.map_or_else(String::new, |full| full.to_string());
        let status = self.look(move |View { queue, .. }| v1::StatusResponse {
            protocol: Some(PROTOCOL),
            program_version: env!("CARGO_PKG_VERSION").into(),
            host_name,
            started_unix_ms,
            broker_start,
            data_dir,
            job_count: queue.jobs().count() as u64,
            waiting_count: queue.counts().waiting,
            running_count: queue.counts().running,
            worker_count: queue.workers().count() as u64,
            slot_count: queue
                .workers()
                .map(|worker| u64::from(worker.hello().slot_count))
                .sum(),
            blob_bytes,
            free_bytes,
            refusing_reason,
            sent_blob_bytes,
            received_blob_bytes,
            now_unix_ms: unix_ms(),
        });
        status.await.map(Response::new)
    }

    async fn list_workers(
        &self,
        _request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let workers = self.look(|view| {
            let workers = view.queue.workers();
            let mut workers: Vec<_> = workers.map(|worker| worker_of(view, worker)).collect();
            workers.sort_by(|a, b| (&a.name, &a.worker_id).cmp(&(&b.name, &b.worker_id)));
            workers
        });
        let mut workers = workers.await?;
        let shares = self.swarm.look(|tracker, near| {
            let shares = tracker.members().map(|(id, member)| {
                let share = MemberShare {
                    data_address: member.address().map(|address| address.to_string()),
                    unreached: member.unreached().cloned(),
                    held_bytes: tracker.held_bytes(id),
                    counters: member.counters(),
                    kept_bytes: near.kept_bytes_of(id),
                };
                (id.0, share)
            });
            shares.collect::<HashMap<_, _>>()
        });
        let mut shares = shares.await.map_err(|_| gone())?;
        for worker in &mut workers {
            let id = worker.worker_id.as_slice().try_into().ok();
            if let Some(share) = id.and_then(|id: [u8; 16]| shares.remove(&id)) {
                share.show(worker);
            }
        }
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        let caller = auth::caller(&request)?;
        let v1::DrainRequest {
            workers: asked,
            all,
        } = request.into_inner();
        if asked.is_empty() != all {
            let problem = "name workers or set `all`, one of the two";
            return Err(convert::invalid("workers", problem));
        }
        if all {
            caller.may_change_all("all workers", "name your own")?;
        }
        let chosen = self.look(move |view| choose(view, &asked)).await??;
        // All of them or none.
        for Chosen { name, owner, .. } in &chosen {
            caller.may_change(format_args!("worker {name}"), owner)?;
        }
        let mut workers = Vec::new();
        for Chosen { id, name, .. } in chosen {
            // A worker may leave between the look and the command: then it needs no telling.
            if self
                .engine
                .command(Command::Drain { worker: id })
                .await
                .is_ok()
            {
                workers.push(name);
            }
        }
        workers.sort();
        Ok(Response::new(v1::DrainResponse { workers }))
    }
}

/// A worker that was named, or meant with all others.
struct Chosen {
    id: WorkerId,
    name: String,
    /// Whose token it attends with.
    owner: Arc<str>,
}

/// The workers of these names or ids; all if none is given.
fn choose(view: View<'_>, asked: &[String]) -> Result<Vec<Chosen>, Status> {
    let mut chosen = Vec::new();
    let mut found = vec![false; asked.len()];
    for worker in view.queue.workers() {
        let hello = worker.hello();
        let id = uuid::Uuid::from_bytes(hello.id.0).simple().to_string();
        let mut wanted = asked.is_empty();
        for (name, found) in asked.iter().zip(&mut found) {
            if **name == *hello.name || *name == id {
                (wanted, *found) = (true, true);
            }
        }
        if wanted {
            let info = view.fleet.info(hello.id);
            chosen.push(Chosen {
                id: hello.id,
                name: hello.name.to_string(),
                owner: info.map_or_else(Arc::default, |(info, _)| info.owner.clone()),
            });
        }
    }
    match asked.iter().zip(&found).find(|(_, found)| !**found) {
        Some((name, _)) => Err(Status::not_found(format!("no worker is named {name:?}"))),
        None => Ok(chosen),
    }
}

fn worker_of(view: View<'_>, worker: &Worker) -> v1::Worker {
    let hello = worker.hello();
    let (info, joined_unix_ms) = view.fleet.info(hello.id).unzip();
    v1::Worker {
        worker_id: hello.id.0.into(),
        name: hello.name.to_string(),
        host_name: info.map_or_else(String::new, |info| info.host_name.clone()),
        slot_count: hello.slot_count,
        running_count: u32::try_from(worker.running_count()).unwrap_or(u32::MAX),
        kinds: hello.kinds.iter().map(convert::kind_to_wire).collect(),
        site: info.map_or_else(String::new, |info| info.site.clone()),
        program_version: info.map_or_else(String::new, |info| info.program_version.clone()),
        draining: worker.is_draining(),
        connected: worker.is_connected(),
        succeeded_count: worker.succeeded_count(),
        failed_count: worker.failed_count(),
        joined_unix_ms: joined_unix_ms.unwrap_or(0),
        waiting_count: u32::try_from(worker.queued_count()).unwrap_or(u32::MAX),
        memory_bytes: hello.memory_bytes,
        held_back_reason: worker.held_back_reason().unwrap_or_default(),
        owner: info.map_or_else(String::new, |info| info.owner.to_string()),
        ..Default::default()
    }
}

/// A worker's part in the swarm.
struct MemberShare {
    data_address: Option<String>,
    unreached: Option<Unreached>,
    held_bytes: u64,
    counters: Counters,
    /// None if it keeps no more results.
    kept_bytes: Option<u64>,
}

impl MemberShare {
    fn show(self, worker: &mut v1::Worker) {
        worker.data_address = self.data_address.unwrap_or_default();
        if let Some(Unreached { address, reason }) = self.unreached {
            worker.unreached_address = address.to_string();
            worker.unreached_reason = reason.to_string();
        }
        worker.held_bytes = self.held_bytes;
        worker.fetched_from_broker_bytes = self.counters.from_broker_bytes;
        worker.fetched_from_peers_bytes = self.counters.from_peers_bytes;
        worker.corrupt_count = self.counters.corrupt_count;
        worker.keeps_results = self.kept_bytes.is_some();
        worker.kept_bytes = self.kept_bytes.unwrap_or_default();
    }
}

fn gone() -> Status {
    Status::unavailable("the broker is shutting down")
}
