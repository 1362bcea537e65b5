//! `dewar doctor` against broken set-ups: each must be named, with what to do.

use crate::{
    dewar::{Ran, command, ran, word},
    lab::Lab,
};
use dewar_blobs::hash_bytes;
use dewar_proto::v1::{
    self,
    admin_server::{Admin, AdminServer},
};
use dewar_testkit::{
    Broker, BrokerOptions, Guarded, Programs, SmallDisk, WorkerOptions, wait_until,
};
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

/// Long enough for a worker built without optimization to try out its machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a doctor said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    checks: Vec<Value>,
}

impl Said {
    fn of(ran: &Ran) -> Self {
        let json = ran.json();
        let checks = json["checks"].as_array().unwrap().clone();
        let failed = checks.iter().any(|check| check["verdict"] == "failed");
        assert_eq!(json["healthy"], !failed);
        assert_eq!(ran.code, Some(i32::from(failed)), "{ran:?}");
        Self {
            code: ran.code,
            checks,
        }
    }

    #[track_caller]
    fn check(&self, name: &str) -> &Value {
        let mut found = self.checks.iter().filter(|check| check["check"] == name);
        found
            .next()
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// A check came out so; what came and the cure hold these words.
    #[track_caller]
    fn names(&self, name: &str, verdict: &str, came: &str, cure: &str) {
        let check = self.check(name);
        assert_eq!(check["verdict"], verdict, "{check}");
        assert!(
            check["came"].as_str().unwrap().contains(came),
            "no {came:?} in {check}"
        );
        let told = check["cure"].as_str().unwrap_or_default();
        assert!(told.contains(cure), "no {cure:?} in {check}");
    }

    /// Measured by time, which says little where many tests run.
    #[track_caller]
    fn passed(&self, names: &[&str]) {
        for name in names {
            let verdict = &self.check(name)["verdict"];
            assert!(verdict == "ok" || verdict == "warning", "{self:?}");
        }
    }

    #[track_caller]
    fn all(&self, verdict: &str, names: &[&str]) {
        for name in names {
            assert_eq!(self.check(name)["verdict"], verdict, "{self:?}");
        }
    }
}

/// A doctor, away from the caller's settings, with a cache folder of its own.
fn doctor(broker: &str, token: Option<&str>, words: &[&str]) -> Said {
    let cache = tempfile::tempdir().unwrap();
    doctor_at(cache.path(), broker, token, words)
}

fn doctor_at(cache: &Path, broker: &str, token: Option<&str>, words: &[&str]) -> Said {
    let mut command = command();
    command.args([
        "doctor",
        "--json",
        "--broker",
        broker,
        "--cache-dir",
        word(cache),
    ]);
    command.args(words);
    if let Some(token) = token {
        command.env("DEWAR_TOKEN", token);
    }
    Said::of(&ran(&mut command))
}

#[test]
fn a_wrong_name_is_named_and_what_needs_it_is_skipped() {
    let said = doctor("nowhere.invalid:9990", Some("me.secret"), &[]);
    said.names(
        "name",
        "failed",
        "",
        "check the spelling of nowhere.invalid",
    );
    let without = [
        "port",
        "broker",
        "access",
        "protocol",
        "clock",
        "workers",
        "kinds",
        "peers",
        "bandwidth",
        "task",
    ];
    said.all("skipped", &without);
    // What does not depend on it goes on.
    said.all("ok", &["token", "cache-folder"]);
    doctor("titan", Some("me.secret"), &[]).names("name", "failed", "not HOST:PORT", "titan:9990");
}

#[test]
fn a_closed_port_is_named() {
    // One that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let said = doctor(&address, Some("me.secret"), &[]);
    said.names("port", "failed", "refused", "start dewar-broker");
    said.all("skipped", &["broker", "access", "task"]);
}

#[test]
fn something_else_at_the_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            open.push(stream);
        }
    });
    let said = doctor(&address, Some("me.secret"), &[]);
    said.all("ok", &["name", "port"]);
    said.names(
        "broker",
        "failed",
        "SSH-2.0-OpenSSH",
        "another program listens",
    );
    said.all("skipped", &["access", "protocol", "workers"]);
}

/// A broker of another make, which answers for its status alone.
struct Odd {
    status: v1::StatusResponse,
}

#[tonic::async_trait]
impl Admin for Odd {
    type PrecacheStream = ReceiverStream<Result<v1::PrecacheResponse, Status>>;

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(self.status.clone()))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        Ok(Response::new(v1::ListWorkersResponse::default()))
    }

    async fn drain(
        &self,
        _: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn precache(
        &self,
        _: Request<v1::PrecacheRequest>,
    ) -> Result<Response<Self::PrecacheStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Serves until the runtime is dropped, and says where.
fn serve(status: v1::StatusResponse) -> (Runtime, String) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder().add_service(AdminServer::new(Odd { status }));
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (runtime, address)
}

#[test]
fn another_protocol_is_named() {
    let status = v1::StatusResponse {
        protocol: Some(v1::ProtocolVersion { major: 9, minor: 0 }),
        ..Default::default()
    };
    let (_runtime, address) = serve(status);
    let said = doctor(&address, Some("me.secret"), &[]);
    said.all("ok", &["broker", "access"]);
    said.names("protocol", "failed", "9.0", "install the same release");
    said.all("skipped", &["clock", "workers", "task"]);
}

#[test]
fn a_skewed_clock_and_an_older_broker_are_named() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ahead = now + Duration::from_secs(3600);
    let status = |minor, now_unix_ms| v1::StatusResponse {
        protocol: Some(v1::ProtocolVersion { major: 1, minor }),
        now_unix_ms,
        ..Default::default()
    };
    let (_runtime, address) = serve(status(5, ahead.as_millis() as u64));
    let said = doctor(&address, Some("me.secret"), &[]);
    said.names("clock", "warning", "ahead", "timedatectl set-ntp true");
    // One that tells no time yet.
    let (_runtime, address) = serve(status(3, 0));
    let said = doctor(&address, Some("me.secret"), &[]);
    said.names(
        "protocol",
        "warning",
        "1.3 there",
        "install this release there",
    );
    said.all("skipped", &["clock"]);
}

#[test]
fn a_broker_on_a_full_disk_is_named() {
    let status = v1::StatusResponse {
        protocol: Some(v1::ProtocolVersion { major: 1, minor: 5 }),
        host_name: "titan".into(),
        data_dir: "/var/lib/dewar".into(),
        free_bytes: 1,
        refusing_reason: "the disk is full".into(),
        ..Default::default()
    };
    let (_runtime, address) = serve(status);
    let said = doctor(&address, Some("me.secret"), &[]);
    said.names(
        "broker-disk",
        "failed",
        "the disk is full",
        "make room on titan",
    );
}

/// A real broker, and its folder.
struct Site {
    broker: Broker,
    token: String,
    folder: TempDir,
}

impl Site {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = BrokerOptions {
            data_dir: folder.path().join("broker"),
            exports: Vec::new(),
            listen: "127.0.0.1:0".to_owned(),
        };
        let broker = Programs::beside_test()
            .unwrap()
            .start_broker(&options)
            .unwrap();
        let token = fs::read_to_string(&broker.token_file).unwrap();
        Self {
            broker,
            token: token.trim().to_owned(),
            folder,
        }
    }

    /// Starts a worker, and waits until the broker says so of it.
    fn start_worker(&self, flags: &[&str], is_so: impl Fn(&Value) -> bool) -> Guarded {
        let options = WorkerOptions {
            name: "w1".to_owned(),
            slot_count: 1,
            cache_dir: self.folder.path().join("cache"),
        };
        let programs = Programs::beside_test().unwrap().with_flags(flags);
        let worker = programs.start_worker(&self.broker, &options).unwrap();
        wait_until("the worker is as it should be", PATIENCE, || {
            let mut command = command();
            command
                .args(["workers", "--json"])
                .args(self.broker.flags());
            let workers = ran(&mut command).ok().json();
            Ok(workers["workers"].as_array().unwrap().iter().any(&is_so))
        })
        .unwrap();
        worker
    }

    fn doctor(&self, words: &[&str]) -> Said {
        // The machines of tests may be very busy.
        let words = [words, &["--patience", "120s"]].concat();
        doctor(&self.broker.address, Some(&self.token), &words)
    }
}

#[test]
fn a_broker_without_workers_and_wrong_tokens_are_named() {
    let site = Site::start();
    let said = site.doctor(&[]);
    said.names("workers", "failed", "none", "start dewar-worker");
    said.all("skipped", &["kinds", "peers", "task"]);
    said.all("ok", &["broker", "access", "protocol", "clock"]);
    said.passed(&["round-trip", "bandwidth"]);

    let said = doctor(&site.broker.address, Some("me.wrong"), &[]);
    said.all("ok", &["port", "token", "broker"]);
    said.names(
        "access",
        "failed",
        "not this broker's",
        "copy the file `token`",
    );
    said.all("skipped", &["protocol", "workers"]);

    let said = doctor(&site.broker.address, None, &[]);
    said.names("token", "failed", "no token", "--token-file");
    said.all("ok", &["broker"]);
    said.all("skipped", &["access"]);
}

#[test]
fn all_is_well_where_all_is_well_and_a_kind_that_nobody_serves_is_named() {
    let site = Site::start();
    let _worker = site.start_worker(&[], |worker| !worker["data_address"].is_null());
    let said = site.doctor(&[]);
    let sound = [
        "token",
        "name",
        "port",
        "broker",
        "access",
        "protocol",
        "clock",
        "broker-disk",
        "workers",
        "kinds",
        "peers",
        "task",
        "cache-folder",
        "cache-health",
    ];
    said.all("ok", &sound);
    said.passed(&["round-trip", "bandwidth", "cache-speed"]);
    assert!(
        said.check("task")["came"]
            .as_str()
            .unwrap()
            .contains("done by w1"),
        "{said:?}"
    );
    // Nothing is left to wait or to run.
    let mut jobs = command();
    jobs.args(["jobs", "--unfinished"])
        .args(site.broker.flags());
    assert_eq!(ran(&mut jobs).ok().stdout, "no jobs\n");

    let said = site.doctor(&["--kind", "em.align/999"]);
    said.names(
        "kinds",
        "failed",
        "none serves em.align/999",
        "start a dewar-worker that has it",
    );
    assert_eq!(said.code, Some(1));
}

#[test]
fn a_worker_that_cannot_be_dialled_back_is_named() {
    let site = Site::start();
    // What an address translator does: others are told of a port that leads nowhere.
    let flags = ["--advertise", "127.0.0.1:1"];
    let _worker = site.start_worker(&flags, |worker| !worker["unreached_reason"].is_null());
    let said = site.doctor(&[]);
    said.names(
        "peers",
        "warning",
        "w1 at 127.0.0.1:1",
        "--advertise HOST:PORT",
    );
    said.all("ok", &["workers", "task"]);
}

#[test]
fn workers_that_know_none_of_our_kinds_are_named_and_cost_no_wait() {
    let lab = Lab::start();
    let said = doctor(lab.address(), Some(lab.token()), &[]);
    said.names(
        "kinds",
        "failed",
        "they serve test.hold/1",
        "start a dewar-worker",
    );
    said.names("task", "skipped", "older release", "");
}

/// A disk of 16 MiB; none, with a message, where it cannot be had.
fn small_disk(folder: &TempDir) -> Option<SmallDisk> {
    match SmallDisk::mount(folder.path(), 16) {
        Ok(disk) => Some(disk),
        Err(error) => {
            eprintln!("skipped: no small disk: {error}");
            None
        }
    }
}

#[test]
fn tiny_full_and_read_only_disks_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = small_disk(&folder) else {
        return;
    };
    let nowhere = "127.0.0.1:1";
    let look = || doctor_at(disk.path(), nowhere, Some("me.secret"), &[]);
    let said = look();
    said.all("ok", &["cache-folder", "cache-health"]);
    said.names("cache-space", "failed", "MiB free", "--cache-dir");
    disk.fill().unwrap();
    let said = look();
    said.names(
        "cache-folder",
        "failed",
        "No space left",
        "make room on the disk",
    );
    said.all("skipped", &["cache-space", "cache-speed", "cache-health"]);
    disk.make_room().unwrap();
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(disk.path())
        .status();
    assert!(remounted.unwrap().success());
    look().names("cache-folder", "failed", "Read-only", "mounted read-only");
}

#[test]
fn a_broken_cache_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let blob = hash_bytes(b"as it was").blob();
    let name = blob.digest.to_string();
    let shelf = cache.path().join("chunks").join(&name[..2]);
    fs::create_dir_all(&shelf).unwrap();
    fs::create_dir_all(cache.path().join("lists")).unwrap();
    let list = cache
        .path()
        .join("lists")
        .join(format!("{name}-{}", blob.size_bytes));
    fs::write(list, blob.digest.0).unwrap();
    let look = || doctor_at(cache.path(), "127.0.0.1:1", Some("me.secret"), &[]);
    fs::write(shelf.join(&name), b"as it was").unwrap();
    look().names("cache-health", "ok", "1 of 1 read, all sound", "");
    fs::write(shelf.join(&name), b"as it isn").unwrap();
    look().names(
        "cache-health",
        "failed",
        "1 of 1 read are broken",
        "smartctl",
    );
}

#[test]
fn people_read_a_line_for_each_check_and_its_cure_below() {
    let mut command = command();
    let cache = tempfile::tempdir().unwrap();
    command
        .args([
            "doctor",
            "--broker",
            "127.0.0.1:1",
            "--cache-dir",
            word(cache.path()),
        ])
        .env("DEWAR_TOKEN", "me.secret");
    let said = ran(&mut command).fails(1, &["checks failed", "cure"]);
    let mut lines = said
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("failed   port "));
    assert!(
        lines.next().unwrap().contains("connect to 127.0.0.1:1: "),
        "{said:?}"
    );
    assert!(
        lines
            .next()
            .unwrap()
            .contains(" cure: the machine is there"),
        "{said:?}"
    );
    assert!(said.stdout.contains("\nskipped  broker "), "{said:?}");
}
