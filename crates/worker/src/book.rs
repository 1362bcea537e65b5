//! The book of attempts: how far each is, and what it came to.
//!
//! The session turns what it hears into calls here. What must be said to the broker is put down in order and taken by
//! the session. Results go to the keeper's disk when they have to wait, and when they would cost much to compute again.

use crate::{
    attempt::{Attempt, AttemptKey, Durability, failure},
    delivery::{self, Delivery, DeliveryError, Waiting},
    materials::{self, Materials, Prepared},
    results::{Keeper, Kept},
    session::Event,
    slots::{Finished, Ran, Slots, Work},
};
use dewar_proto::v1;
use dewar_task::RunOutput;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use v1::{report, worker_message::Message as ToBroker};

/// A result that took so long is kept on disk whatever the broker does: one sync of a few milliseconds is nothing beside
/// it. Shorter ones only go there when the broker is away or silent, so that small tasks do not wait for a disk.
const EXPENSIVE_MS: u64 = 10_000;

/// A kernel that was told to stop and goes on for so long is not waited for.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(5);

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
    /// Attempts that are [`Attempt::Ready`], in the order they became so; some may be gone since.
    ready: VecDeque<AttemptKey>,
    /// When attempts that run were told to stop, in order. Most have stopped since.
    stopping: VecDeque<(Instant, AttemptKey)>,
    /// Attempts whose kernels did not stop, and may yet return.
    stuck: HashSet<AttemptKey>,
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
            ready: VecDeque::new(),
            stopping: VecDeque::new(),
            stuck: HashSet::new(),
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

    /// Says again what was not acknowledged, with what it names: another broker may have started meanwhile.
    pub(crate) fn say_again(&mut self) {
        let mut named = Vec::new();
        for (key, attempt) in &mut self.attempts {
            let Attempt::Reported {
                report,
                pieces,
                durability,
            } = attempt
            else {
                continue;
            };
            if pieces.is_empty() {
                self.said.push(ToBroker::Report(report.clone()));
                continue;
            }
            let waiting = match durability {
                Durability::Kept => Waiting::OnDisk,
                Durability::Recent | Durability::Overdue => Waiting::InMemory,
            };
            let result = Kept {
                key: *key,
                report: report.clone(),
                pieces: std::mem::take(pieces),
            };
            named.push((result, waiting));
        }
        for (result, waiting) in named {
            self.deliver(result.key, waiting, async move { result });
        }
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
                let report = key.report(report::Result::Failed(failure), 0);
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
                stopped: false,
            };
            if let Some(Attempt::Ready(prepared)) = self.attempts.insert(key, running) {
                self.slots.run(Work { key, prepared });
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
        if self.stuck.remove(&key) {
            // Another thread has its slot by now.
            self.slots.dismiss_one();
            return;
        }
        self.slots.end(need, run_time);
        let run_ms = u64::try_from(run_time.as_millis()).unwrap_or(u64::MAX);
        // What was handed back is nobody's.
        let Some(Attempt::Running { stopped, .. }) = self.attempts.get(&key) else {
            return;
        };
        let result = match ran {
            _ if *stopped => report::Result::Cancelled(v1::Cancelled {}),
            Ran::Output(output) if delivery::fits_report(&output) => {
                report::Result::Succeeded(delivery::inline(output))
            }
            Ran::Output(output) => {
                self.deliver_new(key, output, run_ms);
                return;
            }
            Ran::Failed(failure) => {
                tracing::warn!(attempt = %key, message = failure.message, "failed");
                report::Result::Failed(failure)
            }
            Ran::Cancelled => report::Result::Failed(failure(
                v1::FailureClass::KernelError,
                "the kernel says it was cancelled, but nobody cancelled it",
            )),
        };
        self.report(key, result, run_ms);
    }

    fn deliver_new(&mut self, key: AttemptKey, output: RunOutput, run_ms: u64) {
        let waiting = if self.is_away || run_ms >= EXPENSIVE_MS {
            Waiting::ToKeep
        } else {
            Waiting::InMemory
        };
        self.deliver(key, waiting, async move {
            let (output, pieces) = delivery::named(output).await;
            let report = key.report(report::Result::Succeeded(output), run_ms);
            Kept {
                key,
                report,
                pieces,
            }
        });
    }

    fn deliver(
        &mut self,
        key: AttemptKey,
        waiting: Waiting,
        result: impl Future<Output = Kept> + Send + 'static,
    ) {
        let (delivery, events) = (self.delivery.clone(), self.events.clone());
        let work = tokio::spawn(async move {
            let result = result.await;
            let result = delivery.deliver(result, waiting, &events).await;
            let event = Event::Delivered { key, result };
            // The session may have left meanwhile.
            let _ = events.send(event).await;
        });
        let delivering = Attempt::Delivering {
            work: work.abort_handle(),
            is_kept: waiting == Waiting::OnDisk,
        };
        self.attempts.insert(key, delivering);
    }

    /// Goes on with what an earlier process left on disk.
    pub(crate) fn resume(&mut self, left: Vec<Kept>) {
        for kept in left {
            tracing::info!(attempt = %kept.key, "delivering a result of an earlier process");
            if kept.pieces.is_empty() {
                let reported = Attempt::Reported {
                    report: kept.report,
                    pieces: Vec::new(),
                    durability: Durability::Kept,
                };
                self.attempts.insert(kept.key, reported);
            } else {
                self.deliver(kept.key, Waiting::OnDisk, async move { kept });
            }
        }
    }

    pub(crate) fn note_kept(&mut self, key: AttemptKey) {
        if let Some(Attempt::Delivering { is_kept, .. }) = self.attempts.get_mut(&key) {
            *is_kept = true;
        }
    }

    pub(crate) fn finish_delivery(&mut self, key: AttemptKey, result: Result<Kept, DeliveryError>) {
        let Some(Attempt::Delivering { is_kept, .. }) = self.attempts.get(&key) else {
            return;
        };
        let durability = if *is_kept {
            Durability::Kept
        } else {
            Durability::Recent
        };
        match result {
            Ok(kept) => self.say_result(kept, durability),
            Err(DeliveryError::Refused(failure)) => {
                let report = key.report(report::Result::Failed(failure), 0);
                self.say_report(key, report, durability);
            }
            Err(DeliveryError::Damaged) => {
                tracing::warn!(attempt = %key, "a kept result is damaged; its task is handed back");
                self.attempts.remove(&key);
                self.keeper.forget(key);
                self.hand_back([key]);
            }
        }
    }

    /// Says what an attempt came to, and keeps it until the broker has it.
    fn report(&mut self, key: AttemptKey, result: report::Result, run_ms: u64) {
        if self.attempts.contains_key(&key) {
            self.say_report(key, key.report(result, run_ms), Durability::Recent);
        }
    }

    fn say_report(&mut self, key: AttemptKey, report: v1::Report, durability: Durability) {
        let pieces = Vec::new();
        self.say_result(
            Kept {
                key,
                report,
                pieces,
            },
            durability,
        );
    }

    fn say_result(&mut self, result: Kept, durability: Durability) {
        let Kept {
            key,
            report,
            pieces,
        } = result;
        self.said.push(ToBroker::Report(report.clone()));
        let must_keep = self.is_away || report.run_ms >= EXPENSIVE_MS;
        let mut reported = Attempt::Reported {
            report,
            pieces,
            durability,
        };
        if must_keep {
            keep(&self.keeper, key, &mut reported);
        }
        self.attempts.insert(key, reported);
    }

    /// The broker went away, or is here again.
    pub(crate) fn note_broker(&mut self, is_away: bool) {
        self.is_away = is_away;
        if is_away {
            self.keep_all();
        }
    }

    /// Keeps on disk what was not acknowledged since the last call.
    pub(crate) fn keep_overdue(&mut self) {
        for (key, attempt) in &mut self.attempts {
            let Attempt::Reported { durability, .. } = attempt else {
                continue;
            };
            match durability {
                Durability::Recent => *durability = Durability::Overdue,
                Durability::Overdue => keep(&self.keeper, *key, attempt),
                Durability::Kept => {}
            }
        }
    }

    fn keep_all(&mut self) {
        for (key, attempt) in &mut self.attempts {
            keep(&self.keeper, *key, attempt);
        }
    }

    /// Lets every result be on disk when the process ends.
    pub(crate) fn hurry(&mut self) {
        self.delivery.hurry();
        self.keep_all();
    }

    /// Whether no result would be lost with this process.
    pub(crate) fn is_all_kept(&self) -> bool {
        self.attempts.values().all(|attempt| match attempt {
            Attempt::Delivering { is_kept, .. } => *is_kept,
            Attempt::Reported { durability, .. } => *durability == Durability::Kept,
            _ => true,
        })
    }

    /// Waits until the disk has what it must, and leaves the folder to whoever comes next.
    pub(crate) async fn close(&mut self) {
        self.keep_all();
        for attempt in self.attempts.values() {
            if let Attempt::Preparing(work) | Attempt::Delivering { work, .. } = attempt {
                work.abort();
            }
        }
        self.keeper.close().await;
    }

    pub(crate) fn stop_attempt(&mut self, key: AttemptKey) {
        if matches!(self.attempts.get(&key), Some(Attempt::Running { .. })) {
            // It may wait behind another, where no flag is heeded.
            self.recall();
        }
        match self.attempts.get_mut(&key) {
            Some(Attempt::Running {
                context, stopped, ..
            }) => {
                context.stop();
                if !*stopped {
                    *stopped = true;
                    self.stopping.push_back((Instant::now(), key));
                }
            }
            Some(Attempt::Preparing(work) | Attempt::Delivering { work, .. }) => {
                work.abort();
                self.keeper.forget(key);
                self.report(key, report::Result::Cancelled(v1::Cancelled {}), 0);
            }
            Some(Attempt::Ready(_)) => {
                self.report(key, report::Result::Cancelled(v1::Cancelled {}), 0);
            }
            Some(Attempt::Reported { .. }) | None => {}
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
            let Some(Attempt::Running { need, .. }) = self.attempts.get(&key) else {
                continue;
            };
            self.slots.give_up(*need);
            if let Err(error) = self.slots.replace() {
                tracing::error!(%error, "a slot is lost: its kernel does not stop, and no other thread can be had");
            }
            self.stuck.insert(key);
            self.report(key, report::Result::Cancelled(v1::Cancelled {}), 0);
            given_up.push(key);
        }
        given_up
    }

    /// Takes back what was given to the slots and not begun.
    fn recall(&mut self) {
        for Work { key, prepared } in self.slots.recall().into_iter().rev() {
            // What was handed back meanwhile is nobody's.
            if let Some(attempt) = self.attempts.get_mut(&key) {
                *attempt = Attempt::Ready(prepared);
                self.ready.push_front(key);
            }
        }
    }

    /// The broker has the report, or wants none.
    pub(crate) fn forget(&mut self, key: AttemptKey) {
        let Some(Attempt::Reported { durability, .. }) = self.attempts.get(&key) else {
            return;
        };
        if *durability == Durability::Kept {
            self.keeper.forget(key);
        }
        self.attempts.remove(&key);
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

/// Orders a copy on disk of a report that has none. A cancelled try is not worth one: nobody waits for it.
fn keep(keeper: &Keeper, key: AttemptKey, attempt: &mut Attempt) {
    let Attempt::Reported {
        report,
        pieces,
        durability,
    } = attempt
    else {
        return;
    };
    let is_cancelled = matches!(report.result, Some(report::Result::Cancelled(_)));
    if *durability != Durability::Kept && !is_cancelled {
        keeper.keep(Kept {
            key,
            report: report.clone(),
            pieces: pieces.clone(),
        });
    }
    *durability = Durability::Kept;
}
