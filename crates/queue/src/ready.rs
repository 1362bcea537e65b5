//! What waits, and who has room: the index that dispatch reads.
//!
//! Everything is kept by kind, so that the first task of a queue is always one that a worker of that kind can take,
//! and nothing has to be looked through. Choosing costs the same however deep the queue is.

use crate::{Kind, TaskId, WorkerId, job::Turn};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Candidates dispatch compares at most: the next task of so many kinds.
const CANDIDATE_COUNT_MAX: usize = 64;

/// Waiting tasks and workers with room, by kind.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    kinds: HashMap<Kind, KindQueue>,
    /// Kinds that have both a task and a worker.
    matched: BTreeSet<Kind>,
    owners: HashMap<Arc<str>, OwnerLoad>,
}

/// Tasks of one kind, and the workers that have it.
#[derive(Debug, Default)]
struct KindQueue {
    /// Owners with tasks here, the one who runs least first: that is all there is to fair share.
    owners: BTreeSet<(u64, Arc<str>)>,
    /// Never an empty set.
    turns: HashMap<Arc<str>, BTreeSet<Turn>>,
    /// Workers with room, the least loaded first.
    open: BTreeSet<(u32, WorkerId)>,
}

/// What an owner has now.
#[derive(Debug, Default)]
struct OwnerLoad {
    running_count: u64,
    /// Kinds in whose `owners` he stands.
    kinds: BTreeSet<Kind>,
}

impl Ready {
    pub(crate) fn insert(&mut self, kind: &Kind, owner: &Arc<str>, turn: Turn) {
        let load = self.owners.entry(owner.clone()).or_default();
        let queue = self.kinds.entry(kind.clone()).or_default();
        queue.turns.entry(owner.clone()).or_default().insert(turn);
        if load.kinds.insert(kind.clone()) {
            queue.owners.insert((load.running_count, owner.clone()));
        }
        self.match_up(kind);
    }

    pub(crate) fn remove(&mut self, kind: &Kind, owner: &Arc<str>, turn: Turn) {
        let (Some(queue), Some(load)) = (self.kinds.get_mut(kind), self.owners.get_mut(owner))
        else {
            return;
        };
        let Some(turns) = queue.turns.get_mut(owner) else {
            return;
        };
        turns.remove(&turn);
        if turns.is_empty() {
            queue.turns.remove(owner);
            queue.owners.remove(&(load.running_count, owner.clone()));
            load.kinds.remove(kind);
            self.forget_idle(owner);
        }
        self.match_up(kind);
    }

    /// One more task of the owner runs.
    pub(crate) fn begin(&mut self, owner: &Arc<str>) {
        self.owners.entry(owner.clone()).or_default();
        self.set_running_count(owner, |count| count + 1);
    }

    /// One task fewer of the owner runs.
    pub(crate) fn end(&mut self, owner: &Arc<str>) {
        self.set_running_count(owner, |count| count.saturating_sub(1));
        self.forget_idle(owner);
    }

    pub(crate) fn open(&mut self, kinds: &[Kind], load_permille: u32, worker: WorkerId) {
        for kind in kinds {
            let queue = self.kinds.entry(kind.clone()).or_default();
            queue.open.insert((load_permille, worker));
            self.match_up(kind);
        }
    }

    pub(crate) fn close(&mut self, kinds: &[Kind], load_permille: u32, worker: WorkerId) {
        for kind in kinds {
            if let Some(queue) = self.kinds.get_mut(kind) {
                queue.open.remove(&(load_permille, worker));
            }
            self.match_up(kind);
        }
    }

    /// The task whose turn it is, and the worker to have it. One worker may be kept out of it.
    pub(crate) fn pick(&self, reserved: Option<WorkerId>) -> Option<(TaskId, WorkerId)> {
        let candidates = self.matched.iter().take(CANDIDATE_COUNT_MAX);
        let (_, turn, worker) = candidates
            .filter_map(|kind| {
                let queue = self.kinds.get(kind)?;
                let first = queue.owners.first()?;
                let turn = queue.turns.get(&first.1)?.first()?;
                let mut open = queue.open.iter();
                let (_, worker) = open.find(|(_, worker)| Some(*worker) != reserved)?;
                Some((first, *turn, *worker))
            })
            .min()?;
        Some((turn.task, worker))
    }

    /// The worker with room that has this kind and the least to do, and how loaded it is.
    pub(crate) fn least_loaded(&self, kind: &Kind) -> Option<(u32, WorkerId)> {
        self.kinds.get(kind)?.open.first().copied()
    }

    /// How many tasks are listed. For checks: it counts them.
    pub(crate) fn listed_count(&self) -> usize {
        let queues = self.kinds.values();
        queues
            .flat_map(|queue| queue.turns.values().map(BTreeSet::len))
            .sum()
    }

    pub(crate) fn contains(&self, kind: &Kind, owner: &Arc<str>, turn: Turn) -> bool {
        let turns = self
            .kinds
            .get(kind)
            .and_then(|queue| queue.turns.get(owner));
        turns.is_some_and(|turns| turns.contains(&turn))
    }

    pub(crate) fn running_count(&self, owner: &Arc<str>) -> u64 {
        self.owners.get(owner).map_or(0, |load| load.running_count)
    }

    fn set_running_count(&mut self, owner: &Arc<str>, change: impl Fn(u64) -> u64) {
        let Some(load) = self.owners.get_mut(owner) else {
            return;
        };
        let (old, new) = (load.running_count, change(load.running_count));
        load.running_count = new;
        for kind in &load.kinds {
            if let Some(queue) = self.kinds.get_mut(kind) {
                queue.owners.remove(&(old, owner.clone()));
                queue.owners.insert((new, owner.clone()));
            }
        }
    }

    fn forget_idle(&mut self, owner: &Arc<str>) {
        let idle = |load: &OwnerLoad| load.running_count == 0 && load.kinds.is_empty();
        if self.owners.get(owner).is_some_and(idle) {
            self.owners.remove(owner);
        }
    }

    fn match_up(&mut self, kind: &Kind) {
        let Some(queue) = self.kinds.get(kind) else {
            return;
        };
        match (queue.turns.is_empty(), queue.open.is_empty()) {
            (false, false) => {
                self.matched.insert(kind.clone());
            }
            (true, true) => {
                self.matched.remove(kind);
                self.kinds.remove(kind);
            }
            (true, false) | (false, true) => {
                self.matched.remove(kind);
            }
        }
    }
}
