//! What a customer wants of a job, drawn when it is opened.

use super::customer::plan;
use dewar_queue::{Digest, JobNumber, JobTerms, Payload, Resources, TaskSpec};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::{sync::Arc, time::Duration};

/// A job whose customer has been away for so long is cancelled. One that watches comes back to a restarted broker within
/// seconds.
const ABSENCE_MS_MAX: u64 = 60_000;

/// What a job is like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// Its tasks have keys, and are sent again and again.
    pub(super) has_keys: bool,
    /// It takes what equal tasks of other jobs have given.
    pub(super) reuses: bool,
    pub(super) presence: Presence,
    /// Some of it runs once more when it has ended.
    pub(super) is_rerun: bool,
}

/// Whether anybody watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nobody minds.
    #[default]
    Unminded,
    /// Its customer watches, and says so.
    Watches,
    /// Its customer submits and walks away, until it has ended.
    WalksAway,
}

impl Style {
    pub(super) fn draw(random: &mut ChaCha8Rng) -> Self {
        Self {
            has_keys: random.random_ratio(1, 3),
            reuses: random.random_ratio(1, 3),
            presence: match random.random_range(0..6) {
                0 => Presence::WalksAway,
                1 => Presence::Watches,
                _ => Presence::Unminded,
            },
            is_rerun: random.random_ratio(1, 3),
        }
    }

    pub(super) fn terms(self) -> JobTerms {
        JobTerms {
            absence_ms_max: match self.presence {
                Presence::Unminded => None,
                Presence::Watches | Presence::WalksAway => Some(ABSENCE_MS_MAX),
            },
            reuse: self.reuses,
            ..JobTerms::default()
        }
    }

    /// Whether its tasks may be cancelled though nobody asked for it.
    pub(super) fn may_be_missed(self) -> bool {
        self.presence == Presence::WalksAway
    }

    pub(super) fn spec(self, job: JobNumber, index: u64) -> Arc<TaskSpec> {
        let parameters = self.parameters(job, index);
        let digest = self.reuses.then(|| *blake3::hash(&parameters).as_bytes());
        let plan = plan(index);
        Arc::new(TaskSpec {
            attempts_max: if plan.always_fails { 3 } else { 1000 },
            after: plan.after.into_iter().collect(),
            resources: Resources {
                slot_count: 1 + u32::from(index % 13 == 2),
                ..Resources::default()
            },
            key: self.has_keys.then(|| format!("task {index}").into()),
            parameters_digest: digest.map(Digest),
            ..TaskSpec::new(super::worker::kind(), Payload::Inline(parameters.into()))
        })
    }

    /// Distinct for every task, but where outcomes are to be used again: there only within a job.
    pub(super) fn parameters(self, job: JobNumber, index: u64) -> Vec<u8> {
        let job = if self.reuses { u64::MAX } else { job.0 };
        [job.to_le_bytes(), index.to_le_bytes()].concat()
    }
}

/// How often somebody who walked away looks whether it is over.
pub(super) const GLANCE: Duration = Duration::from_secs(30);
