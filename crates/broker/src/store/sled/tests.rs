//! The suite, crashes at every step, and damage.

mod flushes;
mod power;

use super::*;
use crate::store::{
    conformance::{self, Backend, every_durable_event, replayed},
    mem::{MemStore, without_monotonic_time},
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// Compacts whenever it may.
const THRIFTY: Thrift = Thrift {
    disk_bytes_min: 0,
    disk_to_live_min: 0,
    live_bytes_max_while_running: u64::MAX,
};

/// A store in a folder of its own.
struct Housed {
    // In this order: the store closes before its folder goes.
    store: Option<SledStore>,
    folder: TempDir,
}

impl Housed {
    fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    fn in_folder(folder: TempDir) -> Self {
        Self {
            store: Some(SledStore::open(folder.path()).unwrap()),
            folder,
        }
    }

    fn store(&mut self) -> &mut SledStore {
        self.store.as_mut().unwrap()
    }

    /// Where sled's own files are.
    fn database(&self) -> PathBuf {
        let store = self.store.as_ref().unwrap();
        store.folder.path_of(store.generation)
    }
}

impl Store for Housed {
    fn replay(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), StoreError> {
        self.store().replay(apply)
    }

    fn append(&mut self, batch: &[Event]) -> Result<(), StoreError> {
        self.store().append(batch)?;
        let blobs = fs::read_dir(self.database().join("blobs")).unwrap();
        assert_eq!(blobs.count(), 0, "sled wrote a value it does not sync");
        Ok(())
    }

    fn broker_start(&self) -> u64 {
        self.store.as_ref().unwrap().broker_start()
    }
}

impl Backend for Housed {
    fn restart(mut self) -> Self {
        self.store = None;
        self.store = Some(SledStore::open(self.folder.path()).unwrap());
        self
    }

    fn stop_after(&mut self, writes: u64) {
        self.store().set_fuse(Fuse::after(writes));
    }

    fn has_stopped(&self) -> bool {
        self.store.as_ref().unwrap().fuse.has_blown()
    }

    fn recover(self) -> Self {
        // A copy, since sled would write what it still has in memory when it is dropped.
        Self::in_folder(snapshot(self.folder.path()))
    }

    fn tidy(&mut self) {
        let stopped = self.store().compact().is_err();
        assert_eq!(stopped, stopped && self.has_stopped());
    }
}

#[test]
fn sled_conforms() {
    conformance::check(Housed::new);
    conformance::check_crashes(48, Housed::new);
}

/// The folder as it is on disk this moment: what a kill leaves.
fn snapshot(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder, copy.path());
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_folder(&path, &target);
        } else if let Err(error) = fs::copy(&path, target) {
            // sled renames and removes its snapshots as it goes.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

fn forget(job: u64) -> Event {
    Event::JobForgotten {
        job: JobNumber(job),
    }
}

#[test]
fn a_crash_after_any_write_keeps_what_was_acknowledged() {
    let mut live = Housed::new();
    let mut model = MemStore::default();
    let mut batches: Vec<Vec<Event>> = Vec::new();
    for job in 1..=4 {
        batches.extend(every_durable_event(job).chunks(4).map(<[Event]>::to_vec));
        batches.push(vec![forget(job.saturating_sub(2).max(1))]);
    }
    for batch in batches {
        live.append(&batch).unwrap();
        model.append(&batch).unwrap();
        let crashed = snapshot(live.folder.path());
        let mut reopened = SledStore::open(crashed.path()).unwrap();
        assert_eq!(replayed(&mut reopened), replayed(&mut model));
        assert_eq!(reopened.broker_start(), 2);
    }
}

#[test]
fn a_crash_inside_a_write_keeps_the_beginning_and_no_more() {
    // Steps of a write of its own, stopped between sled's batches and before the sync.
    let mut live = Housed::new();
    live.append(&every_durable_event(1)).unwrap();
    let acknowledged = replayed(&mut live);
    let store = live.store();
    let mut writes = Writes::default();
    let record = EncodedRecord {
        job: JobNumber(1),
        bytes: vec![7; 3 * records::VALUE_BYTES_MAX],
    };
    // The first frames of a record, without its end.
    for frame in records::frames(&record.bytes).take(2) {
        let sequence = store.next_sequence;
        store.next_sequence += 1;
        store
            .database
            .put(&mut writes, &keys::event(sequence, record.job), &frame)
            .unwrap();
    }
    store.database.apply(&mut writes).unwrap();
    store.database.sync().unwrap();
    let mut live = live.restart();
    assert_eq!(replayed(&mut live), acknowledged);
    live.append(&every_durable_event(2)).unwrap();
    let mut live = live.restart();
    assert_eq!(replayed(&mut live).len(), 2 * acknowledged.len());
}

#[test]
fn forgetting_is_finished_at_the_next_start() {
    let mut live = Housed::new();
    live.append(&every_durable_event(1)).unwrap();
    live.append(&every_durable_event(2)).unwrap();
    let store = live.store();
    let mut writes = Writes::default();
    store
        .database
        .put_whole(&mut writes, &keys::tombstone(JobNumber(1)), &[])
        .unwrap();
    let first = store.records[&JobNumber(1)].sequences[0];
    store
        .database
        .remove(&mut writes, &keys::event(first, JobNumber(1)))
        .unwrap();
    store.database.apply(&mut writes).unwrap();
    let mut live = live.restart();
    let expected: Vec<_> = every_durable_event(2)
        .into_iter()
        .map(without_monotonic_time)
        .collect();
    assert_eq!(replayed(&mut live), expected);
    let store = live.store();
    let tombstones = store.database.db.scan_prefix([keys::TOMBSTONE]).count();
    assert_eq!(tombstones, 0);
}

#[test]
fn a_snapshot_cut_short_does_not_keep_it_from_opening() {
    let mut live = Housed::new();
    live.append(&every_durable_event(1)).unwrap();
    let count = replayed(&mut live).len();
    let database = live.database();
    live.store = None;
    fs::write(database.join("snap.0000000000000BAD.generating"), b"half").unwrap();
    let mut store = SledStore::open(live.folder.path()).unwrap();
    assert_eq!(replayed(&mut store).len(), count);
}

#[test]
fn a_second_broker_is_refused() {
    let live = Housed::new();
    assert!(matches!(
        SledStore::open(live.folder.path()),
        Err(StoreError::InUse { .. })
    ));
}

#[test]
fn a_later_format_is_refused_with_both_named() {
    let mut live = Housed::new();
    let header = Header {
        format_version: 7,
        written_by: "9.9.9".into(),
    };
    let store = live.store();
    let mut writes = Writes::default();
    store
        .database
        .put_whole(&mut writes, keys::HEADER, &header.encode_to_vec())
        .unwrap();
    store.database.apply(&mut writes).unwrap();
    live.store = None;
    let error = SledStore::open(live.folder.path()).err().unwrap();
    assert!(matches!(
        error,
        StoreError::Newer {
            found: 7,
            supported: FORMAT_VERSION
        }
    ));
    let text = error.to_string();
    assert!(
        text.contains("format 7") && text.contains(&format!("up to {FORMAT_VERSION}")),
        "{text}"
    );
}

#[test]
fn a_changed_value_is_noticed() {
    let mut live = Housed::new();
    live.append(&every_durable_event(1)).unwrap();
    let store = live.store();
    let (key, value) = store
        .database
        .db
        .scan_prefix([keys::EVENT])
        .next()
        .unwrap()
        .unwrap();
    let mut value = value.to_vec();
    value[40] ^= 1;
    store.database.db.insert(&key, value).unwrap();
    assert!(matches!(
        store.replay(&mut |_| ()),
        Err(StoreError::Corrupt { sequence: 0, .. })
    ));
    live.store = None;
    assert!(SledStore::open(live.folder.path()).is_err());
}

#[test]
fn damaged_files_are_an_error_and_no_panic() {
    let mut live = Housed::new();
    for job in 1..50 {
        live.append(&every_durable_event(job)).unwrap();
    }
    let db = live.database().join("db");
    live.store = None;
    let sound = fs::read(&db).unwrap();
    let expected = replayed(&mut SledStore::open(snapshot(live.folder.path()).path()).unwrap());
    for at in (0..sound.len()).step_by(sound.len() / 12 + 1) {
        let mut damaged = sound.clone();
        let end = damaged.len().min(at + 64);
        damaged[at..end].fill(0xa5);
        fs::write(&db, &damaged).unwrap();
        let copy = snapshot(live.folder.path());
        // sled may not have used those bytes, may say that it lost its end, or may refuse; it must not take us down.
        if let Ok(mut store) = SledStore::open(copy.path()) {
            let mut events = Vec::new();
            if store.replay(&mut |event| events.push(event)).is_ok() {
                assert!(expected.starts_with(&events), "other events came back");
            }
        }
    }
}

#[test]
fn a_failed_store_takes_nothing_more() {
    let mut live = Housed::new();
    let store = live.store();
    store.failed = true;
    assert!(matches!(
        store.append(&every_durable_event(1)),
        Err(StoreError::Failed)
    ));
}

/// Large enough to fill some of sled's segments, and forgotten but for the last job.
fn grown(thrift: Thrift) -> Housed {
    let mut live = Housed::new();
    live.store().thrift = Some(thrift);
    for job in 1..=200 {
        let mut events = Vec::new();
        for _ in 0..20 {
            events.extend(every_durable_event(job));
        }
        live.append(&events).unwrap();
    }
    live
}

fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => disk_bytes(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

#[test]
fn disk_use_comes_back_down_while_it_runs() {
    const GROWN_BYTES: u64 = 2 << 20;
    let mut live = grown(Thrift {
        disk_bytes_min: GROWN_BYTES,
        ..Thrift::default()
    });
    assert!(disk_bytes(live.folder.path()) > GROWN_BYTES);
    let last = every_durable_event(201);
    live.append(&last).unwrap();
    for job in 1..=200 {
        live.append(&[forget(job)]).unwrap();
    }
    assert!(disk_bytes(live.folder.path()) < GROWN_BYTES);
    let mut expected = vec![forget(200)];
    expected.extend(last.into_iter().map(without_monotonic_time));
    assert_eq!(replayed(&mut live), expected);
    assert_eq!(live.broker_start(), 1);
    let mut live = live.restart();
    assert_eq!(replayed(&mut live), expected);
    assert_eq!(live.broker_start(), 2);
}

#[test]
fn disk_use_comes_back_down_at_a_start() {
    let mut live = grown(Thrift::default());
    for job in 1..=199 {
        live.append(&[forget(job)]).unwrap();
    }
    let expected = replayed(&mut live);
    let grown_bytes = disk_bytes(live.folder.path());
    live.store = None;
    let mut store = SledStore::open_with(live.folder.path(), THRIFTY, Fuse::default()).unwrap();
    assert_eq!(replayed(&mut store), expected);
    assert!(disk_bytes(live.folder.path()) < grown_bytes / 2);
}

#[test]
fn a_crash_anywhere_in_a_compaction_or_a_start_loses_nothing() {
    for early in [false, true] {
        let mut live = Housed::new();
        for job in 1..=3 {
            live.append(&every_durable_event(job)).unwrap();
        }
        live.append(&[forget(2)]).unwrap();
        let expected = replayed(&mut live);
        if early {
            make_early(&mut live);
        }
        live.store = None;
        let mut writes = 0;
        loop {
            let folder = snapshot(live.folder.path());
            let fuse = Fuse::after(writes);
            let opened = SledStore::open_with(folder.path(), THRIFTY, fuse.clone());
            let crashed = snapshot(folder.path());
            let mut store = SledStore::open(crashed.path()).unwrap();
            assert_eq!(replayed(&mut store), expected, "after {writes} writes");
            assert!((2..=3).contains(&store.broker_start()));
            let left = fs::read_dir(crashed.path()).unwrap().count();
            assert!(left == 3 || early, "leftovers after {writes} writes");
            if !fuse.has_blown() {
                assert!(opened.is_ok());
                break;
            }
            writes += 1;
        }
        assert!(writes > 5, "it stopped at {writes} places");
    }
}

/// Lays the store out as the first releases did: the database in the folder itself.
fn make_early(live: &mut Housed) {
    let database = live.database();
    live.store = None;
    for entry in fs::read_dir(&database).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, live.folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::remove_dir(database).unwrap();
    fs::remove_file(live.folder.path().join("CURRENT")).unwrap();
}

#[test]
fn an_early_store_opens_where_it_is_and_moves_when_it_is_compacted() {
    let mut live = Housed::new();
    live.append(&every_durable_event(1)).unwrap();
    let expected = replayed(&mut live);
    make_early(&mut live);
    let mut live = live.restart();
    assert_eq!(replayed(&mut live), expected);
    assert_eq!(live.broker_start(), 2);
    assert_eq!(live.database(), live.folder.path());
    live.tidy();
    assert_eq!(replayed(&mut live), expected);
    assert!(!live.folder.path().join("db").exists());
    assert_eq!(replayed(&mut live.restart()), expected);
}

#[test]
fn a_generation_or_pointer_that_is_missing_is_no_empty_store() {
    let mut live = Housed::new();
    live.append(&every_durable_event(1)).unwrap();
    live.tidy();
    let database = live.database();
    live.store = None;
    let refused = |folder: &Path| {
        let opened = SledStore::open(folder);
        assert!(matches!(opened, Err(StoreError::Damaged { .. })));
    };
    let pointer = live.folder.path().join("CURRENT");
    let name = fs::read(&pointer).unwrap();
    fs::remove_file(&pointer).unwrap();
    refused(live.folder.path());
    fs::write(&pointer, "gen-1").unwrap();
    refused(live.folder.path());
    fs::write(&pointer, name).unwrap();
    fs::rename(&database, live.folder.path().join("elsewhere")).unwrap();
    refused(live.folder.path());
}

const KILLED_CHILD_FOLDER: &str = "DEWAR_TEST_KILLED_STORE";

/// Not a test by itself: what [`kills_lose_nothing_acknowledged`] kills.
#[test]
fn killed_child() {
    let Some(folder) = std::env::var_os(KILLED_CHILD_FOLDER) else {
        return;
    };
    let mut store = SledStore::open(&PathBuf::from(folder)).unwrap();
    let mut job = replayed(&mut store).len() as u64 / 2;
    loop {
        job += 1;
        // Two events in one batch: both or none.
        let [first, second, ..] = &every_durable_event(job)[..] else {
            unreachable!("there are more than two kinds of events");
        };
        store.append(&[first.clone(), second.clone()]).unwrap();
        println!("ack {job}");
        if job.is_multiple_of(4) {
            store.compact().unwrap();
        }
    }
}

#[test]
fn kills_lose_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0_u64..24 {
        let mut child = spawn_child(folder.path());
        let output = BufReader::new(child.stdout.take().unwrap());
        // Some are killed while they still open, most while they write.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round * 37 % 130));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        for line in output.lines() {
            // A line may have been cut off by the kill.
            if let Some(job) = line.unwrap().strip_prefix("ack ") {
                acknowledged = acknowledged.max(job.parse().unwrap());
            }
        }
        killer.join().unwrap();
        let mut store = SledStore::open(folder.path()).unwrap();
        let jobs: Vec<u64> = replayed(&mut store)
            .iter()
            .map(|event| event.recorded_job().unwrap().0)
            .collect();
        let count = jobs.len() as u64 / 2;
        let expected: Vec<u64> = (1..=count).flat_map(|job| [job, job]).collect();
        assert_eq!(jobs, expected, "a batch was torn");
        assert!(
            count >= acknowledged,
            "{acknowledged} acknowledged, {count} there"
        );
        acknowledged = count;
    }
    assert!(acknowledged > 0, "the child never wrote");
    std::io::stdout().flush().unwrap();
}

fn spawn_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sled::tests::killed_child", "--nocapture"])
        .env(KILLED_CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
