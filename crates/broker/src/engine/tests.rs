//! An answer is a promise: none is given when the disk fails.

use super::*;
use crate::{disk_space::DiskBounds, store::MemStore};
use dewar_queue::JobId;

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
