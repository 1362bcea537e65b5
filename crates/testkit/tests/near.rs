//! A refinement whose workers keep their results gives the same bytes, and moves fewer over the broker's link.

use anyhow::{Context, Result, ensure};
use dewar_testkit::{
    BrokerOptions, Programs, WorkerOptions,
    refinement::{Case, differing_outputs, json},
    wait_until,
};
use std::{path::Path, time::Duration};

/// Longer than any run here takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Bytes of blobs that left the broker and came to it.
#[derive(Debug, Clone, Copy)]
struct Moved {
    sent: u64,
    received: u64,
}

/// Refines on two workers, each with an address of its own, so that the broker takes them for other machines.
fn refine(programs: &Programs, case: &Case, folder: &Path, results: &str) -> Result<Moved> {
    let broker = programs.start_broker(&BrokerOptions {
        data_dir: folder.join(format!("broker-{results}")),
        exports: vec![folder.join("data")],
        listen: "127.0.0.1:0".to_owned(),
    })?;
    let start = |host: u8| {
        let listen = format!("127.0.1.{host}:0");
        let programs =
            (programs.clone()).with_flags(&["--results", results, "--data-listen", &listen]);
        let name = format!("{results}{host}");
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
    let out = folder.join(results);
    let mut refinement = case.start_refine(programs, &broker, &out)?;
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

#[test]
fn with_results_near_the_bytes_are_the_same_and_partial_sums_stay_where_they_are() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    // Over 256 particles in each half, so that there are several shards to sum.
    let data = "--particles 600 --snr 0.5 --box 32 --pixel-size 7 --seed 5";
    let flags = "--iterations 2 --diameter 170";
    let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
    let case = Case::simulate(&programs, &folder.join("data"), &words(data), &words(flags))?;
    let at_broker = refine(&programs, &case, folder, "broker")?;
    let near = refine(&programs, &case, folder, "near")?;
    assert_eq!(
        differing_outputs(&folder.join("broker"), &folder.join("near"))?,
        [""; 0]
    );
    // What is left are particles and references, which go to the site once, and the totals, which the customer reads.
    ensure!(
        near.received * 2 < at_broker.received && near.sent < at_broker.sent,
        "near: {near:?}, at the broker: {at_broker:?}"
    );
    Ok(())
}
