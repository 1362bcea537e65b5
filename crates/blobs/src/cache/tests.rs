//! The cache on its own, and against a holder that miscounts, corrupts and hangs up.
//!
//! What several processes do to one folder is in `processes.rs`, what a disk that is full does in `full_disk.rs`.

mod full_disk;
mod processes;

use super::{claim::Claimed, fetch::ROOM_PAUSE, *};

use crate::{BlobClient, BlobRef, ChunkList, ListError, Pieces, ReadError, Source, hash_bytes};
use dewar_proto::{
    limits::CHUNK_BYTES,
    transport,
    v1::{
        self, ChunkDigestsRequest, ChunkDigestsResponse, ImportFileRequest, ImportFileResponse,
        ReadRequest, ReadResponse, StatRequest, StatResponse, WriteRequest,
        blobs_server::{Blobs, BlobsServer},
    },
};
use futures::{Stream, StreamExt as _, stream};
use std::{
    ops::Range,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

const MIB: usize = CHUNK_BYTES as usize;

/// Chunks that differ from one another.
fn sample(length: usize) -> Bytes {
    (0..length)
        .map(|index| (index % 251 + index / MIB) as u8)
        .collect()
}

/// A holder of one blob whose first reads go wrong.
struct Holder {
    bytes: Bytes,
    list: ChunkList,
    reads: AtomicU32,
    corrupt_reads: u32,
    broken_reads: u32,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Blobs for Holder {
    type ReadStream = Messages<ReadResponse>;
    type ImportFileStream = Messages<ImportFileResponse>;
    type ReadChunkStream = Messages<ReadResponse>;

    async fn stat(&self, _: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn chunk_digests(
        &self,
        _: Request<ChunkDigestsRequest>,
    ) -> Result<Response<ChunkDigestsResponse>, Status> {
        Ok(Response::new(ChunkDigestsResponse {
            size_bytes: self.list.blob().size_bytes,
            digests: self.list.digests().clone(),
            ..Default::default()
        }))
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let range = request.into_inner().range.unwrap_or_default();
        let start = range.offset_bytes as usize;
        let mut data = self.bytes.slice(start..start + range.length_bytes as usize);
        let read = self.reads.fetch_add(1, Ordering::SeqCst);
        let half = data.slice(..data.len() / 2);
        let messages = if read < self.corrupt_reads {
            let mut changed = data.to_vec();
            changed[7] ^= 1;
            data = changed.into();
            vec![Ok(ReadResponse { data })]
        } else if read < self.corrupt_reads + self.broken_reads {
            vec![
                Ok(ReadResponse { data: half }),
                Err(Status::unavailable("going away")),
            ]
        } else {
            vec![Ok(ReadResponse { data })]
        };
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<v1::BlobRef>, Status> {
        // Answers at once and reads nothing, as for a blob that is there already.
        drop(request);
        Ok(Response::new(self.list.blob().into()))
    }

    async fn import_file(
        &self,
        _: Request<ImportFileRequest>,
    ) -> Result<Response<Self::ImportFileStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn read_chunk(
        &self,
        _: Request<v1::ReadChunkRequest>,
    ) -> Result<Response<Self::ReadChunkStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn offer(
        &self,
        _: Request<v1::OfferRequest>,
    ) -> Result<Response<v1::OfferResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn write_chunks(
        &self,
        _: Request<Streaming<v1::WriteChunksRequest>>,
    ) -> Result<Response<v1::WriteChunksResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Keeps a chunk, as if it had been fetched.
fn put(cache: &ChunkCache, chunk: &Chunk, bytes: &[u8]) -> Bytes {
    match cache.shared.claim(chunk).unwrap() {
        Claimed::Ours(claim) => claim
            .keep(chunk, &Bytes::copy_from_slice(bytes).into())
            .unwrap()
            .unwrap(),
        Claimed::Others | Claimed::Kept => panic!("nobody else fetches"),
        Claimed::NoRoom(no_room) => panic!("{no_room:?}"),
    }
}

async fn serve(bytes: Bytes, corrupt_reads: u32, broken_reads: u32) -> (Arc<Holder>, BlobClient) {
    let holder = Arc::new(Holder {
        list: hash_bytes(&bytes),
        bytes,
        reads: AtomicU32::new(0),
        corrupt_reads,
        broken_reads,
    });
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = Server::builder().add_service(BlobsServer::from_arc(Arc::clone(&holder)));
    tokio::spawn(server.serve_with_incoming(incoming));
    let channel = transport::channel(&address.to_string(), "ada.secret".parse().unwrap()).unwrap();
    (holder, BlobClient::new(channel))
}

fn joined(parts: Vec<(u64, Bytes)>) -> Vec<u8> {
    let mut joined = Vec::new();
    for (offset, bytes) in parts {
        assert_eq!(offset, joined.len() as u64);
        joined.extend_from_slice(&bytes);
    }
    joined
}

fn chunk_files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder.join("chunks"))
        .unwrap()
        .flat_map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[tokio::test]
async fn what_was_fetched_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(3 * MIB + 17);
    let (holder, client) = serve(bytes.clone(), 0, 0).await;
    let blob = holder.list.blob();
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let parts = cache.fetch(&client, blob, &[]).await.unwrap();
    assert_eq!(joined(parts), bytes);
    assert_eq!(holder.reads.load(Ordering::SeqCst), 4);
    assert_eq!(cache.size_bytes(), bytes.len() as u64);

    // The same folder in another process, or after a restart.
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    assert_eq!(cache.size_bytes(), bytes.len() as u64);
    let parts = cache.fetch(&client, blob, &[]).await.unwrap();
    assert_eq!(joined(parts), bytes);
    assert_eq!(holder.reads.load(Ordering::SeqCst), 4);
}

#[tokio::test]
#[expect(clippy::single_range_in_vec_init, reason = "one range is one range")]
async fn only_what_covers_the_ranges_travels() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(4 * MIB);
    let (holder, client) = serve(bytes.clone(), 0, 0).await;
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let blob = holder.list.blob();
    let mib = CHUNK_BYTES;
    let parts = cache
        .fetch(&client, blob, &[2 * mib - 1..2 * mib + 1])
        .await
        .unwrap();
    assert_eq!(
        parts,
        [
            (mib, bytes.slice(MIB..2 * MIB)),
            (2 * mib, bytes.slice(2 * MIB..3 * MIB))
        ]
    );
    assert_eq!(holder.reads.load(Ordering::SeqCst), 2);
    let outside = cache.fetch(&client, blob, &[0..4 * mib + 1]).await;
    assert!(!outside.unwrap_err().is_transient());
}

#[tokio::test]
async fn an_absurd_size_is_refused_by_its_list() {
    let folder = tempfile::tempdir().unwrap();
    let (holder, client) = serve(sample(2 * MIB), 0, 0).await;
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let blob = BlobRef {
        size_bytes: u64::MAX,
        ..holder.list.blob()
    };
    assert!(cache.fetch(&client, blob, &[]).await.is_err());
}

#[tokio::test]
async fn slots_that_want_the_same_chunk_fetch_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(2 * MIB);
    let (holder, client) = serve(bytes.clone(), 0, 0).await;
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let blob = holder.list.blob();
    let fetches = (0..8).map(|_| cache.fetch(&client, blob, &[]));
    for parts in futures::future::join_all(fetches).await {
        assert_eq!(joined(parts.unwrap()), bytes);
    }
    assert_eq!(holder.reads.load(Ordering::SeqCst), 2);
    assert!(locked(&cache.shared.fetching).is_empty());
}

#[tokio::test]
async fn corrupt_and_broken_reads_may_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(1000);
    let (holder, client) = serve(bytes.clone(), 2, 2).await;
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let blob = holder.list.blob();
    for _ in 0..4 {
        let error = cache.fetch(&client, blob, &[]).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    let parts = cache.fetch(&client, blob, &[]).await.unwrap();
    assert_eq!(joined(parts), bytes);
}

/// A source that counts what it gives, each chunk after a while.
#[derive(Default)]
struct Counting {
    bytes: Bytes,
    given: Mutex<Vec<u64>>,
}

impl Counting {
    fn list(&self) -> ChunkList {
        hash_bytes(&self.bytes)
    }
}

impl Source for Counting {
    async fn chunks(&self, _: BlobRef, runs: &[Range<u64>]) -> Result<Vec<Chunk>, ListError> {
        let list = self.list();
        let indices = runs.iter().cloned().flatten();
        Ok(indices.filter_map(|index| list.chunk(index)).collect())
    }

    async fn in_place(&self, _: &Chunk) -> Option<Bytes> {
        None
    }

    async fn fetch(&self, chunk: &Chunk) -> Result<Pieces, ReadError> {
        locked(&self.given).push(chunk.index);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let range = chunk.range();
        let bytes = self.bytes.slice(range.start as usize..range.end as usize);
        Ok(bytes.into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_of_one_folder_fetch_and_store_each_chunk_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = Counting {
        bytes: sample(6 * MIB + 5),
        ..Default::default()
    };
    let blob = source.list().blob();
    // Each stands for a process: they share nothing but the folder.
    let open = |_| ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let caches: Vec<_> = (0..4).map(open).collect();
    let fetches = caches.iter().map(|cache| cache.fetch(&source, blob, &[]));
    for parts in futures::future::join_all(fetches).await {
        assert_eq!(joined(parts.unwrap()), source.bytes);
    }
    let mut given = locked(&source.given).clone();
    given.sort_unstable();
    assert_eq!(given, (0..7).collect::<Vec<_>>());
    assert_eq!(chunk_files(folder.path()).len(), 7);
    assert_eq!(
        fs::read_dir(folder.path().join("fetching"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_is_given_up_leaves_the_chunk_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let source = Counting {
        bytes: sample(MIB),
        ..Default::default()
    };
    let blob = source.list().blob();
    let first = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let second = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(5), first.fetch(&source, blob, &[]));
    assert!(given_up.await.is_err());
    let parts = second.fetch(&source, blob, &[]).await.unwrap();
    assert_eq!(joined(parts), source.bytes);
}

#[tokio::test]
async fn what_is_held_is_told_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = Counting {
        bytes: sample(5 * MIB),
        ..Default::default()
    };
    let blob = source.list().blob();
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let mut kept = cache.listen();
    let part = MIB as u64 + 1..3 * MIB as u64;
    cache
        .fetch(&source, blob, std::slice::from_ref(&part))
        .await
        .unwrap();
    let mut told = vec![
        kept.try_recv().unwrap().index,
        kept.try_recv().unwrap().index,
    ];
    told.sort_unstable();
    assert_eq!(told, [1, 2]);
    assert!(kept.try_recv().is_err());

    let again = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let held: ChunkSet = [1, 2].into_iter().collect();
    assert_eq!(again.holdings().unwrap(), [(blob, held)]);
    let digest = source.list().chunk_digest(2).unwrap();
    assert_eq!(
        again.open_chunk(&digest).unwrap().unwrap(),
        source.bytes[2 * MIB..3 * MIB]
    );

    for file in chunk_files(folder.path()) {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(again.holdings().unwrap(), []);
    assert_eq!(
        fs::read_dir(folder.path().join("lists")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn a_chunk_that_stays_corrupt_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (holder, client) = serve(sample(1000), u32::MAX, 0).await;
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let error = cache
        .fetch(&client, holder.list.blob(), &[])
        .await
        .unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().ends_with("is corrupt"), "{error}");
    assert_eq!(chunk_files(folder.path()), [] as [PathBuf; 0]);
}

#[test]
fn damaged_chunks_are_dropped() {
    let bytes = sample(2 * MIB);
    let list = hash_bytes(&bytes);
    let first = list.chunk(0).unwrap();
    let mut changed = bytes[..MIB].to_vec();
    changed[MIB - 1] ^= 1;
    // As a power cut leaves it: named, but not all there. And as a bad disk does.
    for broken in [&bytes[..1000], &changed, &[]] {
        let folder = tempfile::tempdir().unwrap();
        let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
        put(&cache, &first, &bytes[..MIB]);
        let path = chunk_files(folder.path()).remove(0);
        fs::write(&path, broken).unwrap();
        cache.holdings().unwrap();
        let for_peers = cache.open_chunk(&first.digest).unwrap();
        assert_eq!(for_peers, None, "{} bytes", broken.len());
        assert!(!path.exists());
        assert_eq!(cache.get(&first).unwrap(), None);
        put(&cache, &first, &bytes[..MIB]);
        assert_eq!(cache.get(&first).unwrap().unwrap(), bytes[..MIB]);
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_no_folder_without_the_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ChunkCache::open(folder.path(), CACHE_BYTES_DEFAULT).unwrap();
    let bytes = sample(1000);
    let chunk = hash_bytes(&bytes).chunk(0).unwrap();
    assert_eq!(cache.get(&chunk).unwrap(), None);
    // What a process gets that may open nothing more cannot be had by itself alone; a link to itself is as unreadable.
    let path = cache.shared.path(&chunk.digest);
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(cache.get(&chunk).is_err());
    assert!(cache.open_chunk(&chunk.digest).is_err());
}

#[test]
fn the_longest_unused_go_first_and_those_in_use_stay() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 10 * CHUNK_BYTES;
    let cache = ChunkCache::open(folder.path(), limit).unwrap();
    let bytes = sample(12 * MIB);
    let list = hash_bytes(&bytes);
    let part = |index: usize| &bytes[index * MIB..(index + 1) * MIB];
    let chunk = |index: usize| list.chunk(index as u64).unwrap();
    let is_here = |index| cache.shared.path(&chunk(index).digest).exists();
    let old = SystemTime::now() - Duration::from_secs(7200);
    for index in 0..10 {
        put(&cache, &chunk(index), part(index));
        let path = cache.shared.path(&chunk(index).digest);
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(old + Duration::from_secs(index as u64))
            .unwrap();
    }
    assert_eq!(cache.eviction_count(), 0);
    // Chunk 0 was used just now, and is not any more; chunk 1 is in use, by another process for all it matters.
    drop(cache.get(&chunk(0)).unwrap().unwrap());
    let other = ChunkCache::open(folder.path(), limit).unwrap();
    let reader = other.get(&chunk(1)).unwrap().unwrap();
    let file = File::options()
        .write(true)
        .open(cache.shared.path(&chunk(1).digest));
    file.unwrap().set_modified(old).unwrap();
    put(&cache, &chunk(10), part(10));
    assert_eq!(cache.size_bytes(), limit);
    assert!(is_here(0) && is_here(1) && !is_here(2) && is_here(3) && is_here(10));
    assert_eq!(cache.eviction_count(), 1);
    drop(reader);
    put(&cache, &chunk(11), part(11));
    assert!(!is_here(1) && is_here(3));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_fails_with_the_reason_and_waits_for_room_if_it_would() {
    let folder = tempfile::tempdir().unwrap();
    let source = Counting {
        bytes: sample(6 * MIB),
        ..Default::default()
    };
    let blob = source.list().blob();
    let cache = ChunkCache::open(folder.path(), 4 * CHUNK_BYTES).unwrap();
    let fetch = async |range: Range<u64>| {
        let range = range.start * CHUNK_BYTES..range.end * CHUNK_BYTES;
        cache.fetch(&source, blob, &[range]).await
    };
    let error = fetch(0..6).await.unwrap_err();
    assert!(!error.is_transient());
    let FetchError::Full {
        folder: named,
        need_bytes,
        room_bytes,
        limit,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(named, folder.path());
    assert_eq!(*need_bytes, 6 * CHUNK_BYTES);
    assert_eq!(*room_bytes, 0);
    assert_eq!(*limit, Limit::CacheSize(4 * CHUNK_BYTES));

    // One task has three chunks, another needs two: it waits, first in vain.
    let three = fetch(0..3).await.unwrap();
    let error = fetch(4..6).await.unwrap_err();
    assert!(matches!(error, FetchError::Full { .. }), "{error}");
    let (two, ()) = tokio::join!(fetch(4..6), async {
        tokio::time::sleep(ROOM_PAUSE * 3).await;
        drop(three);
    });
    assert_eq!(two.unwrap().len(), 2);
    assert!(cache.size_bytes() <= 4 * CHUNK_BYTES);
}

#[tokio::test]
async fn a_write_may_be_answered_before_it_was_sent() {
    let bytes = sample(40 * MIB);
    let (holder, client) = serve(bytes.clone(), 0, 0).await;
    let blob = client.write_bytes(bytes, None).await.unwrap();
    assert_eq!(blob, holder.list.blob());
}

#[tokio::test]
async fn a_whole_blob_is_checked() {
    let bytes = sample(2 * MIB + 3);
    let (holder, client) = serve(bytes.clone(), 1, 0).await;
    let blob = holder.list.blob();
    assert!(client.read_blob(&blob).await.unwrap_err().is_transient());
    assert_eq!(client.read_blob(&blob).await.unwrap(), bytes);
}
