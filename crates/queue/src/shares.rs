//! Fair share: owners take turns by the slot-time they have used.
//!
//! Slot-time is charged when a try begins, by what its kind took so far, and put right when it ends. An owner who comes
//! with new work starts level with whoever has used least among those that are active: time of absence earns no
//! arrears. This is start-time fair queueing (Goyal, Vin and Cheng, 1996), with slots for the link.

use crate::ready::Need;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Slot-time used, in microseconds, levelled. The smaller it is, the sooner is the owner's turn.
pub(crate) type Share = u64;

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
    /// Needs under which tasks of his wait.
    needs: BTreeSet<Need>,
    unfinished_count: u64,
    unfinished_bytes: u64,
}

impl Shares {
    /// An owner has a task of this need to do. His share.
    pub(crate) fn wants(&mut self, name: &Arc<str>, need: &Need) -> Share {
        let level = self.active.first().map_or(self.level, |(share, _)| *share);
        let owner = self.owners.entry(name.clone()).or_default();
        if owner.needs.is_empty() {
            owner.share = owner.share.max(level);
            self.active.insert((owner.share, name.clone()));
        }
        if !owner.needs.contains(need) {
            owner.needs.insert(need.clone());
        }
        owner.share
    }

    /// An owner has no more tasks of this need that wait. His share.
    pub(crate) fn wants_no_more(&mut self, name: &Arc<str>, need: &Need) -> Share {
        let Some(owner) = self.owners.get_mut(name) else {
            return 0;
        };
        owner.needs.remove(need);
        if owner.needs.is_empty() {
            self.active.remove(&(owner.share, name.clone()));
        }
        owner.share
    }

    /// Adds to what an owner used. His share before and after.
    pub(crate) fn charge(&mut self, name: &Arc<str>, slot_us: i64) -> (Share, Share) {
        let owner = self.owners.entry(name.clone()).or_default();
        let old = owner.share;
        owner.share = old.saturating_add_signed(slot_us);
        if self.active.remove(&(old, name.clone())) {
            self.active.insert((owner.share, name.clone()));
        }
        let new = owner.share;
        let least = self.active.first().map_or(new, |(share, _)| *share);
        self.level = self.level.max(least);
        (old, new)
    }

    pub(crate) fn of(&self, name: &Arc<str>) -> Share {
        self.owners.get(name).map_or(0, |owner| owner.share)
    }

    pub(crate) fn needs_of(&self, name: &Arc<str>) -> impl Iterator<Item = &Need> {
        let owner = self.owners.get(name);
        owner.into_iter().flat_map(|owner| &owner.needs)
    }

    /// Unfinished tasks of an owner, and bytes of their parameters.
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
