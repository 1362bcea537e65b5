//! One worker, as those see it who fetch from it and those who give to it.

use super::{Instant, SiteName, avoided::Avoided};
use dewar_blobs::BlobRef;
use dewar_queue::WorkerId;
use std::{collections::BTreeSet, sync::Arc};

/// A worker that finds others corrupt more often than this is more likely to be so itself: nobody's disk is blamed on one
/// machine's memory.
const ACCUSED_MAX: usize = 2;

/// How a worker takes part in the swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// For people.
    pub(crate) name: Arc<str>,
    pub(crate) site: SiteName,
    /// The same for all workers on one machine.
    pub(crate) node: Arc<str>,
    /// It is on the broker's machine, and reads there what it needs.
    pub(crate) is_local: bool,
}

/// A worker in the swarm.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) arrival: Arrival,
    /// Where others reach it, once the broker has found that they can.
    pub(super) address: Option<Arc<str>>,
    /// Where the broker tried to reach it, and did not.
    pub(super) unreached: Option<Unreached>,
    /// Blobs of which it holds chunks.
    pub(super) held: BTreeSet<BlobRef>,
    /// Chunks it asked for and has not got yet.
    pub(super) wanted: BTreeSet<(BlobRef, u64)>,
    /// Chunks on their way to it from the broker.
    pub(super) grant_count: usize,
    /// Chunks on their way from it to others.
    pub(super) upload_count: usize,
    /// Sites that had trouble to fetch from it.
    pub(super) avoided_by: Avoided,
    /// Whom it found corrupt.
    accused: BTreeSet<WorkerId>,
    pub(super) counters: Counters,
}

/// A worker that says where others reach it, and the broker cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreached {
    pub(crate) address: Arc<str>,
    /// What became of the last try.
    pub(crate) reason: Arc<str>,
}

/// What a worker moved since it joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) from_broker_bytes: u64,
    pub(crate) from_peers_bytes: u64,
    /// Chunks others got from it that were not what they should be.
    pub(crate) corrupt_count: u64,
}

impl Member {
    pub(super) fn new(arrival: Arrival) -> Self {
        Self {
            arrival,
            address: None,
            unreached: None,
            held: BTreeSet::new(),
            wanted: BTreeSet::new(),
            grant_count: 0,
            upload_count: 0,
            avoided_by: Avoided::default(),
            accused: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// What it moved.
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// How it takes part.
    pub(crate) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// Where others reach it, if they can.
    pub(crate) fn address(&self) -> Option<&Arc<str>> {
        self.address.as_ref()
    }

    /// Where the broker tried in vain to reach it, and why.
    pub(crate) fn unreached(&self) -> Option<&Unreached> {
        self.unreached.as_ref()
    }

    /// Whether those of a site may be sent to it now.
    pub(super) fn serves(&self, site: &SiteName, now: Instant) -> bool {
        self.address.is_some() && !self.is_shunned() && !self.avoided_by.contains(site, now)
    }

    /// It gave a wrong chunk, or finds everybody else's wrong.
    pub(super) fn is_shunned(&self) -> bool {
        self.counters.corrupt_count > 0 || self.accused.len() > ACCUSED_MAX
    }

    /// It says that a chunk from another was wrong; whether that is to be believed.
    pub(super) fn accuse(&mut self, other: WorkerId) -> bool {
        self.accused.insert(other);
        self.accused.len() <= ACCUSED_MAX
    }
}
