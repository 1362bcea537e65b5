//! One owner's waiting tasks, and which of them is first.
//!
//! They are kept in lanes: tasks of one need that last failed on the same worker, or on none. So a worker with room is
//! never hidden behind tasks that may not go back to it.

use super::{CANDIDATE_COUNT_MAX, Need};
use crate::{
    TaskId, WorkerId,
    turns::{Turn, Turns},
};
use std::collections::{BTreeMap, BTreeSet};

/// Waiting tasks of one owner.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Never an empty set.
    lanes: BTreeMap<Lane, Turns>,
    /// The first task of each lane.
    fronts: BTreeSet<(Turn, Lane)>,
}

/// Tasks that ask for the same workers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub(crate) need: Need,
    /// Where they last failed.
    pub(crate) failed_on: Option<WorkerId>,
}

impl Waiting {
    /// Adds a task. Whether it is the first of its need.
    pub(super) fn insert(&mut self, lane: &Lane, turn: Turn) -> bool {
        if let Some(turns) = self.lanes.get_mut(lane) {
            let old = turns.first();
            turns.insert(turn);
            let new = turns.first();
            self.move_front(lane, old, new);
            return false;
        }
        let is_first = !self.has(&lane.need);
        let mut turns = Turns::default();
        turns.insert(turn);
        self.lanes.insert(lane.clone(), turns);
        self.move_front(lane, None, Some(turn));
        is_first
    }

    /// Takes a task out. Whether it was the last of its need.
    pub(super) fn remove(&mut self, lane: &Lane, turn: Turn) -> bool {
        let Some(turns) = self.lanes.get_mut(lane) else {
            return false;
        };
        let old = turns.first();
        turns.remove(turn);
        let new = turns.first();
        self.move_front(lane, old, new);
        if new.is_some() {
            return false;
        }
        self.lanes.remove(lane);
        !self.has(&lane.need)
    }

    fn move_front(&mut self, lane: &Lane, old: Option<Turn>, new: Option<Turn>) {
        if old == new {
            return;
        }
        let taken = old.and_then(|old| self.fronts.take(&(old, lane.clone())));
        if let Some(new) = new {
            let lane = taken.map_or_else(|| lane.clone(), |(_, lane)| lane);
            self.fronts.insert((new, lane));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether there is a task of a need.
    pub(super) fn has(&self, need: &Need) -> bool {
        self.of_need(need).next().is_some()
    }

    /// The first task of a matched need that passes.
    pub(super) fn first<'a>(
        &'a self,
        matched: &BTreeSet<Need>,
        passes: impl Fn(&Lane, TaskId) -> bool,
    ) -> Option<(TaskId, &'a Need)> {
        let first_of = |lane: &Lane, turns: &Turns| {
            // Of those that failed nowhere, all pass or none does.
            let count = if lane.failed_on.is_none() {
                1
            } else {
                CANDIDATE_COUNT_MAX
            };
            let mut next = turns.next().take(count);
            next.find(|turn| passes(lane, turn.task))
        };
        let mut fronts = self.fronts.iter().take(CANDIDATE_COUNT_MAX);
        let near = fronts.find_map(|(_, lane)| {
            let turns = self
                .lanes
                .get(lane)
                .filter(|_| matched.contains(&lane.need))?;
            Some((first_of(lane, turns)?.task, &lane.need))
        });
        near.or_else(|| {
            let lanes = matched.iter().flat_map(|need| self.of_need(need));
            let firsts = lanes.filter_map(|(lane, turns)| Some((first_of(lane, turns)?, lane)));
            let (turn, lane) = firsts.min()?;
            Some((turn.task, &lane.need))
        })
    }

    /// The next tasks of a lane, as long as they are of the priority of the first.
    pub(super) fn next(&self, lane: &Lane) -> impl Iterator<Item = Turn> {
        let turns = self.lanes.get(lane);
        turns.into_iter().flat_map(Turns::next)
    }

    /// The lanes of a need.
    pub(super) fn of_need(&self, need: &Need) -> impl Iterator<Item = (&Lane, &Turns)> {
        let first = Lane {
            need: need.clone(),
            failed_on: None,
        };
        let lanes = self.lanes.range(first..);
        let need = need.clone();
        lanes.take_while(move |(lane, _)| lane.need == need)
    }

    /// How many tasks there are. For checks: it counts them.
    pub(super) fn len(&self) -> usize {
        self.lanes.values().map(Turns::len).sum()
    }

    pub(super) fn contains(&self, lane: &Lane, turn: Turn) -> bool {
        let turns = self.lanes.get(lane);
        turns.is_some_and(|turns| turns.contains(turn))
    }

    /// What is wrong, if anything. For checks.
    pub(super) fn disorder(&self) -> Option<String> {
        let firsts = self.lanes.iter();
        let firsts: Option<BTreeSet<_>> = firsts
            .map(|(lane, turns)| Some((turns.first()?, lane.clone())))
            .collect();
        (firsts.as_ref() != Some(&self.fronts))
            .then(|| "an owner's first tasks are out of order".into())
    }
}
