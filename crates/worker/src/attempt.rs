//! One try at a task, and how far it is on this worker.

use crate::{
    materials::{Need, Prepared},
    results::Piece,
};
use dewar_proto::v1;
use dewar_task::Context;
use std::fmt;
use tokio::task::AbortHandle;

/// Which try at which task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AttemptKey {
    job_id: [u8; 16],
    index: u64,
    broker_start: u64,
    n: u64,
}

/// How far an attempt is.
pub(crate) enum Attempt {
    /// Its inputs are on their way.
    Preparing(AbortHandle),
    /// It waits for a slot.
    Ready(Prepared),
    /// A slot has it.
    Running {
        context: Context,
        need: Need,
        /// How long its inputs were on their way.
        fetch_ms: u64,
        /// It was told to stop, and this is its end, whatever the kernel makes of the flag.
        halted: Option<v1::report::Result>,
    },
    /// Its products are on their way to the broker.
    Delivering {
        work: AbortHandle,
        /// A copy is on disk.
        is_kept: bool,
    },
    /// Said, perhaps more than once, and not yet acknowledged.
    Reported {
        report: v1::Report,
        /// What the report names. Until it is acknowledged nobody holds them on the broker's side, and a broker that
        /// starts anew forgets what nobody holds.
        pieces: Vec<Piece>,
        durability: Durability,
    },
}

impl Attempt {
    /// Whether its products are on their way.
    pub(crate) fn is_delivering(&self) -> bool {
        matches!(self, Self::Delivering { .. })
    }
}

/// How long a try took; nothing where it came to no end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Took {
    /// Until its inputs were here.
    pub(crate) fetch_ms: u64,
    /// In its kernel.
    pub(crate) run_ms: u64,
}

/// Whether a report outlasts this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It was said just now.
    Recent,
    /// Its acknowledgement is overdue.
    Overdue,
    /// It is on disk, or on its way there.
    Kept,
}

impl AttemptKey {
    pub(crate) fn from_wire(
        task: Option<&v1::TaskRef>,
        attempt: Option<&v1::AttemptId>,
    ) -> Option<Self> {
        let (task, attempt) = (task?, attempt?);
        Some(Self {
            job_id: task.job_id.as_slice().try_into().ok()?,
            index: task.index,
            broker_start: attempt.broker_start,
            n: attempt.n,
        })
    }

    pub(crate) fn task(&self) -> v1::TaskRef {
        v1::TaskRef {
            job_id: self.job_id.to_vec(),
            index: self.index,
        }
    }

    pub(crate) fn attempt(&self) -> v1::AttemptId {
        v1::AttemptId {
            broker_start: self.broker_start,
            n: self.n,
        }
    }

    pub(crate) fn held(&self) -> v1::HeldAttempt {
        v1::HeldAttempt {
            task: Some(self.task()),
            attempt: Some(self.attempt()),
        }
    }

    pub(crate) fn report(&self, result: v1::report::Result, took: Took) -> v1::Report {
        v1::Report {
            task: Some(self.task()),
            attempt: Some(self.attempt()),
            result: Some(result),
            run_ms: took.run_ms,
            fetch_ms: took.fetch_ms,
        }
    }
}

/// For logs: attempt 3.17 of task 42, whose job is shown by the end of its id, which is the random part.
impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")?;
        for byte in &self.job_id[12..] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, ".{}#{}.{}", self.index, self.broker_start, self.n)
    }
}

/// Longest message about a failure: it is for people to read, and is kept with the task.
const FAILURE_CHARS_MAX: usize = 2000;

/// A failure in one line.
pub(crate) fn failure(class: v1::FailureClass, message: &str) -> v1::Failure {
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = match one_line.char_indices().nth(FAILURE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    };
    v1::Failure {
        class: class.into(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_wire() {
        let key = AttemptKey {
            job_id: [7; 16],
            index: 42,
            broker_start: 3,
            n: 17,
        };
        let held = key.held();
        let again = AttemptKey::from_wire(held.task.as_ref(), held.attempt.as_ref());
        assert!(again == Some(key));
        assert_eq!(key.to_string(), "…07070707.42#3.17");

        let short = v1::TaskRef {
            job_id: vec![7; 15],
            index: 0,
        };
        assert!(AttemptKey::from_wire(Some(&short), held.attempt.as_ref()).is_none());
        assert!(AttemptKey::from_wire(None, held.attempt.as_ref()).is_none());
    }

    #[test]
    fn failures_are_one_bounded_line() {
        let class = v1::FailureClass::KernelError;
        assert_eq!(failure(class, "a\n  b\tc").message, "a b c");
        let long = failure(class, &"ä".repeat(5000)).message;
        assert_eq!(long.chars().count(), FAILURE_CHARS_MAX + 1);
    }
}
