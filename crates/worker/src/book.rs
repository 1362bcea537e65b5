//! The book of attempts: how far each is, and what it came to.
//!
//! The session turns what it hears into calls here. What must be said to the broker is put down in order and taken by
//! the session. What becomes of results is in `results.rs` beside this.

mod caution;
mod results;

use crate::{
    attempt::{Attempt, AttemptKey, Durability, Took, failure},
    delivery::{self, Delivery},
    materials::{self, Materials, Prepared},
    results::Keeper,
    session::Event,
    slots::{Finished, Ran, Slots, Work},
    time_limit::Clocks,
};
use caution::Caution;
use dewar_proto::v1;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use v1::{report, worker_message::Message as ToBroker};

/// A kernel that was told to stop and goes on for so long is not waited for.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Names of tasks that are kept before those are forgotten that are done with.
const NAME_COUNT_MIN: usize = 1024;

/// Every attempt of this worker, and what works on them.
pub(crate) struct Book {
    events: mpsc::Sender<Event>,
    slots: Slots,
    materials: Materials,
    delivery: Delivery,
    keeper: Keeper,
    /// The broker is away.
    is_away: bool,
    /// Nothing new begins: other people need the machine.
    is_paused: bool,
    attempts: HashMap<AttemptKey, Attempt>,
    /// What people call their tasks, for logs; not known of those of an earlier process.
    names: HashMap<AttemptKey, Arc<str>>,
    /// Attempts that are [`Attempt::Ready`], in the order they became so; some may be gone since.
    ready: VecDeque<AttemptKey>,
    /// When the time of attempts that run is over.
    clocks: Clocks,
    /// When attempts that run were told to stop, in order. Most have stopped since.
    stopping: VecDeque<(Instant, AttemptKey)>,
    /// Attempts whose kernels did not stop, and may yet return.
    stuck: HashSet<AttemptKey>,
    caution: Caution,
    /// What the broker must hear, in order.
    said: Vec<ToBroker>,
}

impl Book {
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        slots: Slots,
        materials: Materials,
        delivery: Delivery,
        keeper: Keeper,
    ) -> Self {
        Self {
            events,
            slots,
            materials,
            delivery,
            keeper,
            is_away: true,
            is_paused: false,
            attempts: HashMap::new(),
            names: HashMap::new(),
            ready: VecDeque::new(),
            clocks: Clocks::default(),
            stopping: VecDeque::new(),
            stuck: HashSet::new(),
            caution: Caution::default(),
            said: Vec::new(),
        }
    }

    /// What the broker must hear since this was last asked.
    pub(crate) fn take_said(&mut self) -> Vec<ToBroker> {
        std::mem::take(&mut self.said)
    }

    /// Every attempt, for a hello.
    pub(crate) fn held(&self) -> Vec<v1::HeldAttempt> {
        self.attempts.keys().map(AttemptKey::held).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.attempts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Whether every kernel has returned, but for those that are not waited for.
    pub(crate) fn all_idle(&self) -> bool {
        self.slots.all_idle()
    }

    /// Slots at work.
    pub(crate) fn busy_count(&self) -> usize {
        self.slots.busy_count()
    }

    /// Takes an assignment up, or hands it back at once.
    pub(crate) fn accept(&mut self, assignment: v1::Assignment, takes_new: bool) {
        let key = AttemptKey::from_wire(assignment.task.as_ref(), assignment.attempt.as_ref());
        let Some(key) = key else {
            tracing::warn!(
                task = assignment.display_name,
                "assignment without task or attempt"
            );
            return;
        };
        if self.attempts.contains_key(&key) {
            return;
        }
        if !takes_new {
            self.hand_back([key]);
            return;
        }
        tracing::debug!(task = assignment.display_name, attempt = %key, "assigned");
        self.note_name(key, &assignment.display_name);
        let spec = assignment.spec.unwrap_or_default();
        if materials::is_complete(&spec) {
            // No task of its own for the many that are small.
            self.make_ready(key, materials::unpack(spec));
            return;
        }
        let (materials, events) = (self.materials.clone(), self.events.clone());
        let preparing = tokio::spawn(async move {
            let prepared = materials.prepare(spec).await;
            // The session may have left meanwhile.
            let _ = events.send(Event::Prepared { key, prepared }).await;
        });
        self.attempts
            .insert(key, Attempt::Preparing(preparing.abort_handle()));
    }

    /// What people call an attempt's task: j7.42.
    pub(crate) fn task_name(&self, key: AttemptKey) -> Arc<str> {
        let known = self.names.get(&key).cloned();
        known.unwrap_or_else(|| "unknown".into())
    }

    fn note_name(&mut self, key: AttemptKey, name: &str) {
        if self.names.len() > 2 * self.attempts.len() + NAME_COUNT_MIN {
            self.names.retain(|key, _| self.attempts.contains_key(key));
        }
        self.names.insert(key, name.into());
    }

    pub(crate) fn take_up(&mut self, key: AttemptKey, prepared: Result<Prepared, v1::Failure>) {
        // It may have been stopped while it was fetched.
        if matches!(self.attempts.get(&key), Some(Attempt::Preparing(_))) {
            self.make_ready(key, prepared);
        }
    }

    fn make_ready(&mut self, key: AttemptKey, prepared: Result<Prepared, v1::Failure>) {
        match prepared {
            Ok(prepared) => {
                self.attempts.insert(key, Attempt::Ready(prepared));
                self.ready.push_back(key);
            }
            Err(failure) => {
                let report = key.report(report::Result::Failed(failure), Took::default());
                self.say_report(key, report, Durability::Recent);
            }
        }
    }

    /// Gives the slots what they have room for, in order: a task of several slots is not overtaken while it waits.
    pub(crate) fn fill_slots(&mut self) {
        if self.is_paused {
            return;
        }
        while let Some(key) = self.ready.front().copied() {
            // It may have been stopped or handed back while it waited.
            let Some(Attempt::Ready(prepared)) = self.attempts.get(&key) else {
                self.ready.pop_front();
                continue;
            };
            if !self.slots.has_room(prepared.need) {
                return;
            }
            self.ready.pop_front();
            let running = Attempt::Running {
                context: prepared.context.clone(),
                need: prepared.need,
                fetch_ms: prepared.fetch_ms,
                halted: None,
            };
            if let Some(limit) = prepared.time_limit.clone() {
                self.clocks.watch(key, limit);
            }
            if let Some(Attempt::Ready(prepared)) = self.attempts.insert(key, running) {
                let task = self.task_name(key);
                self.slots.run(Work {
                    key,
                    task,
                    prepared,
                });
            }
        }
    }

    pub(crate) fn finish(&mut self, finished: Finished) {
        let Finished {
            key,
            need,
            ran,
            run_time,
        } = finished;
        self.clocks.forget(key);
        if self.stuck.remove(&key) {
            // Another thread has its slot by now.
            self.slots.dismiss_one();
            return;
        }
        self.slots.end(need, run_time);
        let run_ms = u64::try_from(run_time.as_millis()).unwrap_or(u64::MAX);
        // What was handed back is nobody's.
        let Some(Attempt::Running {
            halted, fetch_ms, ..
        }) = self.attempts.get_mut(&key)
        else {
            return;
        };
        let took = Took {
            fetch_ms: *fetch_ms,
            run_ms,
        };
        if let Some(end) = halted.take() {
            self.report(key, end, took);
            return;
        }
        let ran = match ran {
            Ran::Output(output) => match delivery::excess(&output) {
                Some(failure) => Ran::Failed(failure),
                None => Ran::Output(output),
            },
            ran => ran,
        };
        let result = match ran {
            Ran::Output(output) if delivery::fits_report(&output) => {
                report::Result::Succeeded(delivery::inline(output))
            }
            Ran::Output(output) => {
                self.deliver_new(key, output, took);
                return;
            }
            Ran::Failed(failure) => {
                tracing::warn!(task = %self.task_name(key), attempt = %key, message = failure.message, "failed");
                report::Result::Failed(failure)
            }
            Ran::Cancelled => report::Result::Failed(failure(
                v1::FailureClass::KernelError,
                "the kernel says it was cancelled, but nobody cancelled it",
            )),
        };
        self.report(key, result, took);
    }

    pub(crate) fn stop_attempt(&mut self, key: AttemptKey) {
        if matches!(self.attempts.get(&key), Some(Attempt::Running { .. })) {
            // It may wait behind another, where no flag is heeded.
            self.recall();
        }
        let cancelled = report::Result::Cancelled(v1::Cancelled {});
        match self.attempts.get_mut(&key) {
            Some(Attempt::Running { .. }) => self.halt(key, cancelled),
            Some(Attempt::Preparing(work) | Attempt::Delivering { work, .. }) => {
                work.abort();
                self.keeper.forget(key);
                self.report(key, cancelled, Took::default());
            }
            Some(Attempt::Ready(_)) => self.report(key, cancelled, Took::default()),
            Some(Attempt::Reported { .. }) | None => {}
        }
    }

    /// When the next try is out of time, if nothing ends it before.
    pub(crate) fn out_of_time_at(&self) -> Option<Instant> {
        self.clocks.next_due()
    }

    /// Stops kernels that have run for longer than they may.
    pub(crate) fn stop_out_of_time(&mut self) {
        for (key, failure) in self.clocks.take_over() {
            tracing::warn!(task = %self.task_name(key), attempt = %key, message = failure.message, "out of time");
            self.halt(key, report::Result::Failed(failure));
        }
    }

    /// Tells a kernel to stop, and settles what its try came to.
    fn halt(&mut self, key: AttemptKey, end: report::Result) {
        self.clocks.forget(key);
        let Some(Attempt::Running {
            context, halted, ..
        }) = self.attempts.get_mut(&key)
        else {
            return;
        };
        context.stop();
        if halted.replace(end).is_none() {
            self.stopping.push_back((Instant::now(), key));
        }
    }

    /// When the next kernel counts as stuck, if it has not stopped by then.
    pub(crate) fn stuck_at(&self) -> Option<Instant> {
        self.stopping.front().map(|(since, _)| *since + STUCK_AFTER)
    }

    /// Waits no more for kernels that were told to stop long ago: other threads take their slots. Says which.
    pub(crate) fn give_up_stuck(&mut self) -> Vec<AttemptKey> {
        let now = Instant::now();
        let mut given_up = Vec::new();
        while let Some((since, key)) = self.stopping.front().copied()
            && since + STUCK_AFTER <= now
        {
            self.stopping.pop_front();
            let Some(Attempt::Running { need, halted, .. }) = self.attempts.get_mut(&key) else {
                continue;
            };
            let Some(end) = halted.take() else {
                continue;
            };
            self.slots.give_up(*need);
            if let Err(error) = self.slots.replace() {
                tracing::error!(%error, "a slot is lost: its kernel does not stop, and no other thread can be had");
            }
            self.stuck.insert(key);
            self.report(key, end, Took::default());
            given_up.push(key);
        }
        given_up
    }

    /// Takes back what was given to the slots and not begun.
    fn recall(&mut self) {
        for Work { key, prepared, .. } in self.slots.recall().into_iter().rev() {
            // What was handed back meanwhile is nobody's.
            self.clocks.forget(key);
            if let Some(attempt) = self.attempts.get_mut(&key) {
                *attempt = Attempt::Ready(prepared);
                self.ready.push_front(key);
            }
        }
    }

    /// How far each running attempt is.
    pub(crate) fn progress(&self) -> Vec<v1::AttemptProgress> {
        let progress = self.attempts.iter().filter_map(|(key, attempt)| {
            let Attempt::Running { context, .. } = attempt else {
                return None;
            };
            Some(v1::AttemptProgress {
                task: Some(key.task()),
                attempt: Some(key.attempt()),
                fraction: context.progress(),
            })
        });
        progress.collect()
    }

    /// Begins nothing new, or does so again.
    pub(crate) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Hands back what has not begun.
    pub(crate) fn give_up_waiting(&mut self) {
        self.recall();
        self.give_up(|attempt| matches!(attempt, Attempt::Preparing(_) | Attempt::Ready(_)));
    }

    /// Hands back all that has not come to its end.
    pub(crate) fn give_up_unfinished(&mut self) {
        self.recall();
        self.give_up(|attempt| {
            matches!(
                attempt,
                Attempt::Preparing(_) | Attempt::Ready(_) | Attempt::Running { .. }
            )
        });
    }

    /// Hands back attempts of a kind.
    fn give_up(&mut self, which: impl Fn(&Attempt) -> bool) {
        let given_up = self.attempts.extract_if(|_, attempt| which(attempt));
        let keys: Vec<_> = given_up
            .map(|(key, attempt)| {
                match attempt {
                    Attempt::Preparing(work) => work.abort(),
                    Attempt::Running { context, .. } => context.stop(),
                    Attempt::Ready(_) | Attempt::Delivering { .. } | Attempt::Reported { .. } => {}
                }
                key
            })
            .collect();
        self.hand_back(keys);
    }

    fn hand_back(&mut self, keys: impl IntoIterator<Item = AttemptKey>) {
        let attempts: Vec<_> = keys.into_iter().map(|key| key.held()).collect();
        if !attempts.is_empty() {
            self.said
                .push(ToBroker::HandBack(v1::HandBack { attempts }));
        }
    }
}
