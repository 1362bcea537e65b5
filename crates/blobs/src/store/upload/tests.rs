//! Uploads that break, meet, lie, and share what is there already.

use super::*;
use crate::hash_bytes;
use dewar_testkit::SmallDisk;
use std::path::Path;

const MIB: usize = CHUNK_BYTES as usize;

fn sample(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index % 251 + index / MIB * 3 + seed) as u8)
        .collect()
}

fn open(folder: &Path) -> BlobStore {
    BlobStore::open(folder, &[], 0).unwrap()
}

fn piece(bytes: &[u8], index: usize) -> &[u8] {
    &bytes[index * MIB..bytes.len().min((index + 1) * MIB)]
}

fn read(store: &BlobStore, blob: &BlobRef) -> Vec<u8> {
    let loaded = store.load(&blob.digest).unwrap();
    let chunks = (0..chunk_count(blob.size_bytes)).map(|index| loaded.read_chunk(index).unwrap());
    chunks.flatten().collect()
}

#[test]
fn an_upload_goes_on_after_a_restart_and_believes_only_what_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(5 * MIB + 9, 0);
    let list = hash_bytes(&bytes);
    let blob = list.blob();
    let store = open(folder.path());
    assert_eq!(store.offer(&list).unwrap(), [0..6]);
    for index in [1, 5, 2] {
        store
            .write_chunk(&blob, index as u64, piece(&bytes, index))
            .unwrap();
    }
    assert_eq!(store.missing(&blob), [0..1, 3..5]);
    assert_eq!(store.size_of(&blob.digest), None, "not whole yet");

    let store = open(folder.path());
    let error = store.write_chunk(&blob, 0, piece(&bytes, 0)).unwrap_err();
    assert!(matches!(error, ChunkError::NotOffered(_)), "{error}");
    // As a power cut may leave it.
    let path = store.shared.upload_path(&blob.digest);
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0; 4096], 2 * CHUNK_BYTES).unwrap();
    assert_eq!(store.offer(&list).unwrap(), [0..1, 2..5]);
    for index in [0, 2, 3, 4] {
        store
            .write_chunk(&blob, index as u64, piece(&bytes, index))
            .unwrap();
    }
    assert_eq!(store.missing(&blob), []);
    assert_eq!(store.offer(&list).unwrap(), []);
    for store in [store, open(folder.path())] {
        assert_eq!(read(&store, &blob), bytes);
    }
    assert_eq!(
        fs::read_dir(folder.path().join("uploads")).unwrap().count(),
        0
    );
}

#[test]
fn chunks_that_are_not_right_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(2 * MIB, 0);
    let list = hash_bytes(&bytes);
    let store = open(folder.path());
    store.offer(&list).unwrap();
    let mut wrong = piece(&bytes, 1).to_vec();
    wrong[7] ^= 1;
    for (index, bytes) in [(1, &*wrong), (0, &wrong[..9]), (0, &[]), (2, &wrong)] {
        let error = store.write_chunk(&list.blob(), index, bytes).unwrap_err();
        assert!(matches!(error, ChunkError::Corrupt(_)), "{error}");
    }
    assert_eq!(store.missing(&list.blob()), [0..2]);
}

#[test]
fn two_customers_with_the_same_blob_both_end_well() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(8 * MIB + 1, 0);
    let list = hash_bytes(&bytes);
    let store = open(folder.path());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for index in store.offer(&list).unwrap().into_iter().flatten() {
                    let piece = piece(&bytes, index as usize);
                    store.write_chunk(&list.blob(), index, piece).unwrap();
                }
                assert_eq!(store.offer(&list).unwrap(), []);
            });
        }
    });
    assert_eq!(read(&store, &list.blob()), bytes);
}

#[test]
fn chunks_of_other_blobs_are_copied_and_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = sample(10 * MIB, 0);
    let store = open(folder.path());
    let first = hash_bytes(&bytes);
    store.offer(&first).unwrap();
    for index in 0..10 {
        store
            .write_chunk(&first.blob(), index, piece(&bytes, index as usize))
            .unwrap();
    }
    bytes[4 * MIB + 5] ^= 1;
    let second = hash_bytes(&bytes);
    assert_eq!(store.offer(&second).unwrap(), [4..5]);
    store
        .write_chunk(&second.blob(), 4, piece(&bytes, 4))
        .unwrap();
    assert_eq!(read(&store, &second.blob()), bytes);
    // A holder that is gone is no loss.
    store.delete(&first.blob().digest).unwrap();
    store.delete(&second.blob().digest).unwrap();
    assert_eq!(store.offer(&second).unwrap(), [0..10]);
}

#[test]
fn abandoned_uploads_are_removed_after_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lists = [0, 1].map(|seed| hash_bytes(&sample(2 * MIB, seed)));
    lists
        .iter()
        .for_each(|list| drop(store.offer(list).unwrap()));
    let old = store.shared.upload_path(&lists[0].blob().digest);
    let file = File::options().write(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - ABANDONED_AFTER * 2)
        .unwrap();
    drop(store);
    let store = open(folder.path());
    assert!(!old.exists());
    assert!(store.shared.upload_path(&lists[1].blob().digest).exists());
}

#[test]
fn a_disk_that_fills_up_takes_no_more_and_loses_nothing_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(folder.path(), 12) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let bytes = sample(5 * MIB, 0);
    let list = hash_bytes(&bytes);
    let store = open(disk.path());
    let write = |index| store.write_chunk(&list.blob(), index as u64, piece(&bytes, index));
    assert_eq!(store.offer(&list).unwrap(), [0..5]);
    write(0).unwrap();
    write(2).unwrap();
    disk.fill().unwrap();
    let full = ChunkError::Save(store.shared.full(&list.blob()));
    for index in [1, 3] {
        assert_eq!(write(index).unwrap_err().to_string(), full.to_string());
    }
    let refused = store.offer(&list).unwrap_err();
    assert_eq!(refused.to_string(), full.to_string());
    disk.make_room().unwrap();
    assert_eq!(store.offer(&list).unwrap(), [1..2, 3..5]);
    for index in [1, 3, 4] {
        write(index).unwrap();
    }
    assert_eq!(read(&store, &list.blob()), bytes);
    // In one piece, of which nothing is left behind.
    let other = sample(2 * MIB, 1);
    let mut writer = store.writer(hash_bytes(&other).blob()).unwrap();
    disk.fill().unwrap();
    let error = writer.write(&other).unwrap_err();
    assert!(matches!(error, SaveError::Full { .. }), "{error}");
    drop(writer);
    let left = fs::read_dir(store.shared.temporary_folder()).unwrap();
    assert_eq!(left.count(), 0);
}
