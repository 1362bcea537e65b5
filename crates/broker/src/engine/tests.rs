//! An answer is a promise: none is given when the disk fails.

use super::*;
use crate::{disk_space::DiskBounds, store::MemStore};
use dewar_queue::JobId;
use std::sync::Arc;

/// A disk that is full from the first write.
struct FullDisk;

impl Store for FullDisk {
    fn replay(&mut self, _apply: &mut dyn FnMut(Event)) -> Result<(), StoreError> {
        Ok(())
    }

    fn append(&mut self, _batch: &[Event]) -> Result<(), StoreError> {
        Err(StoreError::Failed)
    }

    fn broker_start(&self) -> u64 {
        1
    }
}

fn open(store: Box<dyn Store>) -> (Engine, EngineHandle, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let packs = Packs::open(folder.path()).unwrap();
    let reserve = Reserve::open(folder.path(), DiskBounds::default());
    let keep: DropBlobs = Box::new(|_| Box::pin(async {}));
    let (engine, handle) = Engine::open(store, packs, reserve, Config::new(1), keep).unwrap();
    (engine, handle, folder)
}

fn create() -> Command {
    Command::CreateJob {
        id: JobId([1; 16]),
        owner: "ann".into(),
        name: "".into(),
        priority: 0,
        terms: Default::default(),
    }
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_engine_and_nothing_is_promised() {
    let (engine, handle, _folder) = open(Box::new(FullDisk));
    let running = tokio::spawn(engine.run(CancellationToken::new()));
    let answer = handle.command(create()).await;
    assert!(matches!(answer, Err(EngineError::Gone)), "{answer:?}");
    let ended = running.await.unwrap();
    assert!(matches!(ended, Err(EngineFault::Store(_))), "{ended:?}");
}

#[tokio::test]
async fn what_waits_when_it_is_told_to_stop_is_still_answered() {
    let (engine, handle, _folder) = open(Box::new(MemStore::default()));
    let stop = CancellationToken::new();
    let asked = tokio::spawn({
        let handle = handle.clone();
        async move { handle.command(create()).await }
    });
    tokio::task::yield_now().await;
    stop.cancel();
    engine.run(stop).await.unwrap();
    assert!(asked.await.unwrap().is_ok());
    let late = handle.command(create()).await;
    assert!(matches!(late, Err(EngineError::Gone)));
}

/// The queue knows no wire, so it has a number of its own for what workers count in.
#[test]
fn queue_and_wire_mean_the_same_chunk() {
    assert_eq!(dewar_queue::CHUNK_BYTES, dewar_proto::limits::CHUNK_BYTES);
}

#[tokio::test]
async fn holdings_of_a_worker_that_is_gone_harm_nobody() {
    let (engine, handle, _folder) = open(Box::new(MemStore::default()));
    let running = tokio::spawn(engine.run(CancellationToken::new()));
    handle
        .note_holdings(WorkerId([1; 16]), Vec::new())
        .await
        .unwrap();
    assert!(handle.command(create()).await.is_ok());
    running.abort();
}

fn submit(job: u8, first_index: u64, lengths: &[usize]) -> Command {
    let kind = dewar_queue::Kind {
        name: "test".into(),
        version: 1,
    };
    let parameters = lengths.iter().map(|length| vec![7; *length].into());
    let parameters = parameters.map(dewar_queue::Payload::Inline);
    let specs = parameters.map(|bytes| Arc::new(dewar_queue::TaskSpec::new(kind.clone(), bytes)));
    Command::Submit {
        job: JobId([job; 16]),
        first_index,
        specs: specs.collect(),
    }
}

/// Sizes of the pack files.
fn packs(folder: &tempfile::TempDir) -> Vec<u64> {
    let files = std::fs::read_dir(folder.path()).unwrap();
    let files = files.map(|file| file.unwrap());
    let packs = files.filter(|file| file.path().extension().is_some_and(|end| end == "pack"));
    packs.map(|file| file.metadata().unwrap().len()).collect()
}

#[tokio::test]
async fn nothing_is_packed_of_what_is_refused_or_known() {
    let (engine, handle, folder) = open(Box::new(MemStore::default()));
    let running = tokio::spawn(engine.run(CancellationToken::new()));
    let packed_bytes = || packs(&folder).iter().sum::<u64>();
    handle.command(create()).await.unwrap();
    handle.command(submit(1, 0, &[5_000])).await.unwrap();
    assert_eq!(packed_bytes(), 5_000);

    // All in one batch.
    let mut begun = Vec::new();
    for (job, first_index, is_well) in [(1, 7, false), (2, 0, false), (1, 0, true), (1, 1, true)] {
        let submit = submit(job, first_index, &[5_000, 6_000]);
        begun.push((handle.begin(submit).await.unwrap(), is_well));
    }
    for (answer, is_well) in begun {
        assert_eq!(answer.await.is_ok(), is_well);
    }
    // Of the last two the second task is new.
    assert_eq!(packed_bytes(), 5_000 + 2 * 6_000);
    running.abort();
}

#[tokio::test]
async fn many_small_parameters_are_packed_together() {
    let (engine, handle, folder) = open(Box::new(MemStore::default()));
    let running = tokio::spawn(engine.run(CancellationToken::new()));
    handle.command(create()).await.unwrap();
    handle.command(submit(1, 0, &[300; 200])).await.unwrap();
    let file_count = || packs(&folder).len();
    assert_eq!(file_count(), 0, "60 kB");
    handle.command(submit(1, 200, &[300; 300])).await.unwrap();
    assert_eq!(file_count(), 1, "90 kB");
    running.abort();
}
