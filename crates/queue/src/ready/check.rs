//! What holds of the index, counted anew. For checks.

use super::{Lane, Need, Ready, Standing};
use crate::{WorkerId, turns::Turn};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

impl Ready {
    /// How many tasks are listed that may run beside others.
    pub(crate) fn listed_count(&self) -> usize {
        self.owners.values().map(|waiting| waiting.len()).sum()
    }

    /// How many tasks are listed that must run alone.
    pub(crate) fn alone_count(&self) -> usize {
        self.needs.values().map(|queue| queue.alone.len()).sum()
    }

    pub(crate) fn contains(&self, lane: &Lane, owner: &Arc<str>, turn: Turn) -> bool {
        let waiting = self.owners.get(owner);
        waiting.is_some_and(|waiting| waiting.contains(lane, turn))
    }

    pub(crate) fn contains_alone(&self, need: &Need, turn: Turn) -> bool {
        let queue = self.needs.get(need);
        queue.is_some_and(|queue| queue.alone.contains(&turn))
    }

    /// Needs that are known.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &Need> {
        self.needs.keys()
    }

    /// Needs of unfinished tasks, and how many have each.
    pub(crate) fn demanded(&self) -> &HashMap<Need, u64> {
        &self.demanded
    }

    /// How a worker is listed under a need.
    pub(crate) fn standing(&self, need: &Need, worker: WorkerId) -> Standing {
        let queue = self.needs.get(need);
        match queue.and_then(|queue| queue.loads.get(&worker)) {
            None => Standing::Unable,
            Some(None) => Standing::Full,
            Some(Some(load_permille)) => Standing::Open {
                load_permille: *load_permille,
            },
        }
    }

    /// What is wrong, if anything.
    pub(crate) fn disorder(&self) -> Option<String> {
        if let Some(disorder) = self.owners.values().find_map(|waiting| waiting.disorder()) {
            return Some(disorder);
        }
        let active: HashMap<_, _> = self.owners.keys().map(|owner| (owner, ())).collect();
        if active.len() != self.shares.active().count()
            || !self.shares.active().all(|owner| active.contains_key(owner))
        {
            return Some("owners take turns who have nothing to do, or do not who have".into());
        }
        for (need, queue) in &self.needs {
            let owners = self.owners.values();
            if queue.owner_count != owners.filter(|waiting| waiting.has(need)).count() {
                return Some(format!("owners of {} are miscounted", need.kind.name));
            }
            let matched = !queue.is_idle() && !queue.open.is_empty();
            if matched != self.matched.contains(need) {
                return Some(format!("{} is matched wrongly", need.kind.name));
            }
            let placed = queue.loads.iter();
            let placed = placed.filter_map(|(worker, load)| Some(((*load)?, *worker)));
            if placed.collect::<BTreeSet<_>>() != queue.open {
                return Some(format!("workers of {} are out of order", need.kind.name));
            }
        }
        None
    }
}
