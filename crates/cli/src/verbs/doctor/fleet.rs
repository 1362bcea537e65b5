//! What the broker knows: its clock and disk, its workers, what they serve and who reaches them.

use super::finding::Finding;
use crate::{clock, size, verbs::workers};
use dewar_sdk::{BrokerStatus, Client, WorkerStatus};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpStream, time::timeout};

/// What is examined here, for when it cannot be.
pub const CHECKS: [&str; 6] = [
    "round-trip",
    "clock",
    "broker-disk",
    "workers",
    "kinds",
    "peers",
];

/// Questions whose round trip is measured.
const TRIPS: usize = 5;

/// A link this slow is felt with every small task.
const SLOW_TRIP: Duration = Duration::from_millis(300);

/// Clocks that differ by less are as good as one: people compare logs by the second.
const SKEW_MAX_MS: i64 = 2_000;

/// How long a worker's data port may take to answer.
const PEER_WITHIN: Duration = Duration::from_secs(2);

/// Workers that are named; whoever has more of a kind has one problem, and not as many.
const NAMED_MAX: usize = 5;

/// Asks the broker, and gives its workers for others to go on with.
pub async fn examine(
    client: &Client,
    status: &BrokerStatus,
    kinds: &[String],
    findings: &mut Vec<Finding>,
) -> Vec<WorkerStatus> {
    findings.extend(trips(client).await);
    findings.push(disk(status));
    let workers = match timeout(Duration::from_secs(15), client.workers()).await {
        Ok(Ok(workers)) => workers,
        Ok(Err(error)) => {
            findings.push(Finding::failed(
                "workers",
                "ask for the workers",
                error.to_string(),
                "try again, and look at the broker's log",
            ));
            Vec::new()
        }
        Err(_) => {
            findings.push(Finding::failed(
                "workers",
                "ask for the workers",
                "no answer within 15 s",
                "try again, and look at the broker's log",
            ));
            Vec::new()
        }
    };
    findings.push(attending(&workers, client.address()));
    findings.push(served(&workers, kinds));
    findings.push(peers(&workers).await);
    workers
}

/// The time of a round trip, and how far the broker's clock is from ours.
async fn trips(client: &Client) -> Vec<Finding> {
    const TRIED: &str = "ask the broker five times";
    let mut trips = Vec::new();
    let mut told = None;
    for _ in 0..TRIPS {
        let (began, asked_at) = (Instant::now(), unix_ms());
        match timeout(Duration::from_secs(5), client.status()).await {
            Ok(Ok(status)) => {
                let took = began.elapsed();
                // The shortest trip tells the clocks apart best.
                if trips.iter().all(|trip| took < *trip) {
                    told = status.now_unix_ms.map(|theirs| (theirs, asked_at, took));
                }
                trips.push(took);
            }
            Ok(Err(error)) => {
                return vec![
                    Finding::failed(
                        "round-trip",
                        TRIED,
                        error.to_string(),
                        "look at the broker's log",
                    ),
                    Finding::skipped("clock", "the broker does not answer"),
                ];
            }
            Err(_) => {
                let came = "no answer within 5 s";
                let cure = "the link or the broker is overloaded: look at `dewar status` and at the broker's log";
                return vec![
                    Finding::failed("round-trip", TRIED, came, cure),
                    Finding::skipped("clock", "the broker does not answer"),
                ];
            }
        }
    }
    trips.sort();
    let median = trips[trips.len() / 2];
    let came = format!("{:.1} ms there and back", 1e3 * median.as_secs_f64());
    let trip = if median > SLOW_TRIP {
        let cure = "work goes on, but many small tasks will be slow: put the broker nearer, or let each task do more";
        Finding::warning("round-trip", TRIED, came, cure)
    } else {
        Finding::ok("round-trip", TRIED, came)
    };
    vec![trip, skew(told)]
}

fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What the broker's clock said, when it was asked by ours, and how long that took.
fn skew(told: Option<(u64, i64, Duration)>) -> Finding {
    const TRIED: &str = "compare the broker's clock with this machine's";
    let Some((theirs, asked_at, took)) = told else {
        return Finding::skipped("clock", "the broker is too old to tell its time");
    };
    let half_ms = i64::try_from(took.as_millis() / 2).unwrap_or(0);
    let theirs = i64::try_from(theirs).unwrap_or(i64::MAX);
    let ahead_ms = theirs.saturating_sub(asked_at).saturating_sub(half_ms);
    let apart = clock::duration(Duration::from_millis(ahead_ms.unsigned_abs()));
    if ahead_ms.abs() <= SKEW_MAX_MS + half_ms {
        return Finding::ok("clock", TRIED, format!("{apart} apart"));
    }
    let which = if ahead_ms > 0 { "ahead" } else { "behind" };
    Finding::warning(
        "clock",
        TRIED,
        format!("the broker's is {apart} {which}"),
        "set both by NTP (`timedatectl set-ntp true`). Work goes on, for each machine counts by its own clock, but ages and \
         times are shown wrong, and logs of two machines do not fit together",
    )
}

fn disk(status: &BrokerStatus) -> Finding {
    let tried = format!("ask for room at {}", status.data_dir);
    let free = status.free_bytes.map_or_else(
        || "not said".to_owned(),
        |bytes| format!("{} free", size::rounded(bytes)),
    );
    match &status.refusing_reason {
        Some(reason) => Finding::failed(
            "broker-disk",
            tried,
            format!("{free}; it refuses submits and uploads: {reason}"),
            format!(
                "make room on {} there; it goes on by itself",
                status.host_name
            ),
        ),
        None => Finding::ok("broker-disk", tried, free),
    }
}

fn attending(workers: &[WorkerStatus], address: &str) -> Finding {
    const TRIED: &str = "ask which workers attend";
    if workers.is_empty() {
        let cure = format!(
            "start dewar-worker --broker {address} --token-file FILE on a machine with free cores; one that was started says on its \
             stderr why it does not join"
        );
        return Finding::failed("workers", TRIED, "none", cure);
    }
    let is_up = |worker: &&WorkerStatus| workers::State::of(worker) == workers::State::Up;
    let up_count = workers.iter().filter(is_up).count();
    let slots: u32 = workers.iter().map(|worker| worker.slot_count).sum();
    let mut came = format!(
        "{} with {slots} slots, {up_count} of them take tasks",
        workers.len()
    );
    let others: Vec<String> = workers
        .iter()
        .filter(|worker| !is_up(worker))
        .map(|worker| {
            let reason = workers::why(worker);
            let colon = if reason.is_empty() { "" } else { ": " };
            format!(
                "{} is {}{colon}{reason}",
                worker.name,
                workers::State::of(worker).name()
            )
        })
        .collect();
    if others.is_empty() {
        return Finding::ok("workers", TRIED, came);
    }
    came = format!("{came}; {}", named(&others));
    let cure = "those that are away come back or are given up within a minute; those that drain leave; why one is held back stands \
                beside it, and `dewar workers` shows when that ends";
    if up_count == 0 {
        Finding::failed("workers", TRIED, came, cure)
    } else {
        Finding::warning("workers", TRIED, came, cure)
    }
}

fn served(workers: &[WorkerStatus], asked: &[String]) -> Finding {
    if workers.is_empty() {
        return Finding::skipped("kinds", "no worker attends");
    }
    let wanted: Vec<String> = if asked.is_empty() {
        let kinds = dewar_kernels::registry();
        let kinds = kinds.kinds().map(ToString::to_string);
        kinds
            .filter(|kind| *kind != super::trip::self_test().to_string())
            .collect()
    } else {
        asked.to_vec()
    };
    let served: BTreeSet<String> = workers
        .iter()
        .flat_map(|worker| &worker.kinds)
        .map(ToString::to_string)
        .collect();
    let tried = format!("find a worker for each of {}", wanted.join(", "));
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|kind| !served.contains(*kind))
        .collect();
    if missing.is_empty() {
        return Finding::ok("kinds", tried, "each has one");
    }
    let missing = missing
        .iter()
        .map(|kind| kind.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let served: Vec<String> = served.into_iter().collect();
    let versions: BTreeSet<&str> = workers
        .iter()
        .map(|worker| worker.program_version.as_str())
        .collect();
    let versions: Vec<&str> = versions.into_iter().collect();
    Finding::failed(
        "kinds",
        tried,
        format!("none serves {missing}; they serve {}", served.join(", ")),
        format!(
            "start a dewar-worker that has it: this release is {}, the workers' {}; a kind's number is raised when its meaning changes, \
             so install the customer's release on the workers, or the workers' on the customer's machine",
            env!("CARGO_PKG_VERSION"),
            versions.join(", ")
        ),
    )
}

/// Whether the broker reached every worker back, and whether this machine does.
async fn peers(workers: &[WorkerStatus]) -> Finding {
    const TRIED: &str =
        "reach every worker's data port, the broker from its side and this machine from here";
    if workers.is_empty() {
        return Finding::skipped("peers", "no worker attends");
    }
    let unreached: Vec<String> = workers
        .iter()
        .filter_map(|worker| {
            let (address, reason) = worker.unreached.as_ref()?;
            Some(format!("{} at {address}: {reason}", worker.name))
        })
        .collect();
    let reached: Vec<&str> = workers
        .iter()
        .filter_map(|worker| worker.data_address.as_deref())
        .collect();
    let mut from_here = 0;
    for address in reached.iter().take(NAMED_MAX) {
        let dialed = timeout(PEER_WITHIN, TcpStream::connect(address)).await;
        from_here += usize::from(matches!(dialed, Ok(Ok(_))));
    }
    let came = format!(
        "the broker reached {} of {} workers; this machine {from_here} of the first {}",
        reached.len(),
        workers.len(),
        reached.len().min(NAMED_MAX)
    );
    if unreached.is_empty() {
        return Finding::ok("peers", TRIED, came);
    }
    Finding::warning(
        "peers",
        TRIED,
        format!("{came}; not reached: {}", named(&unreached)),
        "a firewall or an address translator is in between: let that TCP port in, fix it with dewar-worker --data-listen, and say what \
         others should call with --advertise HOST:PORT. Until then nobody fetches from that worker, and all data crosses the broker's \
         link once more for each machine behind it",
    )
}

/// The first few, and how many more there are.
fn named(all: &[String]) -> String {
    let some = all
        .iter()
        .take(NAMED_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match all.len().saturating_sub(NAMED_MAX) {
        0 => some,
        more => format!("{some}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::verbs::workers::tests::idle;

    #[test]
    fn clocks_are_compared_at_the_middle_of_the_trip() {
        let second = Duration::from_secs(1);
        let at = |theirs| skew(Some((theirs, 1_000_000, second))).verdict;
        assert_eq!(at(1_000_500), Verdict::Ok);
        assert_eq!(at(1_002_900), Verdict::Ok);
        assert_eq!(at(1_003_100), Verdict::Warning);
        assert_eq!(at(990_000), Verdict::Warning);
        assert_eq!(skew(None).verdict, Verdict::Skipped);
    }

    #[test]
    fn workers_that_take_nothing_are_as_good_as_none() {
        let mut worker = idle("node7");
        assert_eq!(attending(&[], "titan:9990").verdict, Verdict::Failed);
        assert_eq!(attending(&[worker.clone()], "").verdict, Verdict::Ok);
        worker.held_back_reason = Some("its machine is busy".to_owned());
        let finding = attending(&[worker.clone()], "");
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(
            finding
                .came
                .contains("node7 is held back: its machine is busy"),
            "{finding:?}"
        );
        assert_eq!(
            attending(&[worker, idle("node8")], "").verdict,
            Verdict::Warning
        );
    }

    #[test]
    fn the_first_few_are_named() {
        let all: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(named(&all), "0; 1; 2; 3; 4; and 2 more");
    }
}
