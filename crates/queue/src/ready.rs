//! What waits, and who has room: the index that dispatch reads.
//!
//! Everything is kept by need, so that the first task of a list is always one that each worker listed beside it can
//! take, and nothing has to be looked through. Choosing costs the same however deep the queue is. Whose turn it is among
//! owners is `shares.rs`'s to say.

use crate::{
    Kind, Resources, TaskId, WorkerId,
    command::NEED_COUNT_MAX,
    shares::{Share, Shares},
    turns::{Turn, Turns},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Candidates dispatch compares at most: the next task of so many needs, and so many workers for it.
pub(crate) const CANDIDATE_COUNT_MAX: usize = 64;

/// What a task demands of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) kind: Kind,
    pub(crate) resources: Resources,
}

/// Waiting tasks and workers with room, by need.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    needs: BTreeMap<Need, NeedQueue>,
    /// Needs for which there are both a task and a worker.
    matched: BTreeSet<Need>,
    pub(crate) shares: Shares,
}

/// Tasks of one need, and the workers that could take one.
#[derive(Debug, Default)]
struct NeedQueue {
    /// Owners with tasks here, the one whose turn it is first.
    owners: BTreeSet<(Share, Arc<str>)>,
    /// Never an empty set.
    turns: HashMap<Arc<str>, Turns>,
    /// Workers with room, the least loaded first.
    open: BTreeSet<(u32, WorkerId)>,
    /// Where each of them stands there.
    loads: HashMap<WorkerId, u32>,
    /// Tasks that are listed elsewhere, but look for workers here.
    pin_count: usize,
}

impl Ready {
    /// Lists a task. Workers must have been placed under its need before: see [`Self::knows`].
    pub(crate) fn insert(&mut self, need: &Need, owner: &Arc<str>, turn: Turn) {
        let share = self.shares.wants(owner, need);
        let queue = self.needs.entry(need.clone()).or_default();
        queue.turns.entry(owner.clone()).or_default().insert(turn);
        queue.owners.insert((share, owner.clone()));
        self.match_up(need);
    }

    pub(crate) fn remove(&mut self, need: &Need, owner: &Arc<str>, turn: Turn) {
        let Some(queue) = self.needs.get_mut(need) else {
            return;
        };
        let Some(turns) = queue.turns.get_mut(owner) else {
            return;
        };
        turns.remove(turn);
        if turns.is_empty() {
            queue.turns.remove(owner);
            let share = self.shares.wants_no_more(owner, need);
            queue.owners.remove(&(share, owner.clone()));
        }
        self.match_up(need);
    }

    /// Charges an owner for slot-time, or gives some back.
    pub(crate) fn charge(&mut self, owner: &Arc<str>, slot_us: i64) {
        let (old, new) = self.shares.charge(owner, slot_us);
        for need in self.shares.needs_of(owner) {
            if let Some(queue) = self.needs.get_mut(need)
                && queue.owners.remove(&(old, owner.clone()))
            {
                queue.owners.insert((new, owner.clone()));
            }
        }
    }

    /// Whether workers are listed under a need. If not, all of them are to be placed before the first task is.
    pub(crate) fn knows(&self, need: &Need) -> bool {
        self.needs.contains_key(need)
    }

    /// Begins to list workers under a need, and drops needs that nothing has any more where there are many.
    pub(crate) fn learn(&mut self, need: &Need) {
        if self.needs.len() >= NEED_COUNT_MAX {
            self.needs.retain(|_, queue| !queue.is_idle());
        }
        self.needs.entry(need.clone()).or_default();
    }

    /// Whether a task of this need could be listed without there being too many needs.
    pub(crate) fn has_place_for(&self, need: &Need) -> bool {
        self.needs.len() < NEED_COUNT_MAX
            || self.knows(need)
            || self.needs.values().any(NeedQueue::is_idle)
    }

    /// Keeps workers listed under a need for a task that is not listed there itself.
    pub(crate) fn pin(&mut self, need: &Need) {
        if let Some(queue) = self.needs.get_mut(need) {
            queue.pin_count += 1;
        }
    }

    /// Undoes one [`Self::pin`].
    pub(crate) fn unpin(&mut self, need: &Need) {
        if let Some(queue) = self.needs.get_mut(need) {
            queue.pin_count -= 1;
        }
    }

    /// Needs of one of these kinds that are known.
    pub(crate) fn needs_of(&self, kinds: &[Kind]) -> Vec<Need> {
        let known = self.needs.keys();
        known
            .filter(|need| kinds.contains(&need.kind))
            .cloned()
            .collect()
    }

    /// Puts a worker under a need as loaded as this, or nowhere.
    pub(crate) fn place(&mut self, need: &Need, worker: WorkerId, load_permille: Option<u32>) {
        let Some(queue) = self.needs.get_mut(need) else {
            return;
        };
        let old = match load_permille {
            Some(load) => queue.loads.insert(worker, load),
            None => queue.loads.remove(&worker),
        };
        if old == load_permille {
            return;
        }
        if let Some(old) = old {
            queue.open.remove(&(old, worker));
        }
        if let Some(load) = load_permille {
            queue.open.insert((load, worker));
        }
        self.match_up(need);
    }

    /// The task whose turn it is, of those for which a worker has room that is not kept out.
    pub(crate) fn pick(&self, reserved: Option<WorkerId>) -> Option<(TaskId, &Need)> {
        let candidates = self.matched.iter().take(CANDIDATE_COUNT_MAX);
        let (_, turn, need) = candidates
            .filter_map(|need| {
                let queue = self.needs.get(need)?;
                let first = queue.owners.first()?;
                let turn = queue.turns.get(&first.1)?.first()?;
                let mut open = queue.open.iter();
                open.find(|(_, worker)| Some(*worker) != reserved)?;
                Some((first, turn, need))
            })
            .min()?;
        Some((turn.task, need))
    }

    /// An owner's next tasks of a need, as long as they are of the priority of the first.
    pub(crate) fn next_turns(&self, need: &Need, owner: &Arc<str>) -> impl Iterator<Item = Turn> {
        let queue = self.needs.get(need);
        let turns = queue.and_then(|queue| queue.turns.get(owner));
        turns.into_iter().flat_map(Turns::next)
    }

    /// Workers with room for a need, the least loaded first, and how loaded they are.
    pub(crate) fn open(&self, need: &Need) -> impl Iterator<Item = (u32, WorkerId)> {
        let open = self.needs.get(need).into_iter();
        open.flat_map(|queue| queue.open.iter().copied())
            .take(CANDIDATE_COUNT_MAX)
    }

    /// How many tasks are listed. For checks: it counts them.
    pub(crate) fn listed_count(&self) -> usize {
        let queues = self.needs.values();
        queues
            .flat_map(|queue| queue.turns.values().map(Turns::len))
            .sum()
    }

    pub(crate) fn contains(&self, need: &Need, owner: &Arc<str>, turn: Turn) -> bool {
        let turns = self
            .needs
            .get(need)
            .and_then(|queue| queue.turns.get(owner));
        turns.is_some_and(|turns| turns.contains(turn))
    }

    /// Whether a worker is listed under a need. For checks.
    pub(crate) fn is_open(&self, need: &Need, worker: WorkerId) -> bool {
        let queue = self.needs.get(need);
        queue.is_some_and(|queue| queue.loads.contains_key(&worker))
    }

    /// What is wrong with the order of owners, if anything. For checks.
    pub(crate) fn disorder(&self) -> Option<String> {
        for (need, queue) in &self.needs {
            let listed: BTreeSet<_> = queue
                .turns
                .keys()
                .map(|owner| (self.shares.of(owner), owner.clone()))
                .collect();
            if listed != queue.owners {
                return Some(format!("owners of {} are out of order", need.kind.name));
            }
            let matched = !queue.turns.is_empty() && !queue.open.is_empty();
            if matched != self.matched.contains(need) {
                return Some(format!("{} is matched wrongly", need.kind.name));
            }
            let placed = queue.loads.iter().map(|(worker, load)| (*load, *worker));
            if placed.collect::<BTreeSet<_>>() != queue.open {
                return Some(format!("workers of {} are out of order", need.kind.name));
            }
        }
        None
    }

    fn match_up(&mut self, need: &Need) {
        let queue = self.needs.get(need);
        if queue.is_some_and(|queue| !queue.turns.is_empty() && !queue.open.is_empty()) {
            if !self.matched.contains(need) {
                self.matched.insert(need.clone());
            }
        } else {
            self.matched.remove(need);
        }
    }
}

impl NeedQueue {
    /// Whether nothing would miss it.
    fn is_idle(&self) -> bool {
        self.turns.is_empty() && self.pin_count == 0
    }
}
