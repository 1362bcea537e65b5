//! `dewar doctor`: what is wrong, and what to do about it.
//!
//! One file a subject: `way` is how to reach the broker, `fleet` what the broker knows of itself and its workers, `trip` tries
//! out the whole way there and back, `disk` looks at folders of this machine. Each check says what was tried, what came, and
//! what to do. One that failed stops those alone that cannot be made without it.

mod disk;
mod finding;
mod fleet;
mod trip;
mod way;

use self::finding::{Finding, Verdict};
use crate::{broker, failure::Failure, output};
use anyhow::anyhow;
use clap::Args;
use dewar_settings::ConnectArgs;
use serde_json::json;
use std::{path::PathBuf, time::Duration};

/// Looks for what is wrong between this machine, the broker and its workers, and says what to do.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar doctor\n  dewar doctor --broker titan:9990 --token-file dewar-token\n  \
    dewar doctor --kind em.align/3 --cache-dir /scratch/dewar\n  dewar doctor --json | jq '.checks[] | select(.verdict != \"ok\")'\n\n\
    Run it on the machine where something does not work: a worker's as well as your own. One task is computed by a worker, and a few \
    megabytes go to the broker and back; both are gone a minute later.\n\
    Exit code 1 when a check failed; warnings are worth reading, but work goes on.\n\
    JSON keys: healthy (no check failed), checks; of each check, verdict (ok, warning, failed, skipped), tried, came, cure (null if \
    there is nothing to do). docs/errors.md lists the checks"
)]
pub struct Options {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Folder of a worker on this machine [default: where one of this account would have it].
    #[arg(long, env = "DEWAR_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Folder of a broker on this machine [default: where one of this account would have it].
    #[arg(long, env = "DEWAR_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A kind that some worker must serve, such as em.align/3. May be given several times [default: those of this release].
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// How long the task that is tried out may take.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let findings = broker::block_on(async { Ok(examine(options).await) })?;
    if options.json {
        output::print_json(&json!({
            "healthy": count(&findings, Verdict::Failed) == 0,
            "checks": findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        }))?;
    } else {
        let lines: String = findings.iter().map(Finding::to_text).collect();
        output::print(&lines)?;
    }
    match count(&findings, Verdict::Failed) {
        0 => Ok(()),
        count => Err(
            Failure::work(anyhow!("{count} of {} checks failed", findings.len()))
                .try_next("what stands beside `cure`, then dewar doctor again"),
        ),
    }
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    let of_it = findings.iter().filter(|finding| finding.verdict == verdict);
    of_it.count()
}

async fn examine(options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    let reached = way::examine(&options.connect, &mut findings).await;
    let of_broker = reached.as_ref().map(|(_, status)| status);
    match &reached {
        Some((client, status)) => {
            let workers = fleet::examine(client, status, &options.kinds, &mut findings).await;
            trip::examine(client, status, &workers, options.patience, &mut findings).await;
        }
        None => {
            let without_it = fleet::CHECKS.into_iter().chain(trip::CHECKS);
            findings.extend(
                without_it.map(|check| Finding::skipped(check, "there is no way to the broker")),
            );
        }
    }
    findings.extend(disk::examine_cache(options.cache_dir.clone()));
    findings.extend(disk::examine_data(options.data_dir.clone(), of_broker));
    findings
}
