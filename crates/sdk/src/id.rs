//! How customers name jobs and tasks.

use dewar_proto::v1;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A job's own name, chosen by its customer, so that opening it can be repeated safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Uuid);

impl JobId {
    /// A new one (UUIDv7: later ones sort later).
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as the wire has it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    pub(crate) fn from_wire(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    pub(crate) fn to_wire(self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = MalformedJob;

    fn from_str(text: &str) -> Result<Self, MalformedJob> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| MalformedJob(text.to_owned()))
    }
}

/// A task's position in its job, from 0 in order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskIndex(pub u64);

impl fmt::Display for TaskIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job by either of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSelector {
    /// The name its customer chose.
    Id(JobId),
    /// The broker's running number: 7 is shown as `j7`.
    Number(u64),
}

/// Text that names no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no job; jobs look like j7, or like a UUID, and their tasks like j7.42")]
pub struct MalformedJob(String);

impl MalformedJob {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<JobId> for JobSelector {
    fn from(id: JobId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for JobSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Number(number) => write!(f, "j{number}"),
        }
    }
}

impl FromStr for JobSelector {
    type Err = MalformedJob;

    /// Reads `j7`, `7` or a UUID.
    fn from_str(text: &str) -> Result<Self, MalformedJob> {
        let digits = text.strip_prefix('j').unwrap_or(text);
        match digits.parse() {
            Ok(number) => Ok(Self::Number(number)),
            Err(_) => text.parse().map(Self::Id),
        }
    }
}

impl From<JobSelector> for v1::JobSelector {
    fn from(selector: JobSelector) -> Self {
        let by = match selector {
            JobSelector::Id(id) => v1::job_selector::By::JobId(id.to_wire()),
            JobSelector::Number(number) => v1::job_selector::By::Number(number),
        };
        Self { by: Some(by) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_a_job_are_read() {
        let id = JobId::new();
        assert_eq!("j7".parse(), Ok(JobSelector::Number(7)));
        assert_eq!("7".parse(), Ok(JobSelector::Number(7)));
        assert_eq!(id.to_string().parse(), Ok(JobSelector::Id(id)));
        for wrong in ["", "j", "jj7", "-1", "job7", "j7.1"] {
            assert!(wrong.parse::<JobSelector>().is_err(), "{wrong:?}");
        }
    }
}
