//! The book of attempts: how far each is, and what it came to.
//!
//! The session turns what it hears into calls here. What must be said to the broker is put down in order and taken by
//! the session; the book knows neither the connection nor the time.

use crate::{
    attempt::{Attempt, AttemptKey, failure},
    delivery::{self, Delivery},
    materials::{Materials, Prepared},
    session::Event,
    slots::{Ran, Slots},
};
use dewar_proto::v1;
use dewar_task::Context;
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;
use v1::{report, worker_message::Message as ToBroker};

/// Every attempt of this worker, and what works on them.
pub(crate) struct Book {
    events: mpsc::Sender<Event>,
    slots: Slots,
    materials: Materials,
    delivery: Delivery,
    attempts: HashMap<AttemptKey, Attempt>,
    /// Attempts that are [`Attempt::Ready`], in the order they became so; some may be gone since.
    ready: VecDeque<AttemptKey>,
    /// What the broker must hear, in order.
    said: Vec<ToBroker>,
}

impl Book {
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        slots: Slots,
        materials: Materials,
        delivery: Delivery,
    ) -> Self {
        Self {
            events,
            slots,
            materials,
            delivery,
            attempts: HashMap::new(),
            ready: VecDeque::new(),
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

    /// Every report that was not acknowledged.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &v1::Report> {
        self.attempts.values().filter_map(|attempt| match attempt {
            Attempt::Reported(report) => Some(report),
            _ => None,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.attempts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Whether every kernel has returned.
    pub(crate) fn all_idle(&self) -> bool {
        self.slots.all_idle()
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
        let (materials, events) = (self.materials.clone(), self.events.clone());
        let spec = assignment.spec.unwrap_or_default();
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
        if !matches!(self.attempts.get(&key), Some(Attempt::Preparing(_))) {
            return;
        }
        match prepared {
            Ok(prepared) => {
                self.attempts.insert(key, Attempt::Ready(prepared));
                self.ready.push_back(key);
            }
            Err(failure) => self.report(key, report::Result::Failed(failure), 0),
        }
    }

    pub(crate) fn fill_slots(&mut self) {
        while self.slots.has_idle()
            && let Some(key) = self.ready.pop_front()
        {
            match self.attempts.remove(&key) {
                Some(Attempt::Ready(prepared)) => {
                    let context: Context = prepared.context.clone();
                    let running = Attempt::Running {
                        context,
                        stopped: false,
                    };
                    self.attempts.insert(key, running);
                    self.slots.run(key, prepared);
                }
                Some(other) => {
                    self.attempts.insert(key, other);
                }
                None => {}
            }
        }
    }

    pub(crate) fn finish(&mut self, key: AttemptKey, slot: usize, ran: Ran, run_ms: u64) {
        self.slots.end(slot);
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
                let (delivery, events) = (self.delivery.clone(), self.events.clone());
                let delivering = tokio::spawn(async move {
                    let output = delivery.deliver(output).await;
                    let event = Event::Delivered {
                        key,
                        output,
                        run_ms,
                    };
                    let _ = events.send(event).await;
                });
                let delivering = Attempt::Delivering(delivering.abort_handle());
                self.attempts.insert(key, delivering);
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

    pub(crate) fn finish_delivery(
        &mut self,
        key: AttemptKey,
        output: Result<v1::Output, v1::Failure>,
        run_ms: u64,
    ) {
        let result = match output {
            Ok(output) => report::Result::Succeeded(output),
            Err(failure) => report::Result::Failed(failure),
        };
        self.report(key, result, run_ms);
    }

    /// Says what an attempt came to, and keeps it until the broker has it.
    fn report(&mut self, key: AttemptKey, result: report::Result, run_ms: u64) {
        if !self.attempts.contains_key(&key) {
            return;
        }
        let report = key.report(result, run_ms);
        self.said.push(ToBroker::Report(report.clone()));
        self.attempts.insert(key, Attempt::Reported(report));
    }

    pub(crate) fn stop_attempt(&mut self, key: AttemptKey) {
        match self.attempts.get_mut(&key) {
            Some(Attempt::Running { context, stopped }) => {
                context.stop();
                *stopped = true;
            }
            Some(Attempt::Preparing(work) | Attempt::Delivering(work)) => {
                work.abort();
                self.report(key, report::Result::Cancelled(v1::Cancelled {}), 0);
            }
            Some(Attempt::Ready(_)) => {
                self.report(key, report::Result::Cancelled(v1::Cancelled {}), 0);
            }
            Some(Attempt::Reported(_)) | None => {}
        }
    }

    /// The broker has the report, or wants none.
    pub(crate) fn forget(&mut self, key: AttemptKey) {
        if matches!(self.attempts.get(&key), Some(Attempt::Reported(_))) {
            self.attempts.remove(&key);
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

    /// Hands back what has not begun.
    pub(crate) fn give_up_waiting(&mut self) {
        self.give_up(|attempt| matches!(attempt, Attempt::Preparing(_) | Attempt::Ready(_)));
    }

    /// Hands back all that has not come to its end.
    pub(crate) fn give_up_unfinished(&mut self) {
        self.give_up(|attempt| {
            matches!(
                attempt,
                Attempt::Preparing(_) | Attempt::Ready(_) | Attempt::Running { .. }
            )
        });
    }

    /// Drops everything, and waits for no kernel any more.
    pub(crate) fn abandon(&mut self) {
        self.attempts.clear();
        self.slots.abandon();
    }

    /// Hands back attempts of a kind.
    fn give_up(&mut self, which: impl Fn(&Attempt) -> bool) {
        let given_up = self.attempts.extract_if(|_, attempt| which(attempt));
        let keys: Vec<_> = given_up
            .map(|(key, attempt)| {
                match attempt {
                    Attempt::Preparing(work) => work.abort(),
                    Attempt::Running { context, .. } => context.stop(),
                    Attempt::Ready(_) | Attempt::Delivering(_) | Attempt::Reported(_) => {}
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
