//! `dewar workers`: the fleet.

use crate::{
    clock,
    failure::Failure,
    listing::{self, Listed},
    showing::{ShowArgs, show},
    size,
    table::Column,
};
use clap::{Args, ValueEnum};
use dewar_sdk::WorkerStatus;
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};

/// Lists workers and what they do.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar workers\n  dewar workers --state held-back\n  dewar workers --owner anna --watch 5\n  \
    dewar workers --json | jq '[.workers[].slot_count] | add'\n\n\
    JSON keys, of each in workers: worker_id, name, host_name, state, slot_count, running_count, kinds, site, \
    program_version, succeeded_count, failed_count, joined_unix_ms, waiting_count (sent ahead of time), memory_bytes (null \
    if not said), held_back_reason (null if it is not), data_address (where peers fetch from it; null if they cannot), \
    held_bytes (of inputs, that others can fetch), fetched_from_broker_bytes and fetched_from_peers_bytes (since it joined), \
    corrupt_count (chunks it gave that were not what they should be), kept_bytes (of results, that it keeps instead of the broker; null if \
    it keeps none), owner (of the token it attends with; null if the broker is too old to say), unreached_address and unreached_reason \
    (where it says that peers fetch from it, and why the broker did not get there; null otherwise)\n\
    States: up, held back (given nothing or little: its machine is busy, or it failed everything it touched), draining \
    (finishes and leaves), away (not heard of; given up soon)"
)]
pub struct Options {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Only those that attend with this owner's token.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Only those in this state.
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    #[command(flatten)]
    show: ShowArgs,
}

/// How a worker stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Up,
    HeldBack,
    Draining,
    Away,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    show(&options.connect, &options.show, async |client| {
        let mut workers = client.workers().await?;
        workers.retain(|worker| options.wants(worker));
        Ok(listing::shown(&workers))
    })
}

impl Options {
    fn wants(&self, worker: &WorkerStatus) -> bool {
        let owner = self.owner.as_ref();
        let is_of_owner = owner.is_none_or(|owner| worker.owner.as_ref() == Some(owner));
        is_of_owner && self.state.is_none_or(|state| state == State::of(worker))
    }
}

impl Listed for WorkerStatus {
    const PLURAL: &'static str = "workers";

    const COLUMNS: &'static [Column] = &[
        Column::Text("WORKER"),
        Column::SpareText("HOST"),
        Column::SpareText("SITE"),
        Column::Text("STATE"),
        Column::Number("RUNNING"),
        Column::Number("DONE"),
        Column::Number("FAILED"),
        Column::SpareNumber("HELD"),
        Column::SpareNumber("KEPT"),
        Column::SpareNumber("HERE FOR"),
        Column::SpareText("VERSION"),
        Column::SpareText("OWNER"),
        Column::Text("WHY"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.host_name.clone(),
            self.site.clone(),
            State::of(self).name().to_owned(),
            format!("{}/{}", self.running_count, self.slot_count),
            self.succeeded_count.to_string(),
            self.failed_count.to_string(),
            size::rounded(self.held_bytes),
            self.kept_bytes
                .map_or_else(|| "-".to_owned(), size::rounded),
            clock::duration(clock::since_unix_ms(self.joined_unix_ms)),
            self.program_version.clone(),
            self.owner.clone().unwrap_or_default(),
            why(self),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "worker_id": self.id,
            "name": self.name,
            "host_name": self.host_name,
            "state": State::of(self).name(),
            "slot_count": self.slot_count,
            "running_count": self.running_count,
            "kinds": self.kinds.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "site": self.site,
            "program_version": self.program_version,
            "succeeded_count": self.succeeded_count,
            "failed_count": self.failed_count,
            "joined_unix_ms": self.joined_unix_ms,
            "waiting_count": self.waiting_count,
            "memory_bytes": self.memory_bytes,
            "held_back_reason": self.held_back_reason,
            "data_address": self.data_address,
            "held_bytes": self.held_bytes,
            "fetched_from_broker_bytes": self.fetched_from_broker_bytes,
            "fetched_from_peers_bytes": self.fetched_from_peers_bytes,
            "corrupt_count": self.corrupt_count,
            "kept_bytes": self.kept_bytes,
            "owner": self.owner,
            "unreached_address": self.unreached.as_ref().map(|(address, _)| address),
            "unreached_reason": self.unreached.as_ref().map(|(_, reason)| reason),
        })
    }
}

impl State {
    pub(super) fn of(worker: &WorkerStatus) -> Self {
        match worker {
            WorkerStatus {
                connected: false, ..
            } => Self::Away,
            WorkerStatus { draining: true, .. } => Self::Draining,
            WorkerStatus {
                held_back_reason: Some(_),
                ..
            } => Self::HeldBack,
            _ => Self::Up,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::HeldBack => "held back",
            Self::Draining => "draining",
            Self::Away => "away",
        }
    }
}

/// What stands in the way of giving it tasks, or of fetching from it.
pub(super) fn why(worker: &WorkerStatus) -> String {
    let held_back = worker.held_back_reason.clone();
    // That it drains because it drains says nothing.
    let held_back = held_back.filter(|_| State::of(worker) == State::HeldBack);
    let shunned = match worker.corrupt_count {
        0 => None,
        1 => Some("gave 1 corrupt chunk; nobody fetches from it".to_owned()),
        count => Some(format!(
            "gave {count} corrupt chunks; nobody fetches from it"
        )),
    };
    let unreached = worker
        .unreached
        .as_ref()
        .map(|(address, _)| format!("not reached at {address}; nobody fetches from it"));
    let reasons = held_back.into_iter().chain(shunned).chain(unreached);
    let reasons: Vec<_> = reasons.collect();
    reasons.join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A worker that has done nothing yet.
    pub(in crate::verbs) fn idle(name: &str) -> WorkerStatus {
        WorkerStatus {
            id: String::new(),
            name: name.to_owned(),
            host_name: name.to_owned(),
            slot_count: 1,
            running_count: 0,
            kinds: Vec::new(),
            site: "10.1.2.0/24".to_owned(),
            program_version: "0.1.0".to_owned(),
            draining: false,
            connected: true,
            succeeded_count: 0,
            failed_count: 0,
            joined_unix_ms: 0,
            waiting_count: 0,
            memory_bytes: None,
            held_back_reason: None,
            data_address: None,
            held_bytes: 0,
            fetched_from_broker_bytes: 0,
            fetched_from_peers_bytes: 0,
            corrupt_count: 0,
            kept_bytes: None,
            owner: None,
            unreached: None,
        }
    }

    #[test]
    fn a_worker_that_gives_corrupt_chunks_still_computes() {
        let mut worker = idle("node7");
        assert_eq!(why(&worker), "");
        worker.corrupt_count = 3;
        let shunned = "gave 3 corrupt chunks; nobody fetches from it";
        assert_eq!(
            (State::of(&worker), why(&worker).as_str()),
            (State::Up, shunned)
        );
        worker.held_back_reason = Some("its machine is busy".to_owned());
        assert_eq!(why(&worker), format!("its machine is busy; {shunned}"));
        worker.draining = true;
        assert_eq!(why(&worker), shunned);
        let behind = WorkerStatus {
            unreached: Some(("10.0.0.7:9991".to_owned(), "no answer".to_owned())),
            ..idle("node8")
        };
        assert_eq!(
            why(&behind),
            "not reached at 10.0.0.7:9991; nobody fetches from it"
        );
    }
}
