//! Jobs and their tasks, as the queue remembers them.

use crate::{
    AttemptId, Digest, Failure, FailureClass, InputSource, JobId, JobNumber, JobTerms, Kind,
    Outcome, OutcomeResult, Payload, TaskSpec, TaskState, Timestamp, WorkerId, config::Config,
    ready::Need,
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
    /// When the last thing ended; a finished job is forgotten some time after.
    pub(crate) ended_unix_ms: u64,
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
    /// When it is forgotten; likewise.
    pub(crate) listed_forget_at_unix_ms: Option<u64>,
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

/// One task.
#[derive(Debug)]
pub struct Task {
    /// Without its parameters: tasks submitted together mostly differ in nothing else, and then share this.
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) parameters: Payload,
    pub(crate) phase: Phase,
    pub(crate) attempts_begun: u32,
    /// How often it was rerun.
    pub(crate) generation: u32,
    /// Most tasks never fail, and a million of them may wait: what went wrong is kept apart.
    pub(crate) history: Option<Box<History>>,
    /// What it needs of other tasks, if it does.
    pub(crate) needed: Option<Box<Needed>>,
}

/// What a task needs of others.
#[derive(Debug)]
pub(crate) struct Needed {
    /// Tasks that have yet to succeed.
    pub(crate) open: BTreeSet<u64>,
    /// Inputs by position, as far as they are there. Their blobs are held for the task until it ends.
    pub(crate) inputs: Vec<(usize, InputSource)>,
}

/// Where a task stands, and what that needs.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Needs others to succeed first.
    Blocked,
    /// Listed for dispatch: among the ordinary ones, or among those to be tried alone.
    Waiting { alone: bool },
    /// Pausing after a failed try.
    Paused { until: Timestamp },
    /// Never without a live attempt.
    Running { live: Vec<(AttemptId, WorkerId)> },
    /// For good.
    Ended { outcome: Arc<Outcome> },
}

/// What went wrong with a task so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Tries that failed by themselves, and so count against `attempts_max`. None of them comes to life again.
    pub(crate) failed: Vec<AttemptId>,
    /// Where they failed, as far as is known: better try elsewhere.
    pub(crate) failed_on: Vec<WorkerId>,
    /// Tries whose worker was lost while it ran other tasks too.
    pub(crate) lost_in_company: Vec<AttemptId>,
    /// Tries whose worker was lost while it ran nothing else.
    pub(crate) lost_alone: Vec<AttemptId>,
    /// The latest.
    pub(crate) last: Option<Failure>,
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

    /// Whether its last tasks run, and nothing waits: slots that idle may run them a second time.
    pub(crate) fn is_near_end(&self) -> bool {
        self.counts.waiting == 0 && self.counts.running > 0
    }

    /// When it may be forgotten, if it is finished.
    pub(crate) fn forget_at_unix_ms(&self, config: &Config) -> Option<u64> {
        let keep_ms = self.terms.keep_ms.unwrap_or(config.keep_ms);
        let keep_ms = if self.cancelled {
            keep_ms.min(config.keep_cancelled_ms)
        } else {
            keep_ms
        };
        self.is_finished()
            .then(|| self.ended_unix_ms.saturating_add(keep_ms))
    }

    /// When it is to be cancelled since its customer is not there.
    pub(crate) fn absence_deadline(&self) -> Option<Timestamp> {
        let absence_ms_max = self.terms.absence_ms_max?;
        let is_missed = self.watcher_count == 0 && !self.is_finished();
        is_missed.then(|| self.customer_seen_at.after_ms(absence_ms_max))
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.outcome_count() + 1
    }
}

impl Task {
    /// A new one, which waits for others until it turns out that it need not.
    pub(crate) fn new(spec: &Arc<TaskSpec>, before: Option<&Self>) -> Self {
        let dependencies = spec.dependencies();
        Self {
            spec: match before.filter(|before| before.spec.equals_but_parameters(spec)) {
                Some(before) => before.spec.clone(),
                None => Arc::new(spec.without_parameters()),
            },
            parameters: spec.parameters.clone(),
            phase: Phase::Blocked,
            attempts_begun: 0,
            generation: 0,
            history: None,
            needed: (!dependencies.is_empty()).then(|| {
                Box::new(Needed {
                    open: dependencies,
                    inputs: Vec::new(),
                })
            }),
        }
    }

    /// As submitted, but for its parameters.
    pub fn spec(&self) -> &Arc<TaskSpec> {
        &self.spec
    }

    /// How often it was rerun.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Tasks it waits for that have not succeeded yet.
    pub fn waits_for(&self) -> impl Iterator<Item = u64> {
        let open = self.needed.iter().flat_map(|needed| &needed.open);
        open.copied()
    }

    /// Where it stands.
    pub fn state(&self) -> TaskState {
        self.phase.state()
    }

    /// Tries that were begun, as far as is remembered: after a restart of the broker, those that failed.
    pub fn attempts_begun(&self) -> u32 {
        let remembered = self.history.as_ref().map_or(0, |history| {
            history.failed.len() + history.lost_in_company.len() + history.lost_alone.len()
        });
        self.attempts_begun
            .max(u32::try_from(remembered).unwrap_or(u32::MAX))
    }

    /// Tries that run, and on whom.
    pub fn live(&self) -> &[(AttemptId, WorkerId)] {
        match &self.phase {
            Phase::Running { live } => live,
            Phase::Blocked | Phase::Waiting { .. } | Phase::Paused { .. } | Phase::Ended { .. } => {
                &[]
            }
        }
    }

    /// What it came to.
    pub fn outcome(&self) -> Option<&Arc<Outcome>> {
        match &self.phase {
            Phase::Ended { outcome } => Some(outcome),
            Phase::Blocked
            | Phase::Waiting { .. }
            | Phase::Paused { .. }
            | Phase::Running { .. } => None,
        }
    }

    /// Why it failed, or why its last try did.
    pub fn failure(&self) -> Option<&Failure> {
        match self.outcome().map(|outcome| &outcome.result) {
            Some(OutcomeResult::Failed(failure)) => Some(failure),
            Some(OutcomeResult::Succeeded(_) | OutcomeResult::Cancelled) => None,
            None => self.history.as_ref()?.last.as_ref(),
        }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.spec.kind
    }

    /// What it demands of a worker.
    pub(crate) fn need(&self) -> Need {
        Need {
            kind: self.spec.kind.clone(),
            resources: self.spec.resources,
        }
    }

    /// Whether a try failed on this worker.
    pub(crate) fn failed_on(&self, worker: WorkerId) -> bool {
        self.history
            .as_ref()
            .is_some_and(|history| history.failed_on.contains(&worker))
    }

    /// Tries that count against `attempts_max`.
    pub(crate) fn failed_count(&self) -> usize {
        self.history
            .as_ref()
            .map_or(0, |history| history.failed.len())
    }

    pub(crate) fn lost_alone_count(&self) -> usize {
        self.history
            .as_ref()
            .map_or(0, |history| history.lost_alone.len())
    }

    /// Whether it is under suspicion of killing workers, so that nothing may run beside it.
    pub(crate) fn is_suspect(&self, company_losses_max: usize) -> bool {
        self.history.as_ref().is_some_and(|history| {
            !history.lost_alone.is_empty() || history.lost_in_company.len() >= company_losses_max
        })
    }

    /// Whether a try failed by itself, so that no worker may take it up again.
    pub(crate) fn has_failed(&self, attempt: AttemptId) -> bool {
        self.history
            .as_ref()
            .is_some_and(|history| history.failed.contains(&attempt))
    }

    pub(crate) fn remember(&mut self, attempt: AttemptId, failure: &Failure) {
        let history = self.history.get_or_insert_default();
        let list = match failure.class {
            FailureClass::WorkerLost => &mut history.lost_in_company,
            FailureClass::KilledWorkers => &mut history.lost_alone,
            FailureClass::KernelError
            | FailureClass::TimedOut
            | FailureClass::BadInput
            | FailureClass::Dependency => &mut history.failed,
        };
        if !list.contains(&attempt) {
            list.push(attempt);
        }
        history.last = Some(failure.clone());
        if let Phase::Running { live } = &self.phase {
            let on = live.iter().filter(|(other, _)| *other == attempt);
            history.failed_on.extend(on.map(|(_, worker)| *worker));
        }
    }

    /// A try that was thought lost goes on, so its worker was not killed by it.
    pub(crate) fn acquit(&mut self, attempt: AttemptId) {
        if let Some(history) = &mut self.history {
            history.lost_in_company.retain(|lost| *lost != attempt);
            history.lost_alone.retain(|lost| *lost != attempt);
        }
    }
}

impl Phase {
    /// Whether it waits for a worker, and for nothing else.
    pub(crate) fn is_listed(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    pub(crate) fn state(&self) -> TaskState {
        match self {
            Self::Blocked | Self::Waiting { .. } | Self::Paused { .. } => TaskState::Waiting,
            Self::Running { .. } => TaskState::Running,
            Self::Ended { outcome } => match outcome.result {
                OutcomeResult::Succeeded(_) => TaskState::Succeeded,
                OutcomeResult::Failed(_) => TaskState::Failed,
                OutcomeResult::Cancelled => TaskState::Cancelled,
            },
        }
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
