//! A disk that fills up under a broker: nothing new is taken, what runs comes to its end, and room brings all back.
//!
//! The disk is a small file system in memory, which only root may mount.

mod common;

use common::*;
use dewar_blobs::{BlobClient, FileProgress, NamedFile, WriteError};
use dewar_broker::{Broker, Config, DiskBounds, Running};
use dewar_proto::v1::{self, blobs_client::BlobsClient, broker_message, write_request::Part};
use dewar_testkit::SmallDisk;
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tonic::{Code, Status};

const MIB: u64 = 1 << 20;

const BOUNDS: DiskBounds = DiskBounds {
    free_bytes_min: 16 * MIB,
    reserve_bytes: 6 * MIB,
};

/// Bytes of the disk, in MiB.
const DISK_MIB: u32 = 48;

/// The disk, and the broker's folder on it.
struct Disk {
    disk: SmallDisk,
    // Removed after the mount is gone.
    _folder: tempfile::TempDir,
}

impl Disk {
    /// None, and why, where it cannot be had.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(folder.path(), DISK_MIB)
            .inspect_err(|reason| eprintln!("skipped: {reason}"));
        Some(Self {
            disk: disk.ok()?,
            _folder: folder,
        })
    }

    fn data_dir(&self) -> PathBuf {
        self.disk.path().join("data")
    }

    fn fill(&self) {
        self.disk.fill().unwrap();
    }

    fn make_room(&self) {
        self.disk.make_room().unwrap();
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
    let Some(disk) = Disk::mount() else {
        return;
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
async fn an_upload_that_fills_the_disk_is_refused_and_goes_on_when_there_is_room() {
    const SIZE: u64 = 20 * MIB;
    let Some(disk) = Disk::mount() else {
        return;
    };
    let broker = start_with_bounds(&disk.data_dir()).await;
    jobs(&broker).create(create()).await.unwrap();
    let client = BlobClient::new(connect(&broker));
    let (uploads, disk) = (disk.data_dir().join("blobs/uploads"), Arc::new(disk));
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at % 251 + at / MIB) as u8).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack");
    fs::write(&path, &bytes).unwrap();
    let file = NamedFile::open(&path, |_| ()).await.unwrap();

    // Others fill it half-way, when the broker has some of it.
    let filler = Arc::clone(&disk);
    let half_way = move |progress| {
        if matches!(progress, FileProgress::Sent { done_bytes, .. } if done_bytes == SIZE / 2) {
            while bytes_in(&uploads) < 4 * MIB {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            filler.fill();
        }
    };
    let refused = client.send_chunks(&file, Some(JOB), half_way).await;
    let WriteError::Refused(refused) = refused.unwrap_err() else {
        panic!("the broker has no room");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    disk.make_room();
    wait_until_refusing(&broker, false).await;
    let first = Arc::new(AtomicU64::new(SIZE));
    let seen = Arc::clone(&first);
    let progress = move |progress| {
        if let FileProgress::Sent { done_bytes, .. } = progress {
            seen.fetch_min(done_bytes, Ordering::Relaxed);
        }
    };
    let blob = client.send_chunks(&file, Some(JOB), progress).await;
    assert!(first.load(Ordering::Relaxed) > 4 * MIB, "it goes on");
    assert!(client.read_blob(&blob.unwrap()).await.unwrap() == bytes);
    broker.shutdown().await.unwrap();
}

/// Bytes that the files of a folder take of the disk.
fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).unwrap();
    let blocks = files.map(|file| file.unwrap().metadata().unwrap().blocks());
    blocks.sum::<u64>() * 512
}

#[tokio::test]
async fn a_disk_with_nothing_left_ends_the_broker_and_loses_nothing_acknowledged() {
    let Some(disk) = Disk::mount() else {
        return;
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
