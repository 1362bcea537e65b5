//! A folder on a disk that others fill.

use super::{super::claim::Claim, *};
use dewar_testkit::SmallDisk;

/// Of the disk. The cache may take more than there is.
const DISK_MIB: u32 = 12;

/// A cache on a disk of its own.
struct Full {
    cache: ChunkCache,
    disk: SmallDisk,
    // Removed after the mount is gone.
    _folder: tempfile::TempDir,
}

impl Full {
    /// None, and why, where there is no such disk to be had.
    fn open() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(folder.path(), DISK_MIB)
            .inspect_err(|reason| eprintln!("skipped: {reason}"))
            .ok()?;
        let cache = ChunkCache::open(&disk.path().join("cache"), CACHE_BYTES_DEFAULT).unwrap();
        Some(Self {
            cache,
            disk,
            _folder: folder,
        })
    }

    /// The right to fetch a blob's only chunk.
    fn claim(&self, source: &Counting) -> Claim {
        match self.cache.shared.claim(&source.list().chunk(0).unwrap()) {
            Ok(Claimed::Ours(claim)) => claim,
            _ => panic!("nobody else fetches, and there is room"),
        }
    }

    fn kept(&self) -> usize {
        chunk_files(&self.cache.shared.folder).len()
    }
}

fn blob(seed: u8, chunk_count: usize) -> Counting {
    let bytes = (0..chunk_count * MIB).map(|index| (index % 251 + index / MIB) as u8 ^ seed);
    Counting {
        bytes: bytes.collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_is_not_in_use_makes_room_for_what_is_wanted() {
    let Some(full) = Full::open() else {
        return;
    };
    let (old, new) = (blob(0, 6), blob(1, 3));
    let fetch = |source| full.cache.fetch(source, Counting::list(source).blob(), &[]);
    fetch(&old).await.unwrap();
    full.disk.fill().unwrap();
    assert_eq!(joined(fetch(&new).await.unwrap()), new.bytes);
    assert!((3..9).contains(&full.kept()), "{} chunks", full.kept());
    assert!(full.cache.eviction_count() > 0);
    assert_eq!(full.cache.size_bytes(), full.kept() as u64 * CHUNK_BYTES);
    // What was dropped is fetched again, and what it takes the place of goes. All of the old may need more than there is.
    let part = blob(0, 3);
    assert_eq!(joined(fetch(&part).await.unwrap()), part.bytes);
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_remove_a_fetch_fails_with_the_reason_and_room_mends_it() {
    let Some(full) = Full::open() else {
        return;
    };
    let (used, wanted) = (blob(0, 3), blob(1, 2));
    let fetch = |source| full.cache.fetch(source, Counting::list(source).blob(), &[]);
    let in_use = fetch(&used).await.unwrap();
    full.disk.fill().unwrap();
    let error = fetch(&wanted).await.unwrap_err();
    let FetchError::Full {
        limit, need_bytes, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*limit, *need_bytes), (Limit::Disk, 2 * CHUNK_BYTES));
    let folder = full.cache.shared.folder.display().to_string();
    assert!(error.to_string().contains(&folder), "{error}");
    assert!(!error.is_transient(), "another worker may have room");
    assert_eq!(locked(&wanted.given).len(), 0, "fetched for nothing");
    assert_eq!(joined(in_use), used.bytes, "what is read stays");
    full.disk.make_room().unwrap();
    assert_eq!(joined(fetch(&wanted).await.unwrap()), wanted.bytes);
}

#[tokio::test]
async fn a_disk_that_fills_up_while_a_chunk_is_on_its_way_is_found_when_it_is_written() {
    let Some(full) = Full::open() else {
        return;
    };
    let (old, first, second) = (blob(0, 2), blob(1, 1), blob(2, 1));
    let cache = &full.cache;
    cache.fetch(&old, old.list().blob(), &[]).await.unwrap();
    let claimed = full.claim(&first);
    full.disk.fill().unwrap();
    let kept = claimed.keep(&first.list().chunk(0).unwrap(), &first.bytes.clone().into());
    let kept = kept.unwrap().unwrap();
    assert_eq!(kept, first.bytes);
    assert_eq!(full.kept(), 2, "one of the old made room");

    full.disk.make_room().unwrap();
    let claimed = full.claim(&second);
    let in_use = [0, 1].map(|index| cache.get(&old.list().chunk(index).unwrap()).unwrap());
    full.disk.fill().unwrap();
    let chunk = second.list().chunk(0).unwrap();
    let no_room = claimed
        .keep(&chunk, &second.bytes.clone().into())
        .unwrap()
        .unwrap_err();
    assert_eq!(no_room.limit, Limit::Disk);
    assert_eq!(cache.get(&chunk).unwrap(), None);
    assert_eq!(full.kept(), 2);
    drop((kept, in_use));
}
