//! Several real processes on one folder, some of which are killed. Each is this test program again, told what to do.

use super::*;
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::AtomicBool,
};

/// What a process is told: its part, the folder, and which blob is its own.
const PART: &str = "DEWAR_CACHE_TEST_PART";
const FOLDER: &str = "DEWAR_CACHE_TEST_FOLDER";
const SEED: &str = "DEWAR_CACHE_TEST_SEED";

/// Of all these tests.
const LIMIT: u64 = 8 * CHUNK_BYTES;

/// A process that plays a part until it is dropped.
struct Player {
    child: Child,
    /// Its words, a line each.
    words: BufReader<ChildStdout>,
}

impl Player {
    fn start(part: &str, folder: &Path, seed: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cache::tests::processes::player"])
            .args(["--ignored", "--nocapture"])
            .env(PART, part)
            .env(FOLDER, folder)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let words = BufReader::new(child.stdout.take().unwrap());
        Self { child, words }
    }

    /// Waits until it says so.
    fn until(&mut self, word: &str) {
        let mut line = String::new();
        while self.words.read_line(&mut line).unwrap() > 0 {
            if line.contains(word) {
                return;
            }
            line.clear();
        }
        panic!("it ended before it said {word:?}");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // SIGKILL, unless it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A blob of so many chunks that is like no other of another seed.
fn blob(seed: usize, chunk_count: usize) -> Counting {
    let bytes = (0..chunk_count * MIB).map(|index| (index % 251 + index / MIB + 50 * seed) as u8);
    Counting {
        bytes: bytes.collect(),
        ..Default::default()
    }
}

#[test]
#[ignore = "started by the tests of this file"]
fn player() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let cache = ChunkCache::open(&folder, LIMIT).unwrap();
    match &*part {
        "fetch" => fetch_much(&cache, seed),
        "read" => read_for_ever(&cache, seed),
        _ => write_half(&cache, seed),
    }
}

/// Fetches twice what fits, two chunks at a time.
#[tokio::main(flavor = "current_thread")]
async fn fetch_much(cache: &ChunkCache, seed: usize) {
    let source = blob(seed, 16);
    let whole = source.list().blob();
    for first in (0..16).step_by(2) {
        let range = first * CHUNK_BYTES..(first + 2) * CHUNK_BYTES;
        let parts = cache.fetch(&source, whole, std::slice::from_ref(&range));
        let bytes: Vec<u8> = parts
            .await
            .unwrap()
            .iter()
            .flat_map(|(_, part)| part.to_vec())
            .collect();
        assert_eq!(
            bytes,
            source.bytes[range.start as usize..range.end as usize]
        );
    }
    println!("done");
}

#[tokio::main(flavor = "current_thread")]
async fn read_for_ever(cache: &ChunkCache, seed: usize) {
    let source = blob(seed, 3);
    let _parts = cache
        .fetch(&source, source.list().blob(), &[])
        .await
        .unwrap();
    println!("reads");
    std::future::pending().await
}

fn write_half(cache: &ChunkCache, seed: usize) {
    let source = blob(seed, 1);
    let chunk = source.list().chunk(0).unwrap();
    let Claimed::Ours(claim) = cache.shared.claim(&chunk).unwrap() else {
        panic!("nobody else fetches");
    };
    claim.write(&source.bytes.slice(..MIB / 2).into()).unwrap();
    println!("half");
    loop {
        std::thread::park();
    }
}

/// Bytes of all chunks, and of those on their way, while nobody changes the folder.
fn folder_bytes(cache: &ChunkCache) -> u64 {
    let folder = &cache.shared.folder;
    let counted = cache.shared.ledger.change(|_| {
        let fetching = fs::read_dir(folder.join("fetching"))?.map(|entry| entry.unwrap().path());
        let files = fetching.chain(chunk_files(folder));
        Ok(files
            .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
            .sum())
    });
    counted.unwrap()
}

#[test]
fn processes_together_never_take_more_than_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ChunkCache::open(folder.path(), LIMIT).unwrap();
    let is_over = AtomicBool::new(false);
    let most_bytes = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most_bytes = 0;
            while !is_over.load(Ordering::Relaxed) {
                most_bytes = folder_bytes(&cache).max(most_bytes);
            }
            most_bytes
        });
        let players = [1, 2, 3].map(|seed| Player::start("fetch", folder.path(), seed));
        for mut player in players {
            player.until("done");
        }
        is_over.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(most_bytes <= LIMIT, "{most_bytes} of {LIMIT}");
    assert!(most_bytes > LIMIT / 2, "{most_bytes}: nothing was seen");
    assert!(cache.eviction_count() > 0);
    let cache = ChunkCache::open(folder.path(), LIMIT).unwrap();
    assert_eq!(cache.size_bytes(), folder_bytes(&cache));
}

#[tokio::test(start_paused = true)]
async fn what_another_process_reads_stays_until_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut reader = Player::start("read", folder.path(), 1);
    reader.until("reads");
    let cache = ChunkCache::open(folder.path(), LIMIT).unwrap();
    let other = blob(2, 6);
    let fetch = || cache.fetch(&other, other.list().blob(), &[]);
    let error = fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::Full { .. }), "{error}");
    let read = blob(1, 3).list();
    let is_here = |index| {
        cache
            .shared
            .path(&read.chunk_digest(index).unwrap())
            .exists()
    };
    assert!((0..3).all(is_here));
    drop(reader);
    assert_eq!(fetch().await.unwrap().len(), 6);
    assert!(!(0..3).all(is_here));
}

#[tokio::test]
async fn what_a_killed_process_wrote_half_is_swept_or_taken_over() {
    for takes_over in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let cache = ChunkCache::open(folder.path(), LIMIT).unwrap();
        let mut writer = Player::start("half", folder.path(), 1);
        writer.until("half");
        let fetching = || {
            fs::read_dir(folder.path().join("fetching"))
                .unwrap()
                .count()
        };
        assert_eq!(cache.size_bytes(), CHUNK_BYTES, "room for all of it");
        // A living process keeps its claim, whoever counts.
        ChunkCache::open(folder.path(), LIMIT).unwrap();
        assert_eq!(fetching(), 1);
        drop(writer);
        if takes_over {
            let source = blob(1, 1);
            let parts = cache.fetch(&source, source.list().blob(), &[]).await;
            assert_eq!(joined(parts.unwrap()), source.bytes);
            assert_eq!(cache.size_bytes(), CHUNK_BYTES);
        } else {
            let cache = ChunkCache::open(folder.path(), LIMIT).unwrap();
            assert_eq!(cache.size_bytes(), 0);
        }
        assert_eq!(fetching(), 0);
    }
}
