//! One owner's waiting tasks, by need, and which of them is first.

use super::Need;
use crate::{
    TaskId,
    turns::{Turn, Turns},
};
use std::collections::{BTreeSet, HashMap};

/// Waiting tasks of one owner.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Never an empty set.
    turns: HashMap<Need, Turns>,
    /// The first task of each need.
    fronts: BTreeSet<(Turn, Need)>,
}

impl Waiting {
    /// Adds a task. Whether it is the first of its need.
    pub(super) fn insert(&mut self, need: &Need, turn: Turn) -> bool {
        if let Some(turns) = self.turns.get_mut(need) {
            let old = turns.first();
            turns.insert(turn);
            let new = turns.first();
            self.move_front(need, old, new);
            return false;
        }
        let mut turns = Turns::default();
        turns.insert(turn);
        self.turns.insert(need.clone(), turns);
        self.move_front(need, None, Some(turn));
        true
    }

    /// Takes a task out. Whether it was the last of its need.
    pub(super) fn remove(&mut self, need: &Need, turn: Turn) -> bool {
        let Some(turns) = self.turns.get_mut(need) else {
            return false;
        };
        let old = turns.first();
        turns.remove(turn);
        let new = turns.first();
        if new.is_none() {
            self.turns.remove(need);
        }
        self.move_front(need, old, new);
        new.is_none()
    }

    fn move_front(&mut self, need: &Need, old: Option<Turn>, new: Option<Turn>) {
        if old == new {
            return;
        }
        let taken = old.and_then(|old| self.fronts.take(&(old, need.clone())));
        if let Some(new) = new {
            let need = taken.map_or_else(|| need.clone(), |(_, need)| need);
            self.fronts.insert((new, need));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The first task of the needs that are matched and pass.
    pub(super) fn first<'a>(
        &'a self,
        matched: &'a BTreeSet<Need>,
        passes: impl Fn(&Need) -> bool,
    ) -> Option<(TaskId, &'a Need)> {
        // Whichever is quicker to look through.
        let (turn, need) = if matched.len() < self.fronts.len() {
            let own = matched
                .iter()
                .filter_map(|need| Some((self.turns.get(need)?.first()?, need)));
            own.filter(|(_, need)| passes(need)).min()?
        } else {
            let mut fronts = self.fronts.iter();
            let (turn, need) = fronts.find(|(_, need)| matched.contains(need) && passes(need))?;
            (*turn, need)
        };
        Some((turn.task, need))
    }

    pub(super) fn has(&self, need: &Need) -> bool {
        self.turns.contains_key(need)
    }

    pub(super) fn contains(&self, need: &Need, turn: Turn) -> bool {
        let turns = self.turns.get(need);
        turns.is_some_and(|turns| turns.contains(turn))
    }

    /// How many there are. For checks: it counts them.
    pub(super) fn len(&self) -> usize {
        self.turns.values().map(Turns::len).sum()
    }

    /// What is wrong, if anything. For checks.
    pub(super) fn disorder(&self) -> Option<String> {
        let firsts = self.turns.iter();
        let firsts: Option<BTreeSet<_>> = firsts
            .map(|(need, turns)| Some((turns.first()?, need.clone())))
            .collect();
        (firsts.as_ref() != Some(&self.fronts))
            .then(|| "an owner's first tasks are out of order".into())
    }

    /// The next tasks of a need, as long as they are of the priority of the first.
    pub(super) fn next(&self, need: &Need) -> impl Iterator<Item = Turn> {
        let turns = self.turns.get(need);
        turns.into_iter().flat_map(Turns::next)
    }
}
