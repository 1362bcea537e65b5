//! `dewar jobs`: the jobs a broker knows.

use crate::{
    clock,
    failure::Failure,
    listing::{self, Listed},
    showing::{ShowArgs, show},
    table::Column,
};
use clap::{Args, ValueEnum};
use dewar_sdk::JobStatus;
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};

/// Lists jobs and how far they are.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar jobs\n  dewar jobs --state blocked\n  dewar jobs --owner anna --watch\n  \
    dewar jobs --unfinished --json | jq -r '.jobs[].number'\n\n\
    JSON keys, of each in jobs: job_id, number, name, owner, priority, created_unix_ms, closed, state, task_count, \
    waiting_count, running_count, succeeded_count, failed_count, cancelled_count, blocked_reason (null if it is not), \
    keep_ms, absence_ms_max (null: it runs on without its customer), reuse\n\
    States: open (more tasks may come), running, blocked (some of its tasks can run nowhere now; the reason stands beside \
    the name), finished"
)]
pub struct Options {
    /// Leave out those whose tasks all have their outcomes.
    #[arg(long)]
    unfinished: bool,
    /// Only those of this owner: the name of the token that opened them.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Only those in this state.
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    show: ShowArgs,
}

/// How a job stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Open,
    Running,
    Blocked,
    Finished,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    show(&options.connect, &options.show, async |client| {
        let mut jobs = client.jobs(options.unfinished).await?;
        jobs.retain(|job| options.wants(job));
        Ok(listing::shown(&jobs))
    })
}

impl Options {
    fn wants(&self, job: &JobStatus) -> bool {
        let is_of_owner = self.owner.as_ref().is_none_or(|owner| *owner == job.owner);
        is_of_owner && self.state.is_none_or(|state| state == State::of(job))
    }
}

impl Listed for JobStatus {
    const PLURAL: &'static str = "jobs";

    const COLUMNS: &'static [Column] = &[
        Column::Text("JOB"),
        Column::Text("STATE"),
        Column::Number("DONE"),
        Column::Number("RUNNING"),
        Column::Number("WAITING"),
        Column::Number("FAILED"),
        Column::SpareNumber("AGE"),
        Column::SpareText("OWNER"),
        Column::Text("NAME"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            format!("j{}", self.number),
            State::of(self).name().to_owned(),
            format!("{}/{}", self.outcome_count(), self.task_count()),
            self.running_count.to_string(),
            self.waiting_count.to_string(),
            self.failed_count.to_string(),
            clock::duration(clock::since_unix_ms(self.created_unix_ms)),
            self.owner.clone(),
            match &self.blocked_reason {
                Some(reason) => format!("{} ({reason})", self.name),
                None => self.name.clone(),
            },
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "job_id": self.id.to_string(),
            "number": self.number,
            "name": self.name,
            "owner": self.owner,
            "priority": self.priority,
            "created_unix_ms": self.created_unix_ms,
            "closed": self.closed,
            "state": State::of(self).name(),
            "task_count": self.task_count(),
            "waiting_count": self.waiting_count,
            "running_count": self.running_count,
            "succeeded_count": self.succeeded_count,
            "failed_count": self.failed_count,
            "cancelled_count": self.cancelled_count,
            "blocked_reason": self.blocked_reason,
            "keep_ms": self.keep_ms,
            "absence_ms_max": self.absence_ms_max,
            "reuse": self.reuse,
        })
    }
}

impl State {
    pub(super) fn of(job: &JobStatus) -> Self {
        match job {
            JobStatus {
                blocked_reason: Some(_),
                ..
            } => Self::Blocked,
            job if job.unfinished_count() > 0 => Self::Running,
            JobStatus { closed: true, .. } => Self::Finished,
            _ => Self::Open,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Finished => "finished",
        }
    }
}
