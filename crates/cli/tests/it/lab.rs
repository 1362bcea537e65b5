//! A real broker and worker in the test's own process, with a job whose tasks run until they are stopped.

use crate::dewar::{Ran, command, ran};
use dewar_embedded::{Embedded, Options};
use dewar_sdk::{Client, Job, JobOptions, NewTask};
use dewar_task::{Context, Kernel, Product, Registry, RunError, TaskKind};
use serde_json::Value;
use std::{thread, time::Duration};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Slots of the worker.
pub const SLOTS: u16 = 2;

/// Tasks of the job.
pub const TASKS: usize = 9;

/// Runs until it is stopped, unless it was given something to read.
struct Hold;

impl TaskKind for Hold {
    const NAME: &'static str = "test.hold";
    const VERSION: u32 = 1;
    type Parameters = ();
    type Output = ();
}

impl Kernel for Hold {
    fn run(&self, (): (), context: &Context) -> Result<Product<()>, RunError> {
        if context.input_count() > 0 {
            return Err(RunError::BadInput("there is nothing to hold".to_owned()));
        }
        context.set_progress(0.25);
        loop {
            context.check()?;
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A broker, its worker, and a job at work. The order of fields is that in which they end.
pub struct Lab {
    pub job: Job,
    embedded: Embedded,
    runtime: Runtime,
    _folder: TempDir,
}

impl Lab {
    /// Starts everything, and waits until every slot is at work.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = Options {
            data_dir: folder.path().to_owned(),
            slot_count: SLOTS,
            exports: Vec::new(),
            kernels: Registry::default().with(Hold),
        };
        let (embedded, job) = runtime.block_on(async {
            let embedded = Embedded::start(options).await.unwrap();
            let client = Client::connect(embedded.address(), embedded.token().parse().unwrap())
                .await
                .unwrap();
            let job = client
                .open_job(JobOptions::named("hold the line"))
                .await
                .unwrap();
            job.submit_all(
                (0..TASKS)
                    .map(|_| NewTask::new::<Hold>(&(), Vec::new()))
                    .collect(),
            )
            .await
            .unwrap();
            (embedded, job)
        });
        let lab = Self {
            job,
            embedded,
            runtime,
            _folder: folder,
        };
        // What a worker was given but has not begun may show as running too.
        lab.wait_until("every slot works", |lab| {
            let status = lab.status();
            status["running_count"].as_u64() >= Some(SLOTS.into())
        });
        lab
    }

    /// Adds a task for which no worker is large enough, and one that waits for it. Both have keys.
    pub fn submit_what_waits(&self) {
        let task = |key: &str| NewTask::new::<Hold>(&(), Vec::new()).key(key);
        self.runtime.block_on(async {
            let large = vec![task("the large one").slots(4096)];
            let given = self.job.submit_keyed(large).await.unwrap();
            let after = vec![task("the patient one").after(given)];
            self.job.submit_keyed(after).await.unwrap();
        });
    }

    /// Adds a task that fails as soon as it has its input, which a slot is made free for, and gives its index.
    pub fn submit_what_fails(&self) -> u64 {
        let index = self.runtime.block_on(async {
            let blob = self.job.upload(b"something".to_vec().into()).await.unwrap();
            let task = NewTask::new::<Hold>(&(), vec![blob.into()]);
            self.job.submit_all(vec![task]).await.unwrap().start
        });
        for held in 0..TASKS {
            self.dewar(&["cancel", &format!("{}.{held}", self.job_name())])
                .ok();
        }
        index.0
    }

    /// Where the broker listens.
    pub fn address(&self) -> &str {
        self.embedded.address()
    }

    /// The broker's token.
    pub fn token(&self) -> &str {
        self.embedded.token()
    }

    /// Takes the broker away, and its worker with it.
    pub fn stop(&self) {
        self.embedded.stop();
    }

    /// The job's short name.
    pub fn job_name(&self) -> String {
        format!("j{}", self.job.number())
    }

    /// Runs `dewar` with these words against the broker.
    pub fn dewar(&self, words: &[&str]) -> Ran {
        let mut command = command();
        command
            .args(words)
            .env("DEWAR_BROKER", self.address())
            .env("DEWAR_TOKEN", self.token());
        ran(&mut command)
    }

    /// What `dewar status --json` says.
    pub fn status(&self) -> Value {
        self.dewar(&["status", "--json"]).ok().json()
    }

    /// Asks until the answer is yes.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        dewar_testkit::wait_until(what, Duration::from_secs(20), || Ok(is_so(self))).unwrap();
    }
}
