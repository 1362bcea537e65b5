//! A lab: one broker's folder and port, workers, and a customer.

use crate::kinds::{self, CountParameters};
use dewar_broker::{Broker, Config, NearPatience, Patience};
use dewar_sdk::{Client, Job, JobOptions, JobStatus, Outcome, Outcomes};
use dewar_worker::Worker;
use std::{
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longest wait for anything that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// After such a silence the broker gives a worker up.
pub const LEASE: Duration = Duration::from_secs(5);

pub struct Lab {
    pub broker: dewar_broker::Running,
    pub folder: TempDir,
}

/// A process that does not outlive its test, however that ends.
pub struct Process(pub Child);

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn start_broker(folder: &Path, listen: SocketAddr) -> dewar_broker::Running {
    start_broker_with(folder, listen, NearPatience::default()).await
}

pub async fn start_broker_with(
    folder: &Path,
    listen: SocketAddr,
    near: NearPatience,
) -> dewar_broker::Running {
    let started = Instant::now();
    loop {
        let config = Config {
            listen: Some(listen),
            exports: vec![folder.join("exported")],
            near,
            patience: Patience {
                heartbeat: Duration::from_millis(200),
                lease: LEASE,
                reconnect: Duration::from_millis(500),
                comeback: Duration::from_secs(1),
            },
            ..Config::new(folder.join("broker"))
        };
        match Broker::start(config).await {
            Ok(broker) => return broker,
            // The port or the folder may be held a moment longer by the one before.
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Lab {
    pub async fn open() -> Self {
        Self::open_with(NearPatience::default()).await
    }

    pub async fn open_with(near: NearPatience) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("exported")).unwrap();
        let any_port = "127.0.0.1:0".parse().unwrap();
        let broker = start_broker_with(folder.path(), any_port, near).await;
        Self { broker, folder }
    }

    pub fn worker_config(&self, slot_count: u16) -> dewar_worker::Config {
        worker_config(
            &self.broker.address().to_string(),
            self.broker.token(),
            self.path("cache"),
            slot_count,
        )
    }

    pub fn worker(&self, slot_count: u16) -> dewar_worker::Running {
        Worker::start(self.worker_config(slot_count), kinds::registry()).unwrap()
    }

    pub async fn client(&self) -> Client {
        let token = self.broker.token().parse().unwrap();
        Client::connect(&self.broker.address().to_string(), token)
            .await
            .unwrap()
    }

    pub async fn job(&self) -> Job {
        self.job_with(JobOptions::named("test")).await
    }

    pub async fn job_with(&self, options: JobOptions) -> Job {
        let client = self.client().await;
        client.open_job(options).await.unwrap()
    }

    /// Parameters of a count in the file `name`.
    pub fn count(&self, name: &str) -> CountParameters {
        CountParameters {
            file: self.path(name).to_str().unwrap().to_owned(),
            needs: String::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn worker_config(
    broker: &str,
    token: &str,
    cache_dir: PathBuf,
    slot_count: u16,
) -> dewar_worker::Config {
    dewar_worker::Config {
        broker: broker.to_owned(),
        token: token.parse().unwrap(),
        slot_count,
        name: "tester".to_owned(),
        site: String::new(),
        cache_dir,
        cache_bytes_max: 1 << 30,
        results: dewar_worker::ResultsAt::Broker,
        data: Some(dewar_worker::DataConfig::default()),
        nice: 0,
        load_limit: None,
        memory_bytes: 1 << 30,
        stuck: dewar_worker::StuckKernel::Replace,
        exit_when_idle: None,
        exit_when_unreachable: None,
    }
}

/// Waits for a condition.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a result.
pub async fn within<T>(what: &str, result: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, result).await {
        Ok(result) => result,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// The next outcome, which must come.
pub async fn next(outcomes: &mut Outcomes) -> Outcome {
    within("an outcome", outcomes.next())
        .await
        .unwrap()
        .expect("there is another outcome")
}

/// Asks until a job is as it should be.
pub async fn until_job(what: &str, job: &Job, is_so: impl Fn(&JobStatus) -> bool) {
    let asking = async {
        while !is_so(&job.status().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, asking).await;
}
