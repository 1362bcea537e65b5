//! What waits, and who has room: the index that dispatch reads.
//!
//! Tasks are kept by owner and need, workers by need, so that the first task of a list is always one that each worker
//! listed for it can take, and nothing has to be looked through. Choosing costs the same however deep the queue is.
//! Whose turn it is among owners is `shares.rs`'s to say; what one owner waits for is in `ready/waiting.rs`.

mod check;
mod waiting;

use crate::{
    Job, Kind, Resources, TaskId, TaskSpec, WorkerId, command::NEED_COUNT_MAX, shares::Shares,
    turns::Turn,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};
pub(crate) use waiting::Lane;
use waiting::Waiting;

/// Candidates dispatch compares at most: so many of one owner's next tasks, and so many workers with room.
pub(crate) const CANDIDATE_COUNT_MAX: usize = 64;

/// What a task demands of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) kind: Kind,
    pub(crate) resources: Resources,
}

impl Need {
    pub(crate) fn of(spec: &TaskSpec) -> Self {
        Self {
            kind: spec.kind.clone(),
            resources: spec.resources,
        }
    }
}

/// Waiting tasks by owner, and workers with room by need.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    needs: BTreeMap<Need, NeedQueue>,
    /// Owners with tasks that may run beside others.
    owners: HashMap<Arc<str>, Waiting>,
    /// Needs for which there are both a task and a worker with room.
    matched: BTreeSet<Need>,
    /// Needs of unfinished tasks, whatever these wait for, and how many tasks have each.
    demanded: HashMap<Need, u64>,
    pub(crate) shares: Shares,
}

/// Workers that could take a task of one need, and which tasks ask for them.
#[derive(Debug, Default)]
struct NeedQueue {
    /// Owners with tasks of this need that wait.
    owner_count: usize,
    /// Tasks that must run alone, of whatever owner.
    alone: BTreeSet<Turn>,
    /// Workers with room, the least loaded first.
    open: BTreeSet<(u32, WorkerId)>,
    /// Workers that could take one some time, and where they stand among those with room, if they do.
    loads: HashMap<WorkerId, Option<u32>>,
}

/// How a worker stands to a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It can take no such task, or is given none.
    Unable,
    /// It has no room now.
    Full,
    /// It has room, and is loaded as much.
    Open { load_permille: u32 },
}

impl Ready {
    /// Lists a task. Workers must have been placed under its need before: see [`Self::knows`].
    pub(crate) fn insert(&mut self, lane: &Lane, owner: &Arc<str>, turn: Turn) {
        if !self.owners.contains_key(owner) {
            self.shares.wants(owner);
        }
        let waiting = self.owners.entry(owner.clone()).or_default();
        if waiting.insert(lane, turn) {
            let need = &lane.need;
            self.needs.entry(need.clone()).or_default().owner_count += 1;
            self.match_up(need);
        }
    }

    pub(crate) fn remove(&mut self, lane: &Lane, owner: &Arc<str>, turn: Turn) {
        let Some(waiting) = self.owners.get_mut(owner) else {
            return;
        };
        let was_last = waiting.remove(lane, turn);
        if waiting.is_empty() {
            self.owners.remove(owner);
            self.shares.wants_no_more(owner);
        }
        if was_last && let Some(queue) = self.needs.get_mut(&lane.need) {
            queue.owner_count -= 1;
            self.match_up(&lane.need);
        }
    }

    /// Lists a task that must run alone. Owners do not take turns among these.
    pub(crate) fn insert_alone(&mut self, need: &Need, turn: Turn) {
        self.needs
            .entry(need.clone())
            .or_default()
            .alone
            .insert(turn);
        self.match_up(need);
    }

    pub(crate) fn remove_alone(&mut self, need: &Need, turn: Turn) {
        if let Some(queue) = self.needs.get_mut(need) {
            queue.alone.remove(&turn);
        }
        self.match_up(need);
    }

    /// Counts a task that has not ended among those that demand something.
    pub(crate) fn demand(&mut self, need: &Need) {
        match self.demanded.get_mut(need) {
            Some(count) => *count += 1,
            None => {
                self.demanded.insert(need.clone(), 1);
            }
        }
    }

    /// Undoes one [`Self::demand`].
    pub(crate) fn demand_no_more(&mut self, need: &Need) {
        if let Some(count) = self.demanded.get_mut(need) {
            *count -= 1;
            if *count == 0 {
                self.demanded.remove(need);
            }
        }
    }

    /// Whether tasks of these needs may come without there being too many needs.
    pub(crate) fn has_place_for(&self, needs: &HashSet<Need>) -> bool {
        let new = needs
            .iter()
            .filter(|need| !self.demanded.contains_key(need));
        self.demanded.len() + new.count() <= NEED_COUNT_MAX
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

    /// Puts a worker where it belongs under a need.
    pub(crate) fn place(&mut self, need: &Need, worker: WorkerId, standing: Standing) {
        if let Some(queue) = self.needs.get_mut(need) {
            queue.place(worker, standing);
            self.match_up(need);
        }
    }

    /// Puts a worker where it belongs under each need of these kinds.
    pub(crate) fn place_all(
        &mut self,
        kinds: &[Kind],
        worker: WorkerId,
        standing: impl Fn(&Need) -> Standing,
    ) {
        let mut flipped = Vec::new();
        for kind in kinds {
            let least = Need {
                kind: kind.clone(),
                resources: Resources::LEAST,
            };
            let of_kind = self.needs.range_mut(least..);
            for (need, queue) in of_kind.take_while(|(need, _)| need.kind == *kind) {
                let was_open = !queue.open.is_empty();
                queue.place(worker, standing(need));
                if queue.open.is_empty() == was_open {
                    flipped.push(need.clone());
                }
            }
        }
        flipped.iter().for_each(|need| self.match_up(need));
    }

    /// The task whose turn it is, of those for which a worker has room that is not kept out, and may be tried.
    pub(crate) fn pick(
        &self,
        reserved: Option<WorkerId>,
        may_try: impl Fn(TaskId, WorkerId) -> bool,
    ) -> Option<(TaskId, &Need)> {
        if self.matched.is_empty() {
            return None;
        }
        let mut owners = self.shares.active();
        owners.find_map(|owner| {
            let waiting = self.owners.get(owner)?;
            waiting.first(&self.matched, |lane, task| {
                let mut open = self.open(&lane.need);
                open.any(|(_, worker)| {
                    Some(worker) != reserved && (lane.failed_on.is_none() || may_try(task, worker))
                })
            })
        })
    }

    /// The first of the tasks that must run alone of each need for which somebody has room, in order.
    pub(crate) fn next_alone(&self) -> BTreeSet<(Turn, &Need)> {
        let matched = self.matched.iter();
        let first = |need| Some((*self.needs.get(need)?.alone.first()?, need));
        matched.filter_map(first).collect()
    }

    /// An owner's next tasks of a lane, as long as they are of the priority of the first.
    pub(crate) fn next_turns(&self, lane: &Lane, owner: &Arc<str>) -> impl Iterator<Item = Turn> {
        let waiting = self.owners.get(owner).into_iter();
        waiting.flat_map(move |waiting| waiting.next(lane))
    }

    /// Workers on which tasks of a job failed that wait now.
    pub(crate) fn shunned<'a>(
        &'a self,
        need: &'a Need,
        job: &'a Job,
    ) -> impl Iterator<Item = WorkerId> + 'a {
        let waiting = self.owners.get(&job.owner).into_iter();
        let lanes = waiting.flat_map(|waiting| waiting.of_need(need));
        let lanes = lanes.filter(|(_, turns)| turns.has_job(job.priority, job.number));
        lanes.filter_map(|(lane, _)| lane.failed_on)
    }

    /// Workers that could take a task of a need some time.
    pub(crate) fn able(&self, need: &Need) -> impl Iterator<Item = WorkerId> {
        let queue = self.needs.get(need).into_iter();
        queue.flat_map(|queue| queue.loads.keys().copied())
    }

    /// Workers with room for a need, the least loaded first, and how loaded they are.
    pub(crate) fn open(&self, need: &Need) -> impl Iterator<Item = (u32, WorkerId)> {
        let open = self.needs.get(need).into_iter();
        open.flat_map(|queue| queue.open.iter().copied())
            .take(CANDIDATE_COUNT_MAX)
    }

    fn match_up(&mut self, need: &Need) {
        let queue = self.needs.get(need);
        if queue.is_some_and(|queue| !queue.is_idle() && !queue.open.is_empty()) {
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
        self.owner_count == 0 && self.alone.is_empty()
    }

    fn place(&mut self, worker: WorkerId, standing: Standing) {
        let load = match standing {
            Standing::Unable | Standing::Full => None,
            Standing::Open { load_permille } => Some(load_permille),
        };
        let old = match standing {
            Standing::Unable => self.loads.remove(&worker),
            Standing::Full | Standing::Open { .. } => self.loads.insert(worker, load),
        };
        let old = old.flatten();
        if old == load {
            return;
        }
        if let Some(old) = old {
            self.open.remove(&(old, worker));
        }
        if let Some(load) = load {
            self.open.insert((load, worker));
        }
    }
}
