//! A refinement whose workers keep their results gives the same bytes, also when its broker is killed, and moves fewer over
//! the broker's link.

use anyhow::{Context, Result, ensure};
use dewar_testkit::{
    BrokerOptions, Programs, WorkerOptions,
    refinement::{Case, differing_outputs, json},
    wait_until,
};
use std::{collections::BTreeSet, ffi::OsString, fs, path::Path, time::Duration};

/// Longer than any run here takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Bytes of blobs that left the broker and came to it.
#[derive(Debug, Clone, Copy)]
struct Moved {
    sent: u64,
    received: u64,
}

/// Refines on two workers, each with an address of its own, so that the broker takes them for other machines. The broker is
/// killed so often, each time when it has just written down who keeps a result.
fn refine(
    programs: &Programs,
    case: &Case,
    folder: &Path,
    (name, results): (&str, &str),
    kill_count: usize,
) -> Result<Moved> {
    let options = BrokerOptions {
        data_dir: folder.join(format!("broker-{name}")),
        exports: vec![folder.join("data")],
        listen: "127.0.0.1:0".to_owned(),
    };
    let mut broker = programs.start_broker(&options)?;
    // Wherever it listens now, it listens when it is started again.
    let options = BrokerOptions {
        listen: broker.address.clone(),
        ..options
    };
    let start = |host: u8| {
        let listen = format!("127.0.1.{host}:0");
        let programs =
            (programs.clone()).with_flags(&["--results", results, "--data-listen", &listen]);
        let name = format!("{name}{host}");
        let options = WorkerOptions {
            cache_dir: folder.join(format!("cache-{name}")),
            name,
            slot_count: 1,
        };
        programs.start_worker(&broker, &options)
    };
    let workers = [start(2)?, start(3)?];
    wait_until("both workers can be fetched from", LIMIT, || {
        let listed = json(
            programs
                .dewar()
                .args(["workers", "--json"])
                .args(broker.flags()),
        )?;
        let listed = listed["workers"].as_array().cloned().unwrap_or_default();
        let reached = listed.iter().filter(|one| one["data_address"].is_string());
        Ok(reached.count() == 2)
    })?;
    let out = folder.join(name);
    let mut refinement = case.start_refine(programs, &broker, &out)?;
    let mut seen = BTreeSet::new();
    for _ in 0..kill_count {
        wait_until("a result is kept near", LIMIT, || {
            ensure!(refinement.is_running()?, "it ended before the last kill");
            let records = records(&options)?;
            let is_new = !records.is_subset(&seen);
            seen.extend(records);
            Ok(is_new)
        })?;
        broker.kill()?;
        broker = programs.start_broker(&options)?;
    }
    wait_until("the refinement", LIMIT, || Ok(!refinement.is_running()?))?;
    let status = json(
        programs
            .dewar()
            .args(["status", "--json"])
            .args(broker.flags()),
    )?;
    let number = |key: &str| status[key].as_u64().context("status gives it");
    let moved = Moved {
        sent: number("sent_blob_bytes")?,
        received: number("received_blob_bytes")?,
    };
    for worker in workers {
        worker.stop()?;
    }
    broker.stop()?;
    Ok(moved)
}

/// What the broker's disk says of results at workers, by name.
fn records(options: &BrokerOptions) -> Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(options.data_dir.join("near"))?;
    let names = entries.map(|entry| Ok(entry?.file_name()));
    let names: Result<BTreeSet<_>> = names.collect();
    // Those that are being written have another name.
    Ok(names?.into_iter().filter(|name| name.len() == 64).collect())
}

#[test]
fn with_results_near_the_bytes_are_the_same_also_after_kill_9_and_partial_sums_stay_where_they_are()
-> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    // Over 256 particles in each half, so that there are several shards to sum.
    let data = "--particles 600 --snr 0.5 --box 32 --pixel-size 7 --seed 5";
    let flags = "--iterations 2 --diameter 170";
    let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
    let case = Case::simulate(&programs, &folder.join("data"), &words(data), &words(flags))?;
    let at_broker = refine(&programs, &case, folder, ("broker", "broker"), 0)?;
    let near = refine(&programs, &case, folder, ("near", "near"), 0)?;
    refine(&programs, &case, folder, ("killed", "near"), 3)?;
    for other in ["near", "killed"] {
        let differing = differing_outputs(&folder.join("broker"), &folder.join(other))?;
        assert_eq!(differing, [""; 0], "{other}");
    }
    // What is left are particles and references, which go to the site once, and the totals, which the customer reads.
    ensure!(
        near.received * 2 < at_broker.received && near.sent < at_broker.sent,
        "near: {near:?}, at the broker: {at_broker:?}"
    );
    Ok(())
}
