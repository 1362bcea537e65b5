//! Filling caches before any task needs them: which workers were asked, and how far they are.

use super::{SiteName, Tracker};
use dewar_blobs::BlobRef;
use dewar_queue::WorkerId;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// How far the workers asked are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PrecacheProgress {
    pub(crate) worker_count: u64,
    pub(crate) held_bytes: u64,
    pub(crate) wanted_bytes: u64,
    /// What went wrong since the last time, with the worker's name.
    pub(crate) failures: Vec<String>,
}

/// One request to fill caches.
#[derive(Debug)]
pub(super) struct Precache {
    pub(super) blobs: Vec<BlobRef>,
    /// None: every site.
    pub(super) site: Option<SiteName>,
    /// Hears how far it is, and closes when it is over. Gone when nobody wants to know.
    pub(super) progress: mpsc::Sender<PrecacheProgress>,
    /// Workers that cannot, and why.
    pub(super) failed: BTreeMap<WorkerId, String>,
    /// How many failures were told.
    pub(super) told_count: usize,
}

impl Precache {
    /// Whether a worker is to fetch its blobs. Those on the broker's machine need no copy.
    pub(super) fn is_for(&self, tracker: &Tracker, worker: WorkerId) -> bool {
        tracker.member(worker).is_some_and(|member| {
            let arrival = member.arrival();
            let is_of_site = self.site.as_ref().is_none_or(|site| arrival.site == *site);
            is_of_site && !arrival.is_local
        })
    }

    /// Tells how far it is. False when it is over: all have all, or nobody listens any more.
    pub(super) fn tell(&mut self, tracker: &Tracker) -> bool {
        let mut progress = PrecacheProgress::default();
        for (worker, _) in tracker.members() {
            if !self.is_for(tracker, worker) {
                continue;
            }
            progress.worker_count += 1;
            for blob in &self.blobs {
                let held_bytes = tracker.held_bytes_of(worker, *blob);
                progress.held_bytes += held_bytes;
                // What a worker cannot hold is not waited for.
                progress.wanted_bytes += if self.failed.contains_key(&worker) {
                    held_bytes
                } else {
                    blob.size_bytes
                };
            }
        }
        progress.failures = self
            .failed
            .values()
            .skip(self.told_count)
            .cloned()
            .collect();
        self.told_count = self.failed.len();
        let is_over = progress.held_bytes >= progress.wanted_bytes;
        let is_heard = match self.progress.try_send(progress) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        };
        is_heard && !is_over
    }
}
