//! Fair share: owners take turns by the slot-time they have used.
//!
//! Slot-time is charged when a try begins, by what its kind took so far, and put right when it ends. An owner who comes
//! with new work starts level with whoever has used least among those that are active: time of absence earns no
//! arrears. This is start-time fair queueing (Goyal, Vin and Cheng, 1996), with slots for the link.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Slot-time used, in microseconds, levelled. The smaller it is, the sooner is the owner's turn.
type Share = u64;

/// What all owners have used.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    owners: HashMap<Arc<str>, Owner>,
    /// Owners with tasks that wait for a worker.
    active: BTreeSet<(Share, Arc<str>)>,
    /// The largest share that was ever the smallest: where an owner starts who finds nobody else.
    level: Share,
}

/// One owner. Never forgotten: there are no more of them than tokens.
#[derive(Debug, Default)]
struct Owner {
    share: Share,
    unfinished_count: u64,
    unfinished_bytes: u64,
    open_job_count: u64,
}

impl Shares {
    /// An owner who had nothing to do has something now.
    pub(crate) fn wants(&mut self, name: &Arc<str>) {
        let level = self.active.first().map_or(self.level, |(share, _)| *share);
        let owner = self.owners.entry(name.clone()).or_default();
        owner.share = owner.share.max(level);
        self.active.insert((owner.share, name.clone()));
    }

    /// An owner has nothing to do any more.
    pub(crate) fn wants_no_more(&mut self, name: &Arc<str>) {
        if let Some(owner) = self.owners.get(name) {
            self.active.remove(&(owner.share, name.clone()));
        }
    }

    /// Owners with tasks that wait for a worker, the one whose turn it is first.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Arc<str>> {
        self.active.iter().map(|(_, name)| name)
    }

    /// Charges an owner for slot-time, or gives some back.
    pub(crate) fn charge(&mut self, name: &Arc<str>, slot_us: i64) {
        let owner = self.owners.entry(name.clone()).or_default();
        let old = owner.share;
        owner.share = old.saturating_add_signed(slot_us);
        if self.active.remove(&(old, name.clone())) {
            self.active.insert((owner.share, name.clone()));
        }
        let new = owner.share;
        let least = self.active.first().map_or(new, |(share, _)| *share);
        self.level = self.level.max(least);
    }

    /// Jobs of an owner that are not finished.
    pub(crate) fn open_job_count(&self, name: &Arc<str>) -> u64 {
        let owner = self.owners.get(name);
        owner.map_or(0, |owner| owner.open_job_count)
    }

    /// A job of an owner was opened, or finished.
    pub(crate) fn note_job(&mut self, name: &Arc<str>, opened: bool) {
        let owner = self.owners.entry(name.clone()).or_default();
        if opened {
            owner.open_job_count += 1;
        } else {
            owner.open_job_count -= 1;
        }
    }

    /// Unfinished tasks of an owner, and bytes that are kept of them.
    pub(crate) fn unfinished(&self, name: &Arc<str>) -> (u64, u64) {
        let owner = self.owners.get(name);
        owner.map_or((0, 0), |owner| {
            (owner.unfinished_count, owner.unfinished_bytes)
        })
    }

    pub(crate) fn add_unfinished(&mut self, name: &Arc<str>, bytes: u64) {
        let owner = self.owners.entry(name.clone()).or_default();
        owner.unfinished_count += 1;
        owner.unfinished_bytes += bytes;
    }

    pub(crate) fn drop_unfinished(&mut self, name: &Arc<str>, bytes: u64) {
        if let Some(owner) = self.owners.get_mut(name) {
            owner.unfinished_count -= 1;
            owner.unfinished_bytes -= bytes;
        }
    }
}
