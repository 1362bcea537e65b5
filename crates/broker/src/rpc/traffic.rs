//! Bytes of blobs that go out and come in: how many may, and how many did.

use dewar_blobs::Pace;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Paces and counts. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    upload: Pace,
    download: Pace,
    sent_bytes: Arc<AtomicU64>,
    received_bytes: Arc<AtomicU64>,
}

impl Traffic {
    /// Bounds in bytes a second.
    pub(crate) fn new(upload_limit: Option<u64>, download_limit: Option<u64>) -> Self {
        Self {
            upload: Pace::new(upload_limit),
            download: Pace::new(download_limit),
            sent_bytes: Arc::default(),
            received_bytes: Arc::default(),
        }
    }

    /// Waits until bytes may go out, and counts them.
    pub(super) async fn send(&self, bytes: usize) {
        self.upload.take(bytes).await;
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until bytes that came may be taken, and counts them: until then the network holds the next ones back.
    pub(super) async fn receive(&self, bytes: usize) {
        self.download.take(bytes).await;
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that went out since the broker started.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that came in since the broker started.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }
}
