//! Blobs over the wire: in, out, in place, and refused with a reason.

#![allow(clippy::single_range_in_vec_init, reason = "one run is one run")]

mod common;

use common::{JOB, connect, create, jobs, start};
use dewar_blobs::{
    BlobClient, BlobRef, ChunkCache, Digest, FileProgress, LocalFile, NamedFile, WriteError,
    hash_bytes,
};
use dewar_broker::{Broker, Config, Running};
use dewar_proto::v1::{
    ByteRange, ChunkDigestsRequest, ChunkRun, ImportFileRequest, OfferRequest, ReadRequest,
    ReleaseRequest, WriteChunksRequest, WriteHeader, WriteRequest, blobs_client::BlobsClient,
    import_file_response::Step, write_chunks_request::Part as ChunkPart, write_request::Part,
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
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
    let tell = move |progress| {
        let _ = sender.send(progress);
    };
    let file = NamedFile::open(&path, tell.clone()).await.unwrap();
    let blob = client.send_whole(&file, Some(JOB), tell).await.unwrap();
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

    // It is another blob now.
    let other = client.import_file(name, Some(JOB), |_| ()).await.unwrap();
    assert_ne!(other, blob);
    assert_eq!(client.read_blob(&other).await.unwrap(), "another stack");

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

/// The steps of an import, to its end.
async fn steps_of(broker: &Running, path: &Path) -> Vec<Step> {
    let request = ImportFileRequest {
        path: path.to_str().unwrap().into(),
        job_id: JOB.into(),
    };
    let mut client = BlobsClient::new(connect(broker));
    let mut stream = client.import_file(request).await.unwrap().into_inner();
    let mut steps = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        steps.extend(message.step);
    }
    steps
}

#[tokio::test]
async fn an_imported_file_is_named_at_once_and_its_own_digest_follows() {
    let (folder, export) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start_with_export(folder.path(), export.path()).await;
    with_job(&broker).await;
    let path = export.path().join("stack.mrcs");
    let bytes = sample(5_500_000);
    fs::write(&path, &bytes).unwrap();
    let list = hash_bytes(&bytes);
    let by_name = LocalFile::look(&path).unwrap().reference();
    let check = |steps: Vec<Step>| {
        assert_eq!(steps[0], Step::Blob(by_name.into()));
        let own = list.blob().digest.0.to_vec();
        assert_eq!(steps[1..].last(), Some(&Step::Digest(own)));
    };
    check(steps_of(&broker, &path).await);
    broker.shutdown().await.unwrap();
    let broker = start_with_export(folder.path(), export.path()).await;
    check(steps_of(&broker, &path).await);

    let client = BlobClient::new(connect(&broker));
    let named = client.chunks(by_name, &[1..3, 5..6]).await.unwrap();
    assert!(named.by_reference);
    let expected = [1, 2, 5].map(|index| list.chunk_digest(index).unwrap());
    assert_eq!(named.chunks.len(), 3);
    for (chunk, digest) in named.chunks.iter().zip(expected) {
        assert_eq!(chunk.digest, digest);
        let sent = client.read_chunk(chunk).await.unwrap();
        let in_place = named.local.as_ref().unwrap().read_chunk(chunk).unwrap();
        assert!(sent.into_bytes() == in_place);
    }

    // A blob of the broker's own is read in place as well, and proven.
    let own = client
        .write_bytes(bytes.clone().into(), Some(JOB))
        .await
        .unwrap();
    let named = client.chunks(own, &[2..3]).await.unwrap();
    assert!(!named.by_reference);
    assert_eq!(named.chunks, [list.chunk(2).unwrap()]);
    let read = named.local.unwrap().read_chunk(&named.chunks[0]).unwrap();
    assert!(read == bytes[2 << 20..3 << 20]);

    let asked = ChunkDigestsRequest {
        digest: own.digest.0.to_vec(),
        runs: vec![ChunkRun {
            first_index: 5,
            count: 2,
        }],
    };
    let mut wire = BlobsClient::new(connect(&broker));
    let status = wire.chunk_digests(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("runs[0]"), "{status}");
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

/// A file outside, named.
async fn named_file(folder: &Path, bytes: &[u8]) -> NamedFile {
    let path = folder.join("upload.mrcs");
    fs::write(&path, bytes).unwrap();
    NamedFile::open(&path, |_| {}).await.unwrap()
}

#[tokio::test]
async fn a_file_is_sent_in_chunks_and_only_those_that_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let client = with_job(&broker).await;
    let mut bytes = sample(20 << 20);
    let sent = |file: NamedFile| {
        let client = client.clone();
        async move {
            let told = Arc::new(Mutex::new(Vec::new()));
            let hears = Arc::clone(&told);
            let progress = move |progress| hears.lock().unwrap().push(progress);
            let blob = client
                .send_chunks(&file, Some(JOB), progress)
                .await
                .unwrap();
            let told = std::mem::take(&mut *told.lock().unwrap());
            (blob, told.len() as u64 * (256 << 10))
        }
    };
    let (first, sent_bytes) = sent(named_file(folder.path(), &bytes).await).await;
    assert_eq!(sent_bytes, 20 << 20);
    assert!(client.read_blob(&first).await.unwrap() == bytes);
    let (again, sent_bytes) = sent(named_file(folder.path(), &bytes).await).await;
    assert_eq!((again, sent_bytes), (first, 0));
    for changed in [3, 17] {
        bytes[changed << 20] ^= 1;
    }
    let (second, sent_bytes) = sent(named_file(folder.path(), &bytes).await).await;
    assert_eq!(sent_bytes, 2 << 20, "a tenth");
    assert!(client.read_blob(&second).await.unwrap() == bytes);

    // Two at once.
    bytes[5] ^= 1;
    let file = named_file(folder.path(), &bytes).await;
    let (one, other) = tokio::join!(sent(file.clone()), sent(file));
    assert_eq!(one.0, other.0);
    assert!(client.read_blob(&one.0).await.unwrap() == bytes);
}

#[tokio::test]
async fn wrong_chunks_and_lists_are_refused_and_cost_nothing_that_was_right() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    with_job(&broker).await;
    let mut wire = BlobsClient::new(connect(&broker));
    let bytes = sample(9_000_000);
    let list = hash_bytes(&bytes);
    let offer = |digests: Vec<u8>| OfferRequest {
        blob: Some(list.blob().into()),
        chunk_digests: digests.into(),
        job_id: JOB.into(),
    };
    for wrong in [vec![], vec![0; list.digests().len()], vec![0; 31]] {
        let status = wire.offer(offer(wrong)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("chunk_digests"), "{status}");
    }
    let write = |parts: Vec<ChunkPart>| {
        let header = ChunkPart::Header(WriteHeader {
            blob: Some(list.blob().into()),
            job_id: JOB.into(),
        });
        let parts = std::iter::once(header).chain(parts);
        let messages = parts.map(|part| WriteChunksRequest { part: Some(part) });
        let messages = tokio_stream::iter(messages.collect::<Vec<_>>());
        let mut wire = wire.clone();
        async move { wire.write_chunks(messages).await }
    };
    let whole = |index: usize| bytes[index << 20..(index + 1) << 20].to_vec();
    let data = |bytes: Vec<u8>| ChunkPart::Data(bytes.into());
    let unknown = write(vec![ChunkPart::ChunkIndex(0), data(whole(0))]).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Aborted, "not offered");

    wire.clone()
        .offer(offer(list.digests().to_vec()))
        .await
        .unwrap();
    let mut corrupt = whole(4);
    corrupt[9] ^= 1;
    for (parts, text) in [
        (vec![data(whole(0))], "part: data must follow"),
        (vec![ChunkPart::ChunkIndex(9)], "chunk_index: is 9"),
        (
            vec![
                ChunkPart::ChunkIndex(1),
                data(vec![0; 5]),
                ChunkPart::ChunkIndex(2),
            ],
            "chunk_index: of chunk 1 only 5",
        ),
        (
            vec![ChunkPart::ChunkIndex(8), data(vec![0; 700_000])],
            "data: chunk 8 has",
        ),
        (
            vec![
                ChunkPart::ChunkIndex(3),
                data(whole(3)),
                ChunkPart::ChunkIndex(4),
                data(corrupt),
            ],
            "data: chunk 4 of blob",
        ),
    ] {
        let status = write(parts).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(text), "{status}");
    }
    let answer = wire.offer(offer(list.digests().to_vec())).await.unwrap();
    let missing = answer.into_inner().missing;
    let missing: Vec<_> = missing
        .iter()
        .map(|run| (run.first_index, run.count))
        .collect();
    assert_eq!(missing, [(0, 3), (4, 5)]);
}
