//! Blobs over the wire: in, out, in place, and refused with a reason.

mod common;

use common::{JOB, connect, create, jobs, start};
use dewar_blobs::{BlobClient, BlobRef, ChunkCache, Digest, FileProgress, WriteError, hash_bytes};
use dewar_broker::{Broker, Config, Running};
use dewar_proto::v1::{
    ByteRange, ReadRequest, ReleaseRequest, WriteHeader, WriteRequest, blobs_client::BlobsClient,
    write_request::Part,
};
use std::{fs, path::Path, time::Duration};
use tonic::{Code, Status};

fn sample(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index % 251 + (index >> 20)) as u8)
        .collect()
}

async fn with_job(broker: &Running) -> BlobClient {
    jobs(broker).create(create()).await.unwrap();
    BlobClient::new(connect(broker))
}

fn refusal(error: WriteError) -> Status {
    match error {
        WriteError::Refused(status) => status,
        other => panic!("not refused, but {other}"),
    }
}

#[tokio::test]
async fn a_blob_goes_in_and_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = with_job(&broker).await;
    for size in [0, 1, 300_000, 1 << 20, 5_000_000] {
        let bytes = sample(size);
        let blob = client
            .write_bytes(bytes.clone().into(), Some(JOB))
            .await
            .unwrap();
        assert_eq!(blob, hash_bytes(&bytes).blob());
        assert_eq!(client.stat(&blob.digest).await.unwrap(), Some(size as u64));
        assert_eq!(client.read_blob(&blob).await.unwrap(), bytes);
        // Again is no error.
        client.write_bytes(bytes.into(), Some(JOB)).await.unwrap();
    }
    broker.shutdown().await.unwrap();

    let broker = start(folder.path()).await;
    let client = BlobClient::new(connect(&broker));
    let bytes = sample(5_000_000);
    let blob = hash_bytes(&bytes).blob();
    let cache_folder = tempfile::tempdir().unwrap();
    let cache = ChunkCache::open(cache_folder.path(), 1 << 30).unwrap();
    let parts = cache.fetch(&client, blob, &[]).await.unwrap();
    let joined: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
    assert_eq!(joined, bytes);
}

#[tokio::test]
async fn a_file_is_sent_with_progress() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = with_job(&broker).await;
    let path = folder.path().join("outside.mrcs");
    fs::write(&path, sample(3_000_000)).unwrap();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let blob = client
        .write_file(&path, Some(JOB), move |progress| {
            let _ = sender.send(progress);
        })
        .await
        .unwrap();
    let mut last = None;
    while let Some(progress) = told.recv().await {
        last = Some(progress);
    }
    assert_eq!(
        last,
        Some(FileProgress::Sent {
            done_bytes: 3_000_000,
            size_bytes: 3_000_000
        })
    );
    assert_eq!(client.read_blob(&blob).await.unwrap(), sample(3_000_000));
}

async fn start_with_export(data_dir: &Path, export: &Path) -> Running {
    let config = Config {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        exports: vec![export.to_owned()],
        ..Config::new(data_dir)
    };
    Broker::start(config).await.unwrap()
}

#[tokio::test]
async fn a_file_is_imported_in_place() {
    let (folder, export) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start_with_export(folder.path(), export.path()).await;
    let client = with_job(&broker).await;
    let path = export.path().join("stack.mrcs");
    let bytes = sample(2_500_000);
    fs::write(&path, &bytes).unwrap();
    let name = path.to_str().unwrap();
    let blob = client.import_file(name, Some(JOB), |_| ()).await.unwrap();
    assert_eq!(client.read_blob(&blob).await.unwrap(), bytes);

    fs::write(&path, b"another stack").unwrap();
    let error = client.read_blob(&blob).await.unwrap_err();
    assert!(!error.is_transient());
    let text = error.to_string();
    assert!(
        text.contains("stack.mrcs changed after it was imported"),
        "{text}"
    );

    // The bytes may still be sent, and count again from then on.
    client
        .write_bytes(bytes.clone().into(), Some(JOB))
        .await
        .unwrap();
    assert_eq!(client.read_blob(&blob).await.unwrap(), bytes);

    for (path, code) in [
        ("/etc/passwd", Code::FailedPrecondition),
        ("stack.mrcs", Code::InvalidArgument),
        ("", Code::InvalidArgument),
        ("/none/such", Code::NotFound),
        (export.path().to_str().unwrap(), Code::InvalidArgument),
    ] {
        let error = client
            .import_file(path, Some(JOB), |_| ())
            .await
            .unwrap_err();
        assert_eq!(refusal(error).code(), code, "{path}");
    }
}

#[tokio::test]
async fn released_blobs_go() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = with_job(&broker).await;
    let blob = client
        .write_bytes(sample(2_000_000).into(), Some(JOB))
        .await
        .unwrap();
    let release = ReleaseRequest {
        job_id: JOB.into(),
        digests: vec![blob.digest.0.to_vec()],
    };
    jobs(&broker).release(release).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while client.stat(&blob.digest).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let error = client.read_blob(&blob).await.unwrap_err();
    assert!(error.to_string().contains("has no blob"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    with_job(&broker).await;
    let client = BlobsClient::new(connect(&broker));
    let blob = hash_bytes(b"abc").blob();
    let header = |blob: BlobRef, job_id: &[u8]| {
        Part::Header(WriteHeader {
            blob: Some(blob.into()),
            job_id: job_id.to_vec(),
        })
    };
    let data = |bytes: &'static [u8]| Part::Data(bytes.into());
    let no_blob = Part::Header(WriteHeader::default());
    let huge = BlobRef {
        size_bytes: u64::MAX,
        ..blob
    };
    let cases = [
        (
            vec![],
            Code::InvalidArgument,
            "part: the first must be a header",
        ),
        (vec![data(b"abc")], Code::InvalidArgument, "part: the first"),
        (
            vec![no_blob],
            Code::InvalidArgument,
            "header.blob is missing",
        ),
        (
            vec![header(blob, &[1, 2])],
            Code::InvalidArgument,
            "header.job_id",
        ),
        (vec![header(blob, &[9; 16])], Code::NotFound, "no such job"),
        (
            vec![header(blob, &JOB)],
            Code::InvalidArgument,
            "but 0 came",
        ),
        (
            vec![header(blob, &JOB), data(b"abcd")],
            Code::InvalidArgument,
            "but 4 came",
        ),
        (
            vec![header(blob, &JOB), data(b"abd")],
            Code::InvalidArgument,
            "hash to",
        ),
        (
            vec![header(blob, &JOB), header(blob, &JOB)],
            Code::InvalidArgument,
            "only the first",
        ),
        (
            vec![header(huge, &JOB)],
            Code::ResourceExhausted,
            "disk is full",
        ),
    ];
    for (parts, code, text) in cases {
        let parts = parts
            .into_iter()
            .map(|part| WriteRequest { part: Some(part) });
        let parts = tokio_stream::iter(parts.collect::<Vec<_>>());
        let status = client.clone().write(parts).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }

    let read = |digest: Vec<u8>, range| {
        let mut client = client.clone();
        async move {
            client
                .read(ReadRequest { digest, range })
                .await
                .unwrap_err()
        }
    };
    let status = read(vec![1; 31], None).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("digest"), "{status}");
    let status = read(Digest([1; 32]).0.to_vec(), None).await;
    assert_eq!(status.code(), Code::NotFound);

    BlobClient::new(connect(&broker))
        .write_bytes(b"abc".as_slice().into(), Some(JOB))
        .await
        .unwrap();
    let range = ByteRange {
        offset_bytes: 2,
        length_bytes: u64::MAX,
    };
    let status = read(blob.digest.0.to_vec(), Some(range)).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("range"), "{status}");
}
