//! `thread:N`: a client that brings its own broker and worker.
#![cfg(feature = "embedded")]

use dewar_sdk::{CallError, Client, EmbeddedError, EmbeddedOptions, JobId, JobOptions};
use dewar_task::{Context, Kernel, Product, Registry, RunError, TaskKind};

/// Gives back its parameters.
struct Same;

impl TaskKind for Same {
    const NAME: &'static str = "test.same";
    const VERSION: u32 = 1;
    type Parameters = String;
    type Output = String;
}

impl Kernel for Same {
    fn run(&self, parameters: String, _: &Context) -> Result<Product<String>, RunError> {
        Ok(parameters.into())
    }
}

#[tokio::test]
async fn a_folder_is_locked_and_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        data_dir: folder.path().join(".dewar"),
        slot_count: 2,
        exports: Vec::new(),
        kernels: Registry::default().with(Same),
    };
    let named = JobOptions {
        id: Some(JobId::new()),
        ..JobOptions::named("test")
    };

    let client = Client::embedded(options.clone()).await.unwrap();
    let job = client.open_job(named.clone()).await.unwrap();
    job.submit::<Same>(&"first".to_owned(), vec![])
        .await
        .unwrap();
    let outcome = job.outcomes().next().await.unwrap().unwrap();
    assert_eq!(outcome.output::<Same>().unwrap().message, "first");

    let second = Client::embedded(options.clone()).await;
    assert!(matches!(second, Err(EmbeddedError::Start(_))), "{second:?}");

    client.shutdown().await;
    let gone = job.status().await;
    assert!(matches!(gone, Err(CallError::Gone { .. })), "{gone:?}");

    let client = Client::embedded(options).await.unwrap();
    let job = client.open_job(named).await.unwrap();
    assert_eq!(job.task_count().await, 1);
    let outcome = job.outcomes().next().await.unwrap().unwrap();
    assert_eq!(outcome.output::<Same>().unwrap().message, "first");
    // Dropped without a shutdown, inside a runtime.
}
