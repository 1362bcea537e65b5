//! Bounds on bytes a second, with the real programs: so many bytes take so long at least, however fast the machine is.

use crate::{dewar::word, precache::Fleet};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const FILE_BYTES: u64 = 8_000_000;

/// Of whoever is bounded.
const LIMIT: &str = "4MB/s";

/// Two seconds' worth, less what may pass at once and what is on its way when the last byte was counted: two chunks.
const TIME_MIN: Duration = Duration::from_millis(1_400);

/// How long it takes until all workers have a file.
fn precache_time(fleet: &Fleet, file: &Path) -> Duration {
    let started = Instant::now();
    fleet.dewar(&["precache", word(file)]).ok();
    started.elapsed()
}

#[track_caller]
fn check(took: Duration) {
    assert!(took >= TIME_MIN, "{took:?}");
}

#[test]
fn a_worker_fetches_no_faster_than_its_download_limit() {
    let mut fleet = Fleet::start();
    fleet.add_worker(2, "cache2", &["--download-limit", LIMIT]);
    check(precache_time(&fleet, &fleet.file("stack.mrcs", FILE_BYTES)));
}

#[test]
fn a_worker_gives_to_peers_no_faster_than_its_upload_limit() {
    let mut fleet = Fleet::start();
    fleet.add_worker(2, "cache2", &["--upload-limit", LIMIT]);
    let file = fleet.file("stack.mrcs", FILE_BYTES);
    precache_time(&fleet, &file);
    fleet.add_worker(3, "cache3", &[]);
    check(precache_time(&fleet, &file));
    assert_eq!(
        fleet.worker("node3")["fetched_from_peers_bytes"],
        FILE_BYTES
    );
}

#[test]
fn a_broker_gives_no_faster_than_its_upload_limit() {
    let mut fleet = Fleet::start_with(&["--upload-limit", LIMIT]);
    fleet.add_worker(2, "cache2", &[]);
    check(precache_time(&fleet, &fleet.file("stack.mrcs", FILE_BYTES)));
}

#[test]
fn a_broker_takes_no_faster_than_its_download_limit() {
    let mut fleet = Fleet::start_with(&["--download-limit", LIMIT]);
    fleet.add_worker(2, "cache2", &[]);
    // Outside what the broker exports, so that it is sent.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.mrcs");
    std::fs::rename(fleet.file("stack.mrcs", FILE_BYTES), &file).unwrap();
    check(precache_time(&fleet, &file));
}
