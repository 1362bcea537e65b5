//! A broker with its folder, workers and a customer, all real programs but the customer.

use crate::kinds::Noop;
use anyhow::{Context, Result};
use bytes::Bytes;
use dewar_sdk::{Client, Job, JobOptions, NewTask};
use dewar_testkit::{Broker, BrokerOptions, Guarded, Programs, WorkerOptions};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{env, fs, path::Path};
use tempfile::TempDir;

/// One broker and all that belongs to it. Dropped, it is killed and its folder is deleted.
pub(crate) struct Lab {
    pub(crate) programs: Programs,
    pub(crate) broker: Broker,
    options: BrokerOptions,
    /// Deleted after all the processes that write into it are gone.
    pub(crate) folder: TempDir,
}

impl Lab {
    /// Starts a broker whose data is in a new folder in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("dewar-").tempdir_in(dir)?;
        let options = BrokerOptions {
            data_dir: folder.path().join("broker"),
            exports: Vec::new(),
            listen: "127.0.0.1:0".to_owned(),
        };
        let broker = programs.start_broker(&options)?;
        Ok(Self {
            programs,
            broker,
            options,
            folder,
        })
    }

    /// The same data folder, served by a new process once the old one has stopped in good order.
    pub(crate) fn restart(self) -> Result<(Self, std::time::Duration)> {
        self.broker.stop()?;
        let started = std::time::Instant::now();
        let broker = self.programs.start_broker(&self.options)?;
        let taken = started.elapsed();
        Ok((Self { broker, ..self }, taken))
    }

    /// Starts a worker with the kinds of `kinds.rs`.
    pub(crate) fn worker(&self, slot_count: usize) -> Result<Guarded> {
        let options = WorkerOptions {
            name: "bench".to_owned(),
            slot_count,
            cache_dir: self.folder.path().join("cache"),
        };
        self.programs.start_worker_program(
            "bench-worker",
            &self.broker.address,
            &self.broker.token_file,
            &options,
        )
    }

    /// A customer.
    pub(crate) async fn client(&self) -> Result<Client> {
        let token = token(&self.broker.token_file)?;
        Ok(Client::connect(&self.broker.address, token).await?)
    }

    /// A job of a new customer.
    pub(crate) async fn job(&self) -> Result<Job> {
        let client = self.client().await?;
        Ok(client.open_job(JobOptions::named("proof")).await?)
    }
}

/// The programs beside the running one, or beside the folder of tests that it lies in.
pub(crate) fn programs() -> Result<Programs> {
    let running = env::current_exe()?;
    let folder = running.parent().context("a program lies in a folder")?;
    if folder.ends_with("deps") {
        return Programs::beside_test();
    }
    Programs::in_folder(folder)
}

pub(crate) fn token(file: &Path) -> Result<dewar_sdk::Token> {
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    Ok(text.parse()?)
}

/// Incompressible bytes, the same for the same seed.
pub(crate) fn noise(seed: u64, count: usize) -> Bytes {
    let mut bytes = vec![0; count];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// No-op tasks with this much to carry.
pub(crate) fn noops(count: u64, bytes: usize) -> Vec<NewTask> {
    let task = |seed| {
        let bytes = noise(seed, bytes);
        NewTask::new::<Noop>(&crate::kinds::Blob { bytes }, Vec::new())
    };
    (0..count).map(task).collect()
}
