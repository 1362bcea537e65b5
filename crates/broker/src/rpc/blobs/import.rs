//! Files used by reference: answered at once, and hashed afterwards whether or not anyone still listens.

use super::{
    BlobsService, on_disk,
    status::{from_import, from_load},
};
use dewar_blobs::{BlobRef, BlobStore, Digest};
use dewar_proto::v1::{ImportFileResponse, import_file_response::Step};
use dewar_queue::JobId;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Often enough for a progress bar, seldom enough for the wire.
const PROGRESS_BYTES: u64 = 64 << 20;

/// Where an import tells how far it is.
pub(super) type Steps = mpsc::Sender<Result<ImportFileResponse, Status>>;

/// Files whose own digests are being computed, one after another: each is read by several threads.
#[derive(Debug, Clone)]
pub(super) struct Hashing {
    running: Arc<Mutex<HashMap<Digest, watch::Receiver<Progress>>>>,
    turn: Arc<Semaphore>,
    stop: CancellationToken,
}

/// How far the hashing of one file is.
#[derive(Debug, Clone, Default)]
struct Progress {
    hashed_bytes: u64,
    ended: Option<Result<Digest, Status>>,
}

impl BlobsService {
    /// Imports a file, says so, and tells of the hashing for as long as someone listens.
    pub(super) async fn import(&self, path: PathBuf, job: Option<JobId>, steps: &Steps) {
        let tell = async |step| {
            let step = ImportFileResponse { step: Some(step) };
            steps.send(Ok(step)).await.is_ok()
        };
        let blob = match self.import_and_hold(path.clone(), job).await {
            Ok(blob) => blob,
            Err(status) => {
                // Whoever asked may have gone.
                let _ = steps.send(Err(status)).await;
                return;
            }
        };
        let mut progress = self.hashing.begin(&self.store, blob.digest, path);
        let mut listens = tell(Step::Blob(blob.into())).await;
        while listens {
            let Progress {
                hashed_bytes,
                ended,
            } = progress.borrow_and_update().clone();
            listens = match ended {
                None => tell(Step::HashedBytes(hashed_bytes)).await,
                Some(ended) => {
                    let last = ended.map(|digest| ImportFileResponse {
                        step: Some(Step::Digest(digest.0.into())),
                    });
                    let _ = steps.send(last).await;
                    return;
                }
            };
            // The broker stops; the rest is hashed when the file is imported again.
            listens = listens && progress.changed().await.is_ok();
        }
    }

    async fn import_and_hold(&self, path: PathBuf, job: Option<JobId>) -> Result<BlobRef, Status> {
        let store = self.store.clone();
        let imported = on_disk(&self.accesses, move || store.import(&path));
        let blob = imported.await?.map_err(|error| from_import(&error))?;
        let _pin = self.store.pin(blob.digest);
        if self.store.size_of(&blob.digest).is_none() {
            return Err(Status::aborted(
                "the blob was given up while it was imported; import it again",
            ));
        }
        self.hold(job, blob).await?;
        Ok(blob)
    }
}

impl Hashing {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            running: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            stop,
        }
    }

    /// Waits until nothing is being hashed; nothing new begins after a stop.
    pub(super) async fn ended(&self) {
        let _turn = self.turn.acquire().await;
    }

    /// Begins to hash a file, or joins those who wait for it.
    fn begin(&self, store: &BlobStore, blob: Digest, path: PathBuf) -> watch::Receiver<Progress> {
        let mut running = self.running();
        if let Some(progress) = running.get(&blob) {
            return progress.clone();
        }
        let (sender, receiver) = watch::channel(Progress::default());
        running.insert(blob, receiver.clone());
        let (hashing, store) = (self.clone(), store.clone());
        tokio::spawn(async move {
            let sender = Arc::new(sender);
            let ended = hashing.hash(store, blob, path, Arc::clone(&sender)).await;
            hashing.running().remove(&blob);
            sender.send_modify(|progress| progress.ended = ended);
        });
        receiver
    }

    /// Hashes a file when it is its turn; `None` if the broker stops.
    async fn hash(
        &self,
        store: BlobStore,
        blob: Digest,
        path: PathBuf,
        sender: Arc<watch::Sender<Progress>>,
    ) -> Option<Result<Digest, Status>> {
        if let Some(known) = store.own_digest(&blob) {
            return Some(Ok(known));
        }
        let _turn = tokio::select! {
            turn = self.turn.acquire() => turn.ok()?,
            () = self.stop.cancelled() => return None,
        };
        let stop = self.stop.clone();
        let hashing = spawn_blocking(move || {
            let told_bytes = AtomicU64::new(0);
            let progress = |hashed_bytes| {
                if hashed_bytes >= told_bytes.load(Ordering::Relaxed) + PROGRESS_BYTES {
                    told_bytes.store(hashed_bytes, Ordering::Relaxed);
                    sender.send_modify(|progress| progress.hashed_bytes = hashed_bytes);
                }
            };
            store.hash_rest(&blob, progress, || stop.is_cancelled())
        });
        match hashing.await {
            Ok(Ok(digest)) => {
                let digest = digest?;
                tracing::info!(path = %path.display(), %blob, %digest, "hashed an imported file");
                Some(Ok(digest))
            }
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %blob, %error, "cannot hash an imported file");
                Some(Err(from_load(&error)))
            }
            Err(_) => Some(Err(Status::internal("the hashing was cut short"))),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Progress>>> {
        // Each change is one call of the map.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
