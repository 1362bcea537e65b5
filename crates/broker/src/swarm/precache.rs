//! Filling caches before any task needs them: which workers were asked, and how far they are.

use super::{SiteName, Tracker};
use dewar_blobs::BlobRef;
use dewar_queue::WorkerId;
use std::collections::{BTreeMap, BTreeSet};
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
    /// What workers cannot fetch, and why.
    pub(super) failed: BTreeMap<(WorkerId, BlobRef), String>,
    /// Failures that were told.
    pub(super) told: BTreeSet<(WorkerId, BlobRef)>,
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

    /// Notes that a worker cannot fetch a blob, if it was asked to.
    pub(super) fn fail(&mut self, worker: WorkerId, blob: BlobRef, why: &str) {
        if self.blobs.contains(&blob) {
            self.failed.insert((worker, blob), why.to_owned());
        }
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
                progress.wanted_bytes += if self.failed.contains_key(&(worker, *blob)) {
                    held_bytes
                } else {
                    blob.size_bytes
                };
            }
        }
        let untold: Vec<_> = self
            .failed
            .iter()
            .filter(|(what, _)| !self.told.contains(what))
            .map(|(what, text)| (*what, text.clone()))
            .collect();
        progress.failures = untold.iter().map(|(_, text)| text.clone()).collect();
        let is_over = progress.held_bytes >= progress.wanted_bytes;
        let is_heard = match self.progress.try_send(progress) {
            Ok(()) => {
                self.told.extend(untold.iter().map(|(what, _)| *what));
                true
            }
            // It hears all of it the next time.
            Err(mpsc::error::TrySendError::Full(_)) => return true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        };
        is_heard && !is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::{Arrival, Instant};
    use dewar_blobs::Digest;
    use dewar_proto::limits::CHUNK_BYTES;

    const BLOB: BlobRef = BlobRef {
        digest: Digest([7; 32]),
        size_bytes: 2 * CHUNK_BYTES,
    };

    fn id(n: u8) -> WorkerId {
        WorkerId([n; 16])
    }

    fn tracker() -> Tracker {
        let mut tracker = Tracker::default();
        for n in [1, 2] {
            let arrival = Arrival {
                name: format!("w{n}").into(),
                site: "here".into(),
                node: format!("node{n}").into(),
                is_local: false,
            };
            tracker.join(id(n), arrival, Instant::now());
        }
        tracker
    }

    fn precache(unheard_max: usize) -> (Precache, mpsc::Receiver<PrecacheProgress>) {
        let (progress, receiver) = mpsc::channel(unheard_max);
        let precache = Precache {
            blobs: vec![BLOB],
            site: None,
            progress,
            failed: BTreeMap::new(),
            told: BTreeSet::new(),
        };
        (precache, receiver)
    }

    #[test]
    fn each_failure_is_told_once_in_whatever_order_workers_fail() {
        let tracker = tracker();
        let (mut precache, mut progress) = precache(4);
        precache.fail(id(2), BLOB, "w2: full");
        assert!(precache.tell(&tracker), "the other is still to come");
        precache.fail(id(1), BLOB, "w1: full");
        assert!(!precache.tell(&tracker), "nobody is waited for");
        let mut failures = || progress.try_recv().unwrap().failures;
        assert_eq!(failures(), ["w2: full"]);
        assert_eq!(failures(), ["w1: full"]);
    }

    #[test]
    fn who_listens_slowly_hears_the_end_and_every_failure_all_the_same() {
        let tracker = tracker();
        let (mut precache, mut progress) = precache(1);
        assert!(precache.tell(&tracker));
        precache.fail(id(1), BLOB, "w1: full");
        precache.fail(id(2), BLOB, "w2: full");
        assert!(precache.tell(&tracker), "the end is not heard yet");
        progress.try_recv().unwrap();
        assert!(!precache.tell(&tracker));
        let last = progress.try_recv().unwrap();
        assert_eq!(last.failures, ["w1: full", "w2: full"]);
        assert_eq!(last.held_bytes, last.wanted_bytes);
    }

    #[test]
    fn a_blob_that_does_not_fit_hides_no_other_and_no_other_request() {
        let tracker = tracker();
        let other = BlobRef {
            digest: Digest([8; 32]),
            size_bytes: CHUNK_BYTES,
        };
        let (mut both, mut progress) = precache(4);
        both.blobs.push(other);
        let (mut one, mut progress_of_one) = precache(4);
        for n in [1, 2] {
            for precache in [&mut both, &mut one] {
                precache.fail(id(n), other, "full");
            }
        }
        assert!(both.tell(&tracker) && one.tell(&tracker), "one is to come");
        let told = progress.try_recv().unwrap();
        assert_eq!(told.wanted_bytes, 2 * BLOB.size_bytes);
        assert_eq!(told.failures, ["full", "full"]);
        let told = progress_of_one.try_recv().unwrap();
        assert_eq!(told.failures, [] as [String; 0]);
    }
}
