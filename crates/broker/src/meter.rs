//! What happened, counted as it happens: what the queue forgets, and people want to see drawn over time.
//!
//! The engine notes each event once it is written. Nothing here decides anything, and nothing is remembered over a
//! restart. What can be read off the queue at any moment (what waits, who attends) is not counted here, but looked up when
//! somebody asks: see `web/metrics.rs`.

mod ages;
mod failures;

pub(crate) use failures::Failed;

use ages::Ages;
use dewar_queue::{Event, FailureClass, JobNumber, Kind, Now, OutcomeResult, Queue, TaskId};
use failures::Failures;
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Kinds told apart; a lab has a dozen. Each has a series for every bucket.
const KIND_COUNT_MAX: usize = 64;

/// From a no-op to a task of hours.
const RUN_SECONDS: [f64; 12] = [
    0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

/// From a fast disk's sync to a stall.
const FLUSH_SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// One broker's counts. Clones of the handle share them.
#[derive(Debug)]
pub(crate) struct Meter {
    /// What a batch took from being taken up to its assignments being sent.
    dispatch_seconds: Histogram,
    /// What tasks waited from their submission to their first try.
    wait_seconds: Histogram,
    flush_seconds: Histogram,
    run_seconds: Family<KindLabel, Histogram, fn() -> Histogram>,
    outcomes: Family<OutcomeLabel, Counter>,
    failed_attempts: Family<ClassLabel, Counter>,
    lost_leases: Counter,
    lost_workers: Counter,
    wanted_input_bytes: Counter,
    held_input_bytes: Counter,
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    ages: Ages,
    failures: Failures,
    kinds: HashMap<Kind, KnownKind>,
}

#[derive(Debug)]
struct KnownKind {
    run_seconds: Histogram,
    /// It has a series of its own.
    is_own: bool,
}

/// Of which kind a task is; those beyond the bound are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct KindLabel(Option<Kind>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct OutcomeLabel(&'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ClassLabel(FailureClass);

impl Default for Meter {
    fn default() -> Self {
        let run_seconds: fn() -> Histogram = || Histogram::new(RUN_SECONDS);
        let meter = Self {
            dispatch_seconds: Histogram::new(FLUSH_SECONDS),
            wait_seconds: Histogram::new(RUN_SECONDS),
            flush_seconds: Histogram::new(FLUSH_SECONDS),
            run_seconds: Family::new_with_constructor(run_seconds),
            outcomes: Family::default(),
            failed_attempts: Family::default(),
            lost_leases: Counter::default(),
            lost_workers: Counter::default(),
            wanted_input_bytes: Counter::default(),
            held_input_bytes: Counter::default(),
            remembered: Mutex::default(),
        };
        // There from the beginning, so that a rate over them begins with the first.
        for outcome in [SUCCEEDED, FAILED] {
            drop(meter.outcomes.get_or_create(&outcome));
        }
        for class in CLASSES {
            drop(meter.failed_attempts.get_or_create(&ClassLabel(class)));
        }
        meter
    }
}

const SUCCEEDED: OutcomeLabel = OutcomeLabel("succeeded");
const FAILED: OutcomeLabel = OutcomeLabel("failed");

const CLASSES: [FailureClass; 6] = [
    FailureClass::KernelError,
    FailureClass::WorkerLost,
    FailureClass::TimedOut,
    FailureClass::BadInput,
    FailureClass::Dependency,
    FailureClass::KilledWorkers,
];

impl Meter {
    /// Takes note of what was decided, folded in, and written if it is to be.
    pub(crate) fn note(&self, event: &Event, queue: &Queue, now: Now) {
        match event {
            Event::TasksSubmitted {
                job, first_index, ..
            } => self
                .remembered()
                .ages
                .note_submitted(*job, *first_index, now.unix_ms),
            Event::TasksRerun { job, indices, .. } => {
                if let Some(first) = indices.first() {
                    self.remembered().ages.note_waiting(*job, *first);
                }
            }
            Event::AttemptStarted { task, worker, .. } => {
                self.note_started(*task, queue, now);
                let bytes = queue.input_bytes(*task, *worker);
                self.wanted_input_bytes.inc_by(bytes.wanted);
                self.held_input_bytes.inc_by(bytes.held);
            }
            Event::AttemptEnded { task, .. } => {
                self.remembered().ages.note_waiting(task.job, task.index);
            }
            Event::AttemptFailed {
                task,
                worker,
                failure,
                ..
            } => {
                self.count_failed(failure.class);
                let kind = queue.task(*task).map(|task| task.spec().kind.clone());
                let mut remembered = self.remembered();
                remembered
                    .failures
                    .note_attempt(*task, kind, *worker, failure, now.unix_ms);
            }
            Event::TaskEnded { outcome, .. } => {
                let kind = queue
                    .task(outcome.task)
                    .map(|task| task.spec().kind.clone());
                match &outcome.result {
                    OutcomeResult::Succeeded(_) => {
                        self.outcomes.get_or_create(&SUCCEEDED).inc();
                        if let Some(kind) = kind.filter(|_| !outcome.reused) {
                            self.observe_run(kind, Duration::from_millis(outcome.run_ms));
                        }
                    }
                    OutcomeResult::Failed(failure) => {
                        self.outcomes.get_or_create(&FAILED).inc();
                        // Of the last try there is no event of its own.
                        self.count_failed(failure.class);
                        let by = outcome.worker_name.clone();
                        let mut remembered = self.remembered();
                        remembered
                            .failures
                            .note_end(outcome.task, kind, by, failure, now.unix_ms);
                    }
                    OutcomeResult::Cancelled => {}
                }
            }
            Event::WorkerJoined { hello, .. } => {
                let mut remembered = self.remembered();
                remembered.failures.note_name(hello.id, hello.name.clone());
            }
            Event::WorkerGone { .. } => {
                self.lost_workers.inc();
            }
            Event::JobForgotten { job } => self.remembered().ages.forget(*job),
            _ => {}
        }
    }

    /// What writing a batch took.
    pub(crate) fn observe_flush(&self, took: Duration) {
        self.flush_seconds.observe(took.as_secs_f64());
    }

    /// What a batch took until its assignments were sent.
    pub(crate) fn observe_dispatch(&self, took: Duration) {
        self.dispatch_seconds.observe(took.as_secs_f64());
    }

    /// The latest failures, the newest first.
    pub(crate) fn failures(&self) -> Vec<Failed> {
        self.remembered().failures.newest_first()
    }

    /// A worker's name, of those that came since the broker started.
    pub(crate) fn worker_name(&self, worker: dewar_queue::WorkerId) -> Option<Arc<str>> {
        self.remembered().failures.name_of(worker)
    }

    /// When the task of a job that waits the longest was submitted, by the wall clock.
    pub(crate) fn oldest_waiting_unix_ms(&self, queue: &Queue, job: JobNumber) -> Option<u64> {
        self.remembered().ages.oldest_waiting(queue, job)
    }

    /// Tasks that came to an end by themselves.
    pub(crate) fn outcome_count(&self) -> u64 {
        let count = |label| self.outcomes.get_or_create(&label).get();
        count(SUCCEEDED) + count(FAILED)
    }

    /// Puts all of it where it is read, under names that `docs/metrics.md` has.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "dewar_dispatch_seconds",
            "Time from taking up a batch of news to having sent the assignments that follow from it, for batches with any",
            self.dispatch_seconds.clone(),
        );
        registry.register(
            "dewar_task_wait_seconds",
            "Time from a task's submission to its first try being handed to a worker",
            self.wait_seconds.clone(),
        );
        registry.register(
            "dewar_store_flush_seconds",
            "Time in which a batch of events was written and forced to disk",
            self.flush_seconds.clone(),
        );
        registry.register(
            "dewar_task_run_seconds",
            "Time for which the successful try of a task ran, by kind",
            self.run_seconds.clone(),
        );
        registry.register(
            "dewar_outcomes",
            "Tasks that ended by themselves, by outcome",
            self.outcomes.clone(),
        );
        registry.register(
            "dewar_failed_attempts",
            "Tries that failed, by class of failure",
            self.failed_attempts.clone(),
        );
        registry.register(
            "dewar_lost_leases",
            "Tries that ended because their worker was lost",
            self.lost_leases.clone(),
        );
        registry.register(
            "dewar_gone_workers",
            "Workers that left or were given up",
            self.lost_workers.clone(),
        );
        registry.register(
            "dewar_wanted_input_bytes",
            "Bytes that tries read of their inputs, as known when they were handed out",
            self.wanted_input_bytes.clone(),
        );
        registry.register(
            "dewar_held_input_bytes",
            "Those of them that the worker held already: cache hits",
            self.held_input_bytes.clone(),
        );
    }

    fn count_failed(&self, class: FailureClass) {
        self.failed_attempts.get_or_create(&ClassLabel(class)).inc();
        let is_lost = matches!(
            class,
            FailureClass::WorkerLost | FailureClass::KilledWorkers
        );
        if is_lost {
            self.lost_leases.inc();
        }
    }

    fn note_started(&self, id: TaskId, queue: &Queue, now: Now) {
        let task = queue.task(id);
        if task.is_none_or(|task| task.attempts_begun() > 1 || task.generation() > 0) {
            return;
        }
        let submitted = self.remembered().ages.submitted_unix_ms(id);
        if let Some(submitted) = submitted {
            let waited = Duration::from_millis(now.unix_ms.saturating_sub(submitted));
            self.wait_seconds.observe(waited.as_secs_f64());
        }
    }

    fn observe_run(&self, kind: Kind, took: Duration) {
        let mut remembered = self.remembered();
        let own_count = remembered.kinds.values().filter(|known| known.is_own);
        let has_room = own_count.count() < KIND_COUNT_MAX;
        let known = remembered.kinds.entry(kind).or_insert_with_key(|kind| {
            let label = KindLabel(has_room.then(|| kind.clone()));
            KnownKind {
                run_seconds: self.run_seconds.get_or_create_owned(&label),
                is_own: has_room,
            }
        });
        known.run_seconds.observe(took.as_secs_f64());
        if remembered.kinds.len() > 2 * KIND_COUNT_MAX {
            // Of kinds without end only those are remembered that have a series of their own.
            remembered.kinds.retain(|_, known| known.is_own);
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        // Counts are no worse for a panic elsewhere.
        self.remembered
            .lock()
            .unwrap_or_else(|lost| lost.into_inner())
    }
}

/// A class as people read it.
pub(crate) fn class_name(class: FailureClass) -> &'static str {
    match class {
        FailureClass::KernelError => "kernel error",
        FailureClass::WorkerLost => "worker lost",
        FailureClass::TimedOut => "timed out",
        FailureClass::BadInput => "bad input",
        FailureClass::Dependency => "dependency",
        FailureClass::KilledWorkers => "killed workers",
    }
}

impl EncodeLabelSet for KindLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
        let kind = self.0.as_ref().map_or_else(
            || "other".to_owned(),
            |kind| format!("{}/{}", kind.name, kind.version),
        );
        [("kind", kind)].encode(encoder)
    }
}

impl EncodeLabelSet for OutcomeLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
        [("outcome", self.0)].encode(encoder)
    }
}

impl EncodeLabelSet for ClassLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
        [("class", class_name(self.0))].encode(encoder)
    }
}
