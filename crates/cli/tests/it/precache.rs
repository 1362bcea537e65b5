//! `dewar precache`, with the real broker and workers.
//!
//! A worker told to listen on 127.0.1.2 connects from there too, so the broker on 127.0.0.1 takes it for another machine, and
//! all of 127.0.1.0/24 for one site.

use crate::{
    dewar::{Ran, command, dewar, keys, ran, word},
    lab::Lab,
};
use dewar_testkit::{Broker, BrokerOptions, Guarded, Programs, WorkerOptions, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;

const FILE_BYTES: u64 = 5_000_000;

/// Long enough for a worker built without optimization to try out its machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that exports a folder, and workers that it takes for machines of their own. Fields end in this order.
pub struct Fleet {
    workers: Vec<Guarded>,
    broker: Broker,
    programs: Programs,
    folder: TempDir,
}

impl Fleet {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(broker_flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::beside_test().unwrap();
        let export = folder.path().join("export");
        fs::create_dir(&export).unwrap();
        let with_flags = programs.clone().with_flags(broker_flags);
        let broker = with_flags.start_broker(&BrokerOptions {
            data_dir: folder.path().join("broker"),
            exports: vec![export],
            listen: "127.0.0.1:0".to_owned(),
        });
        Self {
            workers: Vec::new(),
            broker: broker.unwrap(),
            programs,
            folder,
        }
    }

    /// Starts a worker on a machine of its own, and waits until others can reach it.
    pub fn add_worker(&mut self, host: u8, cache: &str, flags: &[&str]) {
        let address = format!("127.0.1.{host}:0");
        let flags: Vec<&str> = ["--data-listen", &address]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        let options = WorkerOptions {
            name: format!("node{host}"),
            slot_count: 1,
            cache_dir: self.folder.path().join(cache),
        };
        let programs = self.programs.clone().with_flags(&flags);
        let worker = programs.start_worker(&self.broker, &options).unwrap();
        self.workers.push(worker);
        let is_reached = || Ok(!self.worker(&options.name)["data_address"].is_null());
        wait_until("the worker is reached", PATIENCE, is_reached).unwrap();
    }

    /// A file in the exported folder. Its chunks differ from one another, and not from those of other files.
    pub fn file(&self, name: &str, size_bytes: u64) -> PathBuf {
        let path = self.folder.path().join("export").join(name);
        let words = (0..size_bytes.div_ceil(8)).flat_map(u64::to_le_bytes);
        let bytes: Vec<u8> = words.take(size_bytes.try_into().unwrap()).collect();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Where everything of it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = command();
        command.args(words).args(self.broker.flags());
        command
    }

    pub fn dewar(&self, words: &[&str]) -> Ran {
        ran(&mut self.command(words))
    }

    /// What `dewar workers` says of one; null if it is not there.
    pub fn worker(&self, name: &str) -> Value {
        let workers = self.dewar(&["workers", "--json"]).ok().json();
        let workers = workers["workers"].as_array().unwrap();
        let worker = workers.iter().find(|worker| worker["name"] == name);
        worker.cloned().unwrap_or_default()
    }

    /// The job that held what was sent; null if there is none.
    fn job(&self) -> Value {
        self.dewar(&["jobs", "--json"]).ok().json()["jobs"][0].clone()
    }
}

#[test]
fn all_workers_have_the_file_and_the_broker_sends_it_once() {
    let mut fleet = Fleet::start();
    fleet.add_worker(2, "cache2", &[]);
    fleet.add_worker(3, "cache3", &[]);
    let file = fleet.file("stack.mrcs", FILE_BYTES);
    let words = ["precache", word(&file), "--site", "127.0.1.0/24", "--json"];
    let told = fleet.dewar(&words).ok().json();
    let promised = [
        "files",
        "worker_count",
        "held_bytes",
        "wanted_bytes",
        "failures",
    ];
    assert_eq!(keys(&told), promised);
    assert_eq!(keys(&told["files"][0]), ["path", "digest", "size_bytes"]);
    assert_eq!(told["files"][0]["size_bytes"], FILE_BYTES);
    assert_eq!(told["worker_count"], 2);
    assert_eq!(told["held_bytes"], 2 * FILE_BYTES);
    assert_eq!(told["wanted_bytes"], 2 * FILE_BYTES);

    let nodes = [fleet.worker("node2"), fleet.worker("node3")];
    let sum = |key: &str| -> u64 { nodes.iter().map(|node| node[key].as_u64().unwrap()).sum() };
    for node in &nodes {
        assert_eq!(node["held_bytes"], FILE_BYTES);
        assert_eq!(node["site"], "127.0.1.0/24");
        assert_eq!(node["corrupt_count"], 0);
    }
    assert_eq!(sum("fetched_from_broker_bytes"), FILE_BYTES, "{nodes:#?}");
    assert_eq!(sum("fetched_from_peers_bytes"), FILE_BYTES, "{nodes:#?}");
    let text = fleet.dewar(&["workers"]).ok().stdout;
    assert!(
        text.contains("127.0.1.0/24") && text.contains("4.8 MiB"),
        "{text}"
    );
    let status = fleet.dewar(&["status", "--json"]).ok().json();
    assert!(
        status["sent_blob_bytes"].as_u64() >= Some(FILE_BYTES),
        "{status}"
    );
    let job = fleet.job();
    assert_eq!(
        (&job["name"], &job["closed"]),
        (&"precache".into(), &true.into())
    );

    // Once more, nothing moves.
    let text = fleet.dewar(&["precache", word(&file)]).ok().stdout;
    assert_eq!(text, "1 file, 4.8 MiB: 2 workers have all of it\n");
    let again = [fleet.worker("node2"), fleet.worker("node3")];
    assert_eq!(again, nodes);
}

#[test]
fn a_worker_whose_cache_is_too_small_is_named_with_code_1() {
    let mut fleet = Fleet::start();
    fleet.add_worker(2, "cache2", &[]);
    fleet.add_worker(3, "cache3", &["--cache-size", "4MiB"]);
    let file = fleet.file("stack.mrcs", FILE_BYTES);
    let told = fleet.dewar(&["precache", word(&file), "--json"]);
    let json = told.json();
    let failures = json["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{json}");
    let failure = failures[0].as_str().unwrap();
    assert!(
        failure.starts_with("node3: ") && failure.contains("--cache-size"),
        "{failure}"
    );
    assert!(told.stderr.contains(failure), "{told:?}");
    told.fails(1, &["1 worker does not have all of it"]);
    assert_eq!(fleet.worker("node2")["held_bytes"], FILE_BYTES);

    // Each would fit alone.
    let files = [
        fleet.file("one.mrcs", 3_000_000),
        fleet.file("two.mrcs", 3_000_001),
    ];
    let words = ["precache", word(&files[0]), word(&files[1])];
    let told = fleet.dewar(&words);
    assert!(told.stderr.contains("node3: "), "{told:?}");
    assert_eq!(
        told.stdout,
        "2 files, 5.7 MiB: 1 of 2 workers have all of it\n"
    );
    told.fails(1, &["1 worker does not have all of it"]);
}

#[test]
fn what_came_with_another_file_or_by_another_process_is_not_waited_for() {
    let mut fleet = Fleet::start();
    fleet.add_worker(2, "cache2", &[]);
    fleet.add_worker(3, "cache2", &[]);
    let file = fleet.file("stack.mrcs", FILE_BYTES);
    let text = fleet.dewar(&["precache", word(&file)]).ok().stdout;
    assert_eq!(text, "1 file, 4.8 MiB: 2 workers have all of it\n");
    // A copy is another file with the same chunks.
    let copy = fleet.file("copy.mrcs", FILE_BYTES);
    let text = fleet.dewar(&["precache", word(&copy)]).ok().stdout;
    assert_eq!(text, "1 file, 4.8 MiB: 2 workers have all of it\n");
    let nodes = [fleet.worker("node2"), fleet.worker("node3")];
    let fetched = nodes.iter().flat_map(|node| {
        ["fetched_from_broker_bytes", "fetched_from_peers_bytes"].map(|key| node[key].as_u64())
    });
    let fetched: u64 = fetched.map(Option::unwrap).sum();
    assert_eq!(fetched, FILE_BYTES, "{nodes:#?}");
}

#[test]
fn without_workers_there_is_code_1() {
    let fleet = Fleet::start();
    let file = fleet.file("stack.mrcs", 100);
    let none = ["no worker", "try: dewar workers"];
    fleet.dewar(&["precache", word(&file)]).fails(1, &none);
    let words = ["precache", word(&file), "--site", "moon"];
    fleet
        .dewar(&words)
        .fails(1, &["no worker of site \"moon\""]);
}

#[test]
fn ctrl_c_ends_it_with_code_1() {
    let mut fleet = Fleet::start();
    fleet.add_worker(2, "cache2", &[]);
    // It stays a worker of the broker's for a while, and fetches nothing.
    fleet.workers[0].signal(Signal::STOP).unwrap();
    let file = fleet.file("stack.mrcs", FILE_BYTES);
    let mut command = fleet.command(&["precache", word(&file)]);
    command.stderr(Stdio::piped());
    let mut process = Guarded::start("dewar precache", &mut command).unwrap();
    let is_imported = || Ok(fleet.job()["closed"] == true);
    wait_until("the file is imported", PATIENCE, is_imported).unwrap();
    process.signal(Signal::INT).unwrap();
    let stderr = process.child().stderr.take().unwrap();
    let told = std::io::read_to_string(stderr).unwrap();
    let code = process.child().wait().unwrap().code();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("error: interrupted"), "{told}");
    fleet.workers[0].signal(Signal::CONT).unwrap();
}

#[test]
fn a_particle_file_brings_its_stacks_and_workers_beside_the_broker_need_no_copy() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let words = ["simulate", "--particles", "4", "--box", "32"];
    let more = ["--pixel-size", "8", "--out", word(&set)];
    dewar(words.into_iter().chain(more)).ok();
    let (star, stack) = (set.join("particles.star"), set.join("particles.mrcs"));
    // It exports nothing, so that all is sent.
    let lab = Lab::start();
    let words = ["precache", word(&star), word(&stack)];
    let told = lab.dewar(&words).ok().stdout;
    assert!(
        told.starts_with("2 files, ") && told.contains("nothing to fetch for 1 worker"),
        "{told}"
    );
    let words = ["precache", word(&star), "--json"];
    let told = lab.dewar(&words).ok().json();
    let files = told["files"].as_array().unwrap().iter();
    let paths: Vec<_> = files
        .map(|file| PathBuf::from(file["path"].as_str().unwrap()))
        .collect();
    assert_eq!(
        paths,
        [star, stack].map(|path| path.canonicalize().unwrap())
    );
    assert_eq!(told["worker_count"], 0);
    // One that is no particle file is wrong.
    let notes = set.join("notes.star");
    fs::write(&notes, "no particles\n").unwrap();
    lab.dewar(&["precache", word(&notes)])
        .fails(2, &["notes.star"]);
}
