//! Jobs, as the queue remembers them. Their tasks have a file of their own.

mod task;

pub use task::Task;
pub(crate) use task::{AFTER, Needed, Phase};

use crate::{
    AttemptId, Digest, Event, JobId, JobNumber, JobTerms, Now, Outcome, TaskState, Timestamp,
    config::Config, ready::Need,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// One job.
#[derive(Debug)]
pub struct Job {
    pub(crate) number: JobNumber,
    pub(crate) id: JobId,
    pub(crate) owner: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) priority: i32,
    pub(crate) terms: JobTerms,
    pub(crate) created_unix_ms: u64,
    /// When the last thing ended or its last watcher left; a finished job is forgotten some time after, another one closed.
    pub(crate) idle_since_unix_ms: u64,
    pub(crate) closed: bool,
    pub(crate) cancelled: bool,
    pub(crate) tasks: Vec<Task>,
    /// Those with sequence number 1, 2, …; a task that was rerun has several.
    pub(crate) outcomes: Vec<Arc<Outcome>>,
    pub(crate) counts: TaskCounts,
    /// Tasks by their customer's own names.
    pub(crate) keys: HashMap<Arc<str>, u64>,
    /// Tasks that wait, or waited, for another one.
    pub(crate) dependents: HashMap<u64, Vec<u64>>,
    /// For tasks that were rerun, the latest try of an earlier generation.
    pub(crate) fences: HashMap<u64, AttemptId>,
    /// Tasks that run.
    pub(crate) running: BTreeSet<u64>,
    /// What its waiting tasks demand, and how many demand that: mostly one or two needs.
    pub(crate) needs: Vec<(Need, u64)>,
    /// What its successful tries ran, added up.
    pub(crate) run_ms_sum: u64,
    /// Customers that watch it now.
    pub(crate) watcher_count: u32,
    /// Latest sign of life of its customer, while none watches.
    pub(crate) customer_seen_at: Timestamp,
    /// When it is cancelled for its customer's absence; what must be taken out of the index before that changes.
    pub(crate) listed_absence: Option<Timestamp>,
    /// When it is forgotten, or closed; likewise.
    pub(crate) listed_due_at_unix_ms: Option<u64>,
    /// Whether it counts among its owner's open ones; likewise.
    pub(crate) listed_open: bool,
    /// Uploads and imports.
    pub(crate) uploads: HashSet<Digest>,
    /// Outputs not yet released, and how many tasks gave each.
    pub(crate) outputs: HashMap<Digest, u32>,
}

/// Tasks of a job, or of all, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// For a worker, or for the pause after a failed try.
    pub waiting: u64,
    /// On at least one worker.
    pub running: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended badly.
    pub failed: u64,
    /// Ended by their customer.
    pub cancelled: u64,
}

impl Job {
    /// Its short name.
    pub fn number(&self) -> JobNumber {
        self.number
    }

    /// Its customer's name for it.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Name of the token that opened it.
    pub fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// For people.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Larger goes first among one owner's jobs.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Wall clock.
    pub fn created_unix_ms(&self) -> u64 {
        self.created_unix_ms
    }

    /// Whether it takes no more tasks.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What else it is like.
    pub fn terms(&self) -> JobTerms {
        self.terms
    }

    /// Whether it is closed and every task has its outcome.
    pub fn is_finished(&self) -> bool {
        self.closed && self.counts.waiting + self.counts.running == 0
    }

    /// How many tasks are in which state.
    pub fn counts(&self) -> TaskCounts {
        self.counts
    }

    /// How many tasks were submitted.
    pub fn task_count(&self) -> u64 {
        self.tasks.len() as u64
    }

    /// How many outcomes there are; the largest sequence number.
    pub fn outcome_count(&self) -> u64 {
        self.outcomes.len() as u64
    }

    /// Outcomes with a larger sequence number than `sequence`, in sequence.
    pub fn outcomes_after(&self, sequence: u64) -> impl Iterator<Item = &Arc<Outcome>> {
        let from = usize::try_from(sequence)
            .unwrap_or(usize::MAX)
            .min(self.outcomes.len());
        self.outcomes[from..].iter()
    }

    /// The task of a customer's own name.
    pub fn index_of_key(&self, key: &str) -> Option<u64> {
        self.keys.get(key).copied()
    }

    /// The task at a position.
    pub fn task(&self, index: u64) -> Option<&Task> {
        self.tasks.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn add_need(&mut self, need: &Need) {
        match self.needs.iter_mut().find(|(known, _)| known == need) {
            Some((_, count)) => *count += 1,
            None => self.needs.push((need.clone(), 1)),
        }
    }

    pub(crate) fn drop_need(&mut self, need: &Need) {
        if let Some(position) = self.needs.iter().position(|(known, _)| known == need) {
            self.needs[position].1 -= 1;
            if self.needs[position].1 == 0 {
                self.needs.swap_remove(position);
            }
        }
    }

    /// Whether its last tasks run, and nothing that could run waits: slots that idle may run them a second time. What waits for
    /// those that run, or for another try, does not count.
    pub(crate) fn is_near_end(&self) -> bool {
        self.needs.is_empty() && self.counts.running > 0
    }

    /// When it may be forgotten, if it is finished; or closed, if nobody seems to care to.
    pub(crate) fn due_at_unix_ms(&self, config: &Config) -> Option<u64> {
        let keep_ms = self.terms.keep_ms.unwrap_or(config.keep_ms);
        let keep_ms = match (self.is_finished(), self.cancelled) {
            (true, true) => keep_ms.min(config.keep_cancelled_ms),
            (true, false) => keep_ms,
            // Its customer may be about to submit: a short keep-time is not meant for that.
            (false, _) => keep_ms.max(config.keep_unclosed_ms),
        };
        let is_idle = self.counts.waiting + self.counts.running == 0;
        (is_idle && (self.closed || self.watcher_count == 0))
            .then(|| self.idle_since_unix_ms.saturating_add(keep_ms))
    }

    /// When it is to be cancelled since its customer is not there.
    pub(crate) fn absence_deadline(&self) -> Option<Timestamp> {
        let absence_ms_max = self.terms.absence_ms_max?;
        let is_missed = self.watcher_count == 0 && !self.is_finished();
        is_missed.then(|| self.customer_seen_at.after_ms(absence_ms_max))
    }

    /// A sign of life of its customer, where anybody waits for one.
    pub(crate) fn seen(&self, now: Now) -> Option<Event> {
        self.terms.absence_ms_max.map(|_| Event::CustomerSeen {
            job: self.number,
            at: now.at,
        })
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.outcome_count() + 1
    }
}

impl TaskCounts {
    pub(crate) fn of_state(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Waiting => &mut self.waiting,
            TaskState::Running => &mut self.running,
            TaskState::Succeeded => &mut self.succeeded,
            TaskState::Failed => &mut self.failed,
            TaskState::Cancelled => &mut self.cancelled,
        }
    }
}
