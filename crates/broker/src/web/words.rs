//! Times, rates and states in words: those of the command, so that one thing has one name.

use dewar_proto::v1;
use maud::{Markup, html};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use dewar_settings::{rounded_size as size, rounded_time as time};

/// A word for how a job stands; see `dewar jobs --help`.
pub(super) fn job_state(job: &v1::Job) -> &'static str {
    if !job.blocked_reason.is_empty() {
        "blocked"
    } else if job.waiting_count + job.running_count > 0 {
        "running"
    } else if job.closed {
        "finished"
    } else {
        "open"
    }
}

/// A word for how a worker stands; see `dewar workers --help`.
pub(super) fn worker_state(worker: &v1::Worker) -> &'static str {
    match worker {
        v1::Worker {
            connected: false, ..
        } => "away",
        v1::Worker { draining: true, .. } => "draining",
        worker if !worker.held_back_reason.is_empty() => "held back",
        _ => "up",
    }
}

/// The states of a task, in the order in which they are worth a look.
pub(super) const TASK_STATES: [(v1::TaskState, &str); 5] = [
    (v1::TaskState::Running, "running"),
    (v1::TaskState::Failed, "failed"),
    (v1::TaskState::Waiting, "waiting"),
    (v1::TaskState::Succeeded, "succeeded"),
    (v1::TaskState::Cancelled, "cancelled"),
];

pub(super) fn task_state(state: i32) -> &'static str {
    let state = v1::TaskState::try_from(state).unwrap_or_default();
    let known = TASK_STATES.iter().find(|(known, _)| *known == state);
    known.map_or("unknown", |(_, word)| word)
}

/// A failure's class.
pub(super) fn class(failure: &v1::Failure) -> &'static str {
    match failure.class() {
        v1::FailureClass::Unspecified => "unknown",
        v1::FailureClass::KernelError => "kernel error",
        v1::FailureClass::WorkerLost => "worker lost",
        v1::FailureClass::TimedOut => "timed out",
        v1::FailureClass::BadInput => "bad input",
        v1::FailureClass::Dependency => "dependency",
        v1::FailureClass::KilledWorkers => "killed workers",
    }
}

/// A state as a badge: a word first, and a colour and a sign beside it.
pub(super) fn badge(word: &str) -> Markup {
    let (tone, sign) = match word {
        "running" | "up" => ("going", "▸"),
        "failed" | "away" => ("bad", "✕"),
        "blocked" | "held back" | "draining" => ("held", "!"),
        "succeeded" | "finished" => ("done", "✓"),
        _ => ("quiet", "·"),
    };
    html! { span.badge.(tone) { span aria-hidden="true" { (sign) } " " (word) } }
}

/// A number of things: `1 job`, `3 jobs`.
pub(super) fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// How much a second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 10.0 || rate == 0.0 => format!("{rate:.0}"),
        rate if rate >= 1.0 => format!("{rate:.1}"),
        rate => format!("{rate:.2}"),
    }
}

/// A moment, in full for machines and to the second for people.
pub(super) fn moment(unix_ms: u64) -> Markup {
    let moment = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    let moment = moment.filter(|moment| {
        // Beyond the year 9999 it cannot be written, and is nonsense.
        moment
            .duration_since(UNIX_EPOCH)
            .is_ok_and(|since| since.as_secs() < 253_402_300_800)
    });
    let Some(moment) = moment else {
        return html! { "unknown" };
    };
    let text = humantime::format_rfc3339_seconds(moment).to_string();
    html! { time datetime=(text) { (text.replace('T', " ").replace('Z', " UTC")) } }
}

/// How long ago that is; nothing if it lies ahead, as clocks differ.
pub(super) fn since(unix_ms: u64) -> Duration {
    let then = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    let now = SystemTime::now();
    then.and_then(|then| now.duration_since(then).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_and_nonsense_is_not() {
        let told = moment(1_764_536_400_000).into_string();
        assert!(told.contains(">2025-11-30 21:00:00 UTC<"), "{told}");
        assert_eq!(moment(u64::MAX).into_string(), "unknown");
        assert_eq!(since(u64::MAX), Duration::ZERO);
    }

    #[test]
    fn rates_have_two_digits() {
        for (value, text) in [(0.0, "0"), (0.251, "0.25"), (3.16, "3.2"), (4250.2, "4250")] {
            assert_eq!(rate(value), text);
        }
    }
}
