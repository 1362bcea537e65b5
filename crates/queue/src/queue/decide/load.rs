//! What a command would add to the queue, held against every bound on what may wait.

use super::super::Queue;
use crate::{Job, JobNumber, Refusal, ready::Need};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What was found to fit so far.
pub(super) struct Load<'a> {
    queue: &'a Queue,
    waiting_count: u64,
    /// Unfinished tasks and their bytes.
    owners: HashMap<Arc<str>, (u64, u64)>,
    needs: HashSet<Need>,
    reopened: HashSet<JobNumber>,
}

impl<'a> Load<'a> {
    pub(super) fn of(queue: &'a Queue) -> Self {
        Self {
            queue,
            waiting_count: queue.counts.waiting,
            owners: HashMap::new(),
            needs: HashSet::new(),
            reopened: HashSet::new(),
        }
    }

    /// Adds tasks of an owner that have these needs among them, if there is room for all of them.
    pub(super) fn add(
        &mut self,
        owner: &Arc<str>,
        count: u64,
        bytes: u64,
        needs: impl IntoIterator<Item = Need>,
    ) -> Result<(), Refusal> {
        let config = &self.queue.config;
        let waiting_count = self.waiting_count.saturating_add(count);
        if waiting_count > config.waiting_count_max {
            return Err(Refusal::QueueFull {
                waiting_count: self.waiting_count,
                waiting_count_max: config.waiting_count_max,
            });
        }
        let before = self.owners.get(owner).copied();
        let before = before.unwrap_or_else(|| self.queue.ready.shares.unfinished(owner));
        let sums = (
            before.0.saturating_add(count),
            before.1.saturating_add(bytes),
        );
        bound(
            owner,
            "unfinished tasks",
            sums.0,
            config.owner_task_count_max,
        )?;
        bound(
            owner,
            "bytes of unfinished tasks",
            sums.1,
            config.owner_bytes_max,
        )?;
        let is_new = |need: &Need| !self.needs.contains(need);
        let new: Vec<Need> = needs.into_iter().filter(is_new).collect();
        if !new.is_empty() {
            let all: HashSet<Need> = self.needs.iter().cloned().chain(new).collect();
            if !self.queue.ready.has_place_for(&all) {
                return Err(Refusal::TooManyNeeds);
            }
            self.needs = all;
        }
        self.waiting_count = waiting_count;
        self.owners.insert(owner.clone(), sums);
        Ok(())
    }

    /// Adds a finished job, that is to be so no more, to its owner's open ones.
    pub(super) fn reopen(&mut self, job: &Job) -> Result<(), Refusal> {
        if self.reopened.contains(&job.number) {
            return Ok(());
        }
        let reopened = self
            .reopened
            .iter()
            .filter_map(|other| self.queue.job(*other));
        let own = reopened.filter(|other| other.owner == job.owner).count() as u64;
        self.refuse_job_of(&job.owner, own)?;
        self.reopened.insert(job.number);
        Ok(())
    }

    /// Whether an owner may have one more job open, besides so many that come before it.
    pub(super) fn refuse_job_of(&self, owner: &Arc<str>, before: u64) -> Result<(), Refusal> {
        let open = self.queue.ready.shares.open_job_count(owner);
        let max = self.queue.config.owner_job_count_max;
        bound(owner, "open jobs", open + before + 1, max)
    }
}

fn bound(owner: &Arc<str>, what: &'static str, found: u64, max: u64) -> Result<(), Refusal> {
    if found <= max {
        return Ok(());
    }
    Err(Refusal::OwnerFull {
        owner: owner.clone(),
        what,
        found,
        max,
    })
}
