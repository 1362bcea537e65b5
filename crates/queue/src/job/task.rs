//! A task on its way: what it needs, where it stands, what went wrong.

use crate::{
    AttemptId, Failure, FailureClass, InputSource, Kind, Outcome, OutcomeResult, Payload, TaskSpec,
    TaskState, Timestamp, WorkerId,
    holdings::Part,
    ready::{Lane, Need},
};
use std::{collections::BTreeSet, sync::Arc};

/// One task.
#[derive(Debug)]
pub struct Task {
    /// Without its parameters: tasks submitted together mostly differ in nothing else, and then share this.
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) parameters: Payload,
    pub(crate) phase: Phase,
    pub(crate) attempts_begun: u32,
    /// How often a later one was given out instead while it waited.
    pub(crate) passed_over_count: u8,
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
    /// Tasks that have yet to succeed, each with the positions of the inputs that it gives, or with [`AFTER`].
    pub(crate) open: BTreeSet<(u64, u32)>,
    /// Inputs by position, as far as they are there. Their blobs are held for the task until it ends.
    pub(crate) inputs: Vec<(usize, InputSource)>,
}

/// In place of an input's position: the task must succeed, and gives nothing.
pub(crate) const AFTER: u32 = u32::MAX;

impl Needed {
    /// All that a task needs, while nothing is there.
    pub(crate) fn of(spec: &TaskSpec) -> Option<Self> {
        let inputs = (0..AFTER).zip(&spec.inputs);
        let read = inputs.filter_map(|(position, input)| match input.source {
            InputSource::Output { task_index, .. } => Some((task_index, position)),
            InputSource::Blob(_) | InputSource::Message(_) => None,
        });
        let after = spec.after.iter().map(|index| (*index, AFTER));
        let open: BTreeSet<_> = read.chain(after).collect();
        (!open.is_empty()).then_some(Self {
            open,
            inputs: Vec::new(),
        })
    }

    /// Tasks that have yet to succeed, each once.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = u64> {
        let mut last = None;
        let open = self.open.iter().map(|(index, _)| *index);
        open.filter(move |index| last.replace(*index) != Some(*index))
    }

    /// Positions of the inputs that a task gives.
    pub(crate) fn given_by(&self, index: u64) -> impl Iterator<Item = usize> {
        let given = self.open.range((index, 0)..(index, AFTER));
        given.map(|(_, position)| *position as usize)
    }
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
    /// Where they failed, as far as is known: it is tried elsewhere while it can be. Changes only while the task is
    /// not listed.
    pub(crate) failed_on: Vec<WorkerId>,
    /// Tries whose worker was lost while it ran other tasks too.
    pub(crate) lost_in_company: Vec<AttemptId>,
    /// Tries whose worker was lost while it ran nothing else.
    pub(crate) lost_alone: Vec<AttemptId>,
    /// The latest.
    pub(crate) last: Option<Failure>,
}

impl Task {
    /// A new one, which waits for others until it turns out that it need not.
    pub(crate) fn new(spec: &Arc<TaskSpec>, before: Option<&Self>) -> Self {
        Self {
            spec: match before.filter(|before| before.spec.equals_but_parameters(spec)) {
                Some(before) => before.spec.clone(),
                None => Arc::new(spec.without_parameters()),
            },
            parameters: spec.parameters.clone(),
            phase: Phase::Blocked,
            attempts_begun: 0,
            passed_over_count: 0,
            generation: 0,
            history: None,
            needed: Needed::of(spec).map(Box::new),
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
        self.needed.iter().flat_map(|needed| needed.tasks())
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
        Need::of(&self.spec)
    }

    /// Bytes that are kept of it until it ends.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.spec.kept_bytes(&self.parameters)
    }

    /// Among which tasks it waits.
    pub(crate) fn lane(&self) -> Lane {
        let history = self.history.as_ref();
        Lane {
            need: self.need(),
            failed_on: history.and_then(|history| history.failed_on.last().copied()),
        }
    }

    /// Whether it reads anything. Most of the smallest do not, and dispatch spends nothing on where their bytes are.
    pub(crate) fn has_inputs(&self) -> bool {
        !self.spec.inputs.is_empty()
    }

    /// What it reads of blobs, as far as they are there.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let own = self.spec.inputs.iter();
        let own = own.map(|input| (&input.source, &input.ranges));
        let fed = self.needed.iter().flat_map(|needed| &needed.inputs);
        let fed = fed.filter_map(|(position, source)| {
            Some((source, &self.spec.inputs.get(*position)?.ranges))
        });
        own.chain(fed).filter_map(|(source, ranges)| match source {
            InputSource::Blob(blob) => Some((blob, ranges.as_slice())),
            InputSource::Output { .. } | InputSource::Message(_) => None,
        })
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

    pub(crate) fn remember(
        &mut self,
        attempt: AttemptId,
        worker: Option<WorkerId>,
        failure: &Failure,
    ) {
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
        if let Some(worker) = worker {
            history.failed_on.retain(|other| *other != worker);
            history.failed_on.push(worker);
        }
    }

    /// Whether a try was lost with its worker, as far as is known.
    pub(crate) fn was_lost(&self, attempt: AttemptId) -> bool {
        self.history.as_ref().is_some_and(|history| {
            history.lost_in_company.contains(&attempt) || history.lost_alone.contains(&attempt)
        })
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
