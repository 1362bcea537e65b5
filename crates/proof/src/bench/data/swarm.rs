//! A broker behind a slow link, workers on machines of their own, and a file that all of them want.

use super::network::Network;
use crate::lab::{self, noise};
use anyhow::{Context, Result, ensure};
use dewar_blobs::{BlobRef, CACHE_BYTES_DEFAULT, Chunk, ChunkCache, ChunkList, hash_bytes};
use dewar_proto::{
    AuthorizedChannel, limits,
    transport::channel,
    v1::{self, admin_client::AdminClient},
};
use dewar_sdk::{Client, Job, JobOptions};
use dewar_testkit::{Broker, BrokerOptions, Guarded, Programs, WorkerOptions};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::sleep;

/// How often the broker is asked how far workers are.
const LOOK: Duration = Duration::from_millis(20);

/// The workers, as the broker sees them, by name.
pub(super) type Listed = BTreeMap<String, v1::Worker>;

/// All of it. Dropped, processes are killed before their network and their folder go.
pub(super) struct Swarm {
    workers: Vec<Option<Guarded>>,
    broker: Broker,
    admin: AdminClient<AuthorizedChannel>,
    channel: AuthorizedChannel,
    /// Holds the blob.
    _job: Job,
    pub(super) blob: BlobRef,
    /// As the file's own bytes have them, whatever the broker says.
    pub(super) chunks: ChunkList,
    pub(super) network: Option<Network>,
    folder: TempDir,
}

/// Where a swarm is, and of whom it consists.
pub(super) struct Plan<'a> {
    pub(super) dir: &'a Path,
    pub(super) file_bytes: usize,
    /// None: all on the loopback net.
    pub(super) network: Option<Network>,
}

impl Swarm {
    /// Starts the broker and makes a blob of a new file, in place. No worker yet.
    pub(super) async fn begin(plan: Plan<'_>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("dewar-")
            .tempdir_in(plan.dir)?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let bytes = noise(4, plan.file_bytes);
        fs::write(data.join("file"), &bytes)?;
        let chunks = hash_bytes(&bytes);
        drop(bytes);
        let broker = start_broker(&plan, &folder, &data)?;
        let token = lab::token(&broker.token_file)?;
        let channel = channel(&broker.address, token.clone())?;
        let client = Client::connect(&broker.address, token).await?;
        let job = client.open_job(JobOptions::named("bench")).await?;
        let blob = job.import_file(&data.join("file"), |_| {}).await?;
        Ok(Self {
            workers: Vec::new(),
            admin: AdminClient::new(channel.clone())
                .max_decoding_message_size(limits::MESSAGE_BYTES_MAX),
            channel,
            broker,
            _job: job,
            blob,
            chunks,
            network: plan.network,
            folder,
        })
    }

    /// A connection to the broker, through the link.
    pub(super) fn channel(&self) -> AuthorizedChannel {
        self.channel.clone()
    }

    /// Where the broker listens, and its token's file.
    pub(super) fn broker(&self) -> (&str, &Path) {
        (&self.broker.address, &self.broker.token_file)
    }

    /// Starts a worker with further flags, on a machine of its own if there is a network.
    pub(super) fn add_worker(&mut self, cache: &str, flags: &[&str]) -> Result<()> {
        let n = self.workers.len();
        let options = WorkerOptions {
            name: name(n),
            slot_count: 1,
            cache_dir: self.folder.path().join(cache),
        };
        let programs = lab::programs()?.with_flags(flags);
        let programs = match &self.network {
            Some(network) => programs.in_namespace(network.worker(n)),
            None => programs,
        };
        let worker = programs.start_worker(&self.broker, &options)?;
        self.workers.push(Some(worker));
        Ok(())
    }

    /// Waits until peers can fetch from every worker.
    pub(super) async fn until_reached(&mut self) -> Result<()> {
        let count = self.workers.len();
        self.until(Duration::from_secs(60), "workers to be reached", |listed| {
            let reached = listed.values().filter(|one| !one.data_address.is_empty());
            reached.count() == count
        })
        .await
        .map(drop)
    }

    /// Has all workers fetch the file, from now on, for as long as what is given back lives.
    pub(super) async fn precache(&mut self) -> Result<tonic::Streaming<v1::PrecacheResponse>> {
        let request = v1::PrecacheRequest {
            blobs: vec![self.blob.into()],
            site: String::new(),
        };
        Ok(self.admin.precache(request).await?.into_inner())
    }

    /// Waits until these workers have the whole file.
    pub(super) async fn until_complete(&mut self, limit: Duration, of: &[usize]) -> Result<Listed> {
        let (names, size) = (of.iter().copied().map(name), self.blob.size_bytes);
        let names: Vec<_> = names.collect();
        self.until(limit, "workers to have the whole file", |listed| {
            let has_all = |name| listed.get(name).is_some_and(|one| one.held_bytes >= size);
            names.iter().all(has_all)
        })
        .await
    }

    /// Waits until the list of workers is as wanted.
    pub(super) async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        is_so: impl Fn(&Listed) -> bool,
    ) -> Result<Listed> {
        let deadline = Instant::now() + limit;
        loop {
            let listed = self.list().await?;
            if is_so(&listed) {
                return Ok(listed);
            }
            ensure!(
                Instant::now() < deadline,
                "waited {} s for {what}: {listed:#?}",
                limit.as_secs()
            );
            sleep(LOOK).await;
        }
    }

    pub(super) async fn list(&mut self) -> Result<Listed> {
        let listed = self.admin.list_workers(v1::ListWorkersRequest {}).await?;
        let workers = listed.into_inner().workers.into_iter();
        Ok(workers.map(|one| (one.name.clone(), one)).collect())
    }

    /// Kills a worker.
    pub(super) fn kill(&mut self, n: usize) -> Result<()> {
        let worker = self.workers[n].take().context("it is killed once")?;
        worker.kill()
    }

    /// Ends all workers, so that their folders are still.
    pub(super) fn stop_workers(&mut self) -> Result<()> {
        for worker in &mut self.workers {
            if let Some(worker) = worker.take() {
                worker.stop()?;
            }
        }
        Ok(())
    }

    pub(super) fn cache(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Chunks of the file that a cache folder holds as they should be.
    pub(super) fn right_chunks(&self, cache: &str) -> Result<u64> {
        let cache = ChunkCache::open(&self.cache(cache), CACHE_BYTES_DEFAULT)?;
        let chunks = (0..self.chunks.chunk_count()).filter_map(|index| self.chunk(index));
        Ok(chunks
            .filter(|chunk| matches!(cache.get(chunk), Ok(Some(_))))
            .count() as u64)
    }

    pub(super) fn chunk(&self, index: u64) -> Option<Chunk> {
        self.chunks.chunk(index)
    }
}

/// The `n`-th worker's name, from 0; its cache is called so too, if it has one for itself.
pub(super) fn name(n: usize) -> String {
    format!("w{n}")
}

fn start_broker(plan: &Plan, folder: &TempDir, data: &Path) -> Result<Broker> {
    let options = BrokerOptions {
        data_dir: folder.path().join("broker"),
        exports: vec![data.to_owned()],
        listen: match &plan.network {
            Some(network) => network.broker_listen(),
            None => "127.0.0.1:0".to_owned(),
        },
    };
    let programs = match &plan.network {
        Some(network) => outside(lab::programs()?, network),
        None => lab::programs()?,
    };
    programs.start_broker(&options)
}

fn outside(programs: Programs, network: &Network) -> Programs {
    programs
        .in_namespace(network.broker())
        .with_flags(&["--insecure"])
}
