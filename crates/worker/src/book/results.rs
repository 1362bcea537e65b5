//! From what a kernel gave to the broker's word that it has it.
//!
//! Results go to the keeper's disk when they have to wait, and when they would cost much to compute again.

use super::Book;
use crate::{
    attempt::{Attempt, AttemptKey, Durability, Took},
    delivery::{self, DeliveryError, Waiting},
    results::{Keeper, Kept},
    session::Event,
};
use dewar_proto::v1;
use dewar_task::RunOutput;
use uuid::Uuid;
use v1::{report, worker_message::Message as ToBroker};

/// A result that took so long is kept on disk whatever the broker does: one sync of a few milliseconds is nothing beside
/// it. Shorter ones only go there when the broker is away or silent, so that small tasks do not wait for a disk.
const EXPENSIVE_MS: u64 = 10_000;

impl Book {
    /// Says again what was not acknowledged, with what it names: another broker may have started meanwhile.
    pub(crate) fn say_again(&mut self) {
        self.begin_turns();
        // Said below.
        self.said
            .retain(|said| !matches!(said, ToBroker::Report(_)));
        let mut named = Vec::new();
        let mut reports = Vec::new();
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
                reports.push((*key, report.clone()));
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
        for (key, report) in reports {
            self.say_in_turn(key, report);
        }
        for (result, waiting) in named {
            self.deliver(result.key, waiting, async move { result });
        }
    }

    pub(super) fn deliver_new(&mut self, key: AttemptKey, output: RunOutput, took: Took) {
        let waiting = if self.is_away || took.run_ms >= EXPENSIVE_MS {
            Waiting::ToKeep
        } else {
            Waiting::InMemory
        };
        self.deliver(key, waiting, async move {
            let (output, pieces) = delivery::named(output).await;
            let report = key.report(report::Result::Succeeded(output), took);
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
                let report = key.report(report::Result::Failed(failure), Took::default());
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
    pub(super) fn report(&mut self, key: AttemptKey, result: report::Result, took: Took) {
        if self.attempts.contains_key(&key) {
            self.say_report(key, key.report(result, took), Durability::Recent);
        }
    }

    pub(super) fn say_report(
        &mut self,
        key: AttemptKey,
        report: v1::Report,
        durability: Durability,
    ) {
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
        self.say_in_turn(key, report.clone());
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

    /// Has it written down which broker has answered. The session hears if another worker left results for it.
    pub(crate) fn settle(&self, broker_id: Uuid) {
        let (keeper, events) = (self.keeper.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Some(worker_id) = keeper.settle(broker_id).await {
                let _ = events.send(Event::LeftResults { worker_id }).await;
            }
        });
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
        self.next_turn(key);
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
