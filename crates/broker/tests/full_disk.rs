//! A disk that fills up under a broker: nothing new is taken, what runs comes to its end, and room brings all back.
//!
//! The disk is a small file system in memory, which only root may mount.

mod common;

use common::*;
use dewar_broker::{Broker, Config, DiskBounds, Running};
use dewar_proto::v1::{self, blobs_client::BlobsClient, broker_message, write_request::Part};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};
use tonic::{Code, Status};

const MIB: u64 = 1 << 20;

const BOUNDS: DiskBounds = DiskBounds {
    free_bytes_min: 16 * MIB,
    reserve_bytes: 6 * MIB,
};

/// A file system in memory, mounted while this lives.
struct SmallDisk {
    // Removed after the mount is gone.
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one, or says why that cannot be had here.
    fn mount() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount".into());
        }
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
            .arg(folder.path())
            .output()
            .map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(Self { folder }),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut options = fs::File::options();
        let file = options.append(true).create(true).open(self.filler());
        let mut file = file.unwrap();
        for size in [MIB as usize, 4096, 1] {
            let bytes = vec![7; size];
            while file.write_all(&bytes).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a broker that a failed test leaves behind may still have files open.
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.folder.path())
            .status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

async fn start_with_bounds(data_dir: &Path) -> Running {
    let config = Config {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        disk: BOUNDS,
        ..Config::new(data_dir)
    };
    Broker::start(config).await.unwrap()
}

async fn refusing_reason(broker: &Running) -> String {
    let status = admin(broker).status(v1::StatusRequest::default()).await;
    status.unwrap().into_inner().refusing_reason
}

/// Waits until the broker has noticed.
async fn wait_until_refusing(broker: &Running, refusing: bool) {
    let noticed = async {
        while refusing_reason(broker).await.is_empty() == refusing {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
}

async fn try_submit(broker: &Running, first_index: u64, count: usize) -> Result<u64, Status> {
    let tasks = vec![spec(Vec::new()); count];
    let request = tokio_stream::once(submit(first_index, tasks));
    let response = jobs(broker).submit(request).await?;
    Ok(response.into_inner().task_count)
}

async fn try_write(broker: &Running, job_id: &[u8], content: u8) -> Result<(), Status> {
    let bytes = vec![content; 100_000];
    let blob = v1::BlobRef {
        digest: blake3::hash(&bytes).as_bytes().to_vec(),
        size_bytes: bytes.len() as u64,
    };
    let header = v1::WriteHeader {
        blob: Some(blob),
        job_id: job_id.to_vec(),
    };
    let parts = [Part::Header(header), Part::Data(bytes.into())];
    let messages = parts.map(|part| v1::WriteRequest { part: Some(part) });
    let mut blobs = BlobsClient::new(connect(broker));
    blobs.write(tokio_stream::iter(messages)).await.map(drop)
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_keeps_what_runs() {
    const TASK_COUNT: usize = 40;
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let broker = start_with_bounds(&disk.data_dir()).await;
    let reserve = disk.data_dir().join("reserve");
    assert_eq!(fs::metadata(&reserve).unwrap().len(), BOUNDS.reserve_bytes);
    jobs(&broker).create(create()).await.unwrap();
    try_submit(&broker, 0, TASK_COUNT).await.unwrap();
    let mut worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    try_write(&broker, &JOB, 7).await.unwrap();
    assert_eq!(refusing_reason(&broker).await, "");

    disk.fill();
    wait_until_refusing(&broker, true).await;
    let refused = try_submit(&broker, TASK_COUNT as u64, 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let folder = disk.data_dir().display().to_string();
    for part in [&folder, "0.0 MiB free", "16.0 MiB"] {
        assert!(refused.message().contains(part), "{refused}");
    }
    assert_eq!(refusing_reason(&broker).await, refused.message());

    let refused = try_write(&broker, &JOB, 8).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // A worker keeps its output and comes again.
    let refused = try_write(&broker, b"", 8).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    // More than the disk has, but for what was set aside.
    let mut received = 0;
    while received < TASK_COUNT {
        match worker.hear().await {
            broker_message::Message::Assignments(given) => {
                for assignment in given.assignments {
                    worker.succeed(&assignment, vec![5; 60_000]).await;
                }
            }
            broker_message::Message::ReportReceived(_) => received += 1,
            other => panic!("heard {other:?}"),
        }
    }
    assert!(!reserve.exists());

    disk.make_room();
    wait_until_refusing(&broker, false).await;
    let count = try_submit(&broker, TASK_COUNT as u64, 1).await.unwrap();
    assert_eq!(count, TASK_COUNT as u64 + 1);
    assert!(reserve.exists());
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_disk_with_nothing_left_ends_the_broker_and_loses_nothing_acknowledged() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let mut daemon = Daemon::start(&disk.data_dir()).await;
    let mut jobs = daemon.client(&disk.data_dir());
    disk.fill();
    let mut acknowledged = Vec::new();
    for n in 0_u32.. {
        let mut job = create();
        job.job_id = blake3::hash(&n.to_le_bytes()).as_bytes()[..16].to_vec();
        job.name = "x".repeat(200);
        match jobs.create(job.clone()).await {
            Ok(_) => acknowledged.push(job.job_id),
            Err(_) => break,
        }
    }
    let status = tokio::time::timeout(PATIENCE, daemon.process.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(1));

    // It does not start either, and nobody is told to bring an old backup back.
    let _ = fs::remove_file(disk.data_dir().join("reserve"));
    disk.fill();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_dewar-broker"))
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(disk.data_dir())
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("free some space"), "{said}");
    assert!(!said.contains("backup"), "{said}");

    disk.make_room();
    let daemon = Daemon::start(&disk.data_dir()).await;
    let listed = daemon
        .client(&disk.data_dir())
        .list(v1::ListJobsRequest::default())
        .await;
    let listed: Vec<_> = listed
        .unwrap()
        .into_inner()
        .jobs
        .into_iter()
        .map(|job| job.job_id)
        .collect();
    assert!(acknowledged.iter().all(|id| listed.contains(id)));
    assert!((acknowledged.len()..=acknowledged.len() + 1).contains(&listed.len()));
}
