//! Caution: after a broker ended a session over something that was said, reports go out one at a time.
//!
//! A refusal does not name its report. With one at a time it is the one that was not acknowledged, and only that is set
//! aside. Without, one bad report would end every session, of every process that finds it on disk.

use super::Book;
use crate::{
    attempt::{Attempt, AttemptKey, Durability, Took, failure},
    results::Kept,
};
use dewar_proto::v1;
use v1::{report, worker_message::Message as ToBroker};

/// How reports are said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Caution {
    /// As they come.
    #[default]
    Off,
    /// One at a time, and none is on its way.
    Ready,
    /// This one is on its way.
    Asked(AttemptKey),
}

impl Book {
    /// The broker ended the session over something that was said on it.
    pub(crate) fn note_refusal(&mut self, reason: &str) {
        let before = std::mem::replace(&mut self.caution, Caution::Ready);
        if let Caution::Asked(key) = before {
            self.set_aside(key, reason);
        }
    }

    /// What was refused is left on disk for people to look at, and its try has failed. If that is refused too, the try is
    /// no more spoken of.
    fn set_aside(&mut self, key: AttemptKey, reason: &str) {
        let Some(Attempt::Reported { report, pieces, .. }) = self.attempts.remove(&key) else {
            return;
        };
        let was_failed = matches!(report.result, Some(report::Result::Failed(_)));
        self.keeper.set_aside(Kept {
            key,
            report,
            pieces,
        });
        if was_failed {
            return;
        }
        let message = format!("the broker refuses the result: {reason}");
        let failed = failure(v1::FailureClass::KernelError, &message);
        let reported = Attempt::Reported {
            report: key.report(report::Result::Failed(failed), Took::default()),
            pieces: Vec::new(),
            durability: Durability::Recent,
        };
        self.attempts.insert(key, reported);
    }

    /// Says a report, or lets it wait for its turn.
    pub(super) fn say_in_turn(&mut self, key: AttemptKey, report: v1::Report) {
        match self.caution {
            Caution::Asked(_) => return,
            Caution::Ready => self.caution = Caution::Asked(key),
            Caution::Off => {}
        }
        self.said.push(ToBroker::Report(report));
    }

    /// A new connection: whatever was on its way is not any more.
    pub(super) fn begin_turns(&mut self) {
        if self.caution != Caution::Off {
            self.caution = Caution::Ready;
        }
    }

    /// A report was acknowledged: the next may go, and after the last one caution ends.
    pub(super) fn next_turn(&mut self, acknowledged: AttemptKey) {
        if self.caution != Caution::Asked(acknowledged) {
            return;
        }
        let next = self.attempts.iter().find_map(|(key, attempt)| {
            let Attempt::Reported { report, .. } = attempt else {
                return None;
            };
            (*key != acknowledged).then(|| (*key, report.clone()))
        });
        let Some((key, report)) = next else {
            let is_over = !self.attempts.values().any(Attempt::is_delivering);
            self.caution = if is_over {
                Caution::Off
            } else {
                Caution::Ready
            };
            return;
        };
        self.caution = Caution::Ready;
        self.say_in_turn(key, report);
    }
}

#[cfg(test)]
mod tests;
