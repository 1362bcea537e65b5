//! Blobs in and out, files imported and changed behind our back, and what a crash leaves.

use super::*;
use crate::{LocalFile, chunk_count, hash_bytes};
use dewar_proto::limits::CHUNK_BYTES;
use std::{fs::File, os::unix::fs::symlink};
use tempfile::TempDir;

const MIB: usize = CHUNK_BYTES as usize;

fn sample(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index % 251 + index / MIB) as u8)
        .collect()
}

/// A data folder and an exported one.
struct House {
    data: TempDir,
    export: TempDir,
}

impl House {
    fn new() -> Self {
        Self {
            data: tempfile::tempdir().unwrap(),
            export: tempfile::tempdir().unwrap(),
        }
    }

    fn open(&self) -> BlobStore {
        BlobStore::open(self.data.path(), &[self.export.path().to_owned()], 0).unwrap()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.export.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn save(store: &BlobStore, bytes: &[u8]) -> BlobRef {
    let blob = hash_bytes(bytes).blob();
    let mut writer = store.writer(blob).unwrap();
    bytes
        .chunks(300_000)
        .for_each(|part| writer.write(part).unwrap());
    writer.finish().unwrap();
    blob
}

fn load(store: &BlobStore, blob: &BlobRef) -> Result<Vec<u8>, LoadError> {
    let loaded = store.load(&blob.digest)?;
    assert_eq!(loaded.blob(), *blob);
    let mut bytes = Vec::new();
    for index in 0..chunk_count(loaded.size_bytes()) {
        bytes.extend_from_slice(&loaded.read_chunk(index)?);
    }
    Ok(bytes)
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_in(&path) } else { 1 })
        .sum()
}

#[test]
fn blobs_survive_reopening_and_go_when_deleted() {
    let house = House::new();
    for size in [0, 1, MIB, MIB + 1, 3 * MIB] {
        let bytes = sample(size);
        let blob = save(&house.open(), &bytes);
        let store = house.open();
        assert_eq!(store.size_of(&blob.digest), Some(size as u64));
        assert_eq!(store.total_bytes(), size as u64);
        assert_eq!(load(&store, &blob).unwrap(), bytes);
        assert!(store.delete(&blob.digest).unwrap());
        assert!(!store.delete(&blob.digest).unwrap());
        assert!(matches!(load(&store, &blob), Err(LoadError::Unknown(_))));
        assert_eq!(house.open().blob_count(), 0);
    }
    assert_eq!(files_in(house.data.path()), 0);
}

#[test]
fn what_was_announced_must_come() {
    let house = House::new();
    let store = house.open();
    let blob = hash_bytes(b"abc").blob();
    let mut long = store.writer(blob).unwrap();
    assert!(matches!(
        long.write(b"abcd"),
        Err(SaveError::Length { received: 4, .. })
    ));
    let mut short = store.writer(blob).unwrap();
    short.write(b"ab").unwrap();
    assert!(matches!(
        short.finish(),
        Err(SaveError::Length { received: 2, .. })
    ));
    let mut other = store.writer(blob).unwrap();
    other.write(b"abd").unwrap();
    assert!(matches!(other.finish(), Err(SaveError::Digest { .. })));
    let absurd = BlobRef {
        size_bytes: u64::MAX,
        ..blob
    };
    assert!(matches!(store.writer(absurd), Err(SaveError::Full { .. })));
    drop(long);
    assert_eq!(files_in(house.data.path()), 0);
}

#[test]
fn what_a_crash_left_is_removed() {
    let house = House::new();
    let store = house.open();
    let mut writer = store.writer(hash_bytes(b"abc").blob()).unwrap();
    writer.write(b"ab").unwrap();
    // A process that dies runs no destructors.
    std::mem::forget(writer);
    assert_eq!(files_in(house.data.path()), 1);
    let blob = save(&store, &sample(2 * MIB));
    fs::remove_file(store.shared.path(&blob.digest)).unwrap();
    assert_eq!(house.open().blob_count(), 0);
    assert_eq!(files_in(house.data.path()), 0);
}

#[test]
fn a_damaged_blob_is_noticed() {
    let house = House::new();
    let store = house.open();
    let blob = save(&store, &sample(2 * MIB));
    let path = store.shared.path(&blob.digest);
    let mut bytes = fs::read(&path).unwrap();
    bytes[MIB + 5] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let loaded = store.load(&blob.digest).unwrap();
    assert!(loaded.read_chunk(0).is_ok());
    assert!(matches!(
        loaded.read_chunk(1),
        Err(LoadError::Corrupt { .. })
    ));
    fs::write(&path, &bytes[..MIB]).unwrap();
    assert!(matches!(loaded.read_chunk(1), Err(LoadError::Io { .. })));
    // Its size on disk no longer fits its list, so nothing is believed.
    let reopened = house.open();
    let read = reopened
        .load(&blob.digest)
        .and_then(|loaded| loaded.read_chunk(0));
    assert!(read.is_err());
}

#[test]
fn a_lost_chunk_list_is_made_again() {
    let house = House::new();
    let store = house.open();
    let bytes = sample(2 * MIB + 9);
    let blob = save(&store, &bytes);
    fs::remove_file(store.shared.list_path(&blob.digest)).unwrap();
    assert_eq!(load(&store, &blob).unwrap(), bytes);
}

#[test]
fn imported_files_are_read_in_place() {
    let house = House::new();
    let bytes = sample(2 * MIB + 17);
    let path = house.file("stack.mrcs", &bytes);
    let before = Stamp::of(&fs::metadata(&path).unwrap());
    let blob = house.open().import(&path).unwrap();
    assert_eq!(blob, LocalFile::look(&path).unwrap().reference());

    let store = house.open();
    assert_eq!(store.total_bytes(), 0, "nothing was copied");
    assert_eq!(load(&store, &blob).unwrap(), bytes);
    assert_eq!(store.import(&path).unwrap(), blob);
    assert!(store.delete(&blob.digest).unwrap());
    assert_eq!(files_in(house.data.path()), 0);
    assert_eq!(Stamp::of(&fs::metadata(&path).unwrap()), before);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(store.import(&path).unwrap(), blob);
}

fn digests(store: &BlobStore, blob: &BlobRef, run: std::ops::Range<u64>) -> Vec<u8> {
    let loaded = store.load(&blob.digest).unwrap();
    assert!(loaded.is_by_reference());
    loaded.digests(run).unwrap().to_vec()
}

#[test]
fn digests_are_learned_kept_and_folded_to_what_b3sum_prints() {
    let house = House::new();
    let bytes = sample(5 * MIB + 17);
    let path = house.file("stack.mrcs", &bytes);
    let list = hash_bytes(&bytes);
    let store = house.open();
    let blob = store.import(&path).unwrap();
    assert_eq!(store.own_digest(&blob.digest), None);
    assert_eq!(digests(&store, &blob, 2..4), list.digests()[64..128]);
    let stopped = store.hash_rest(&blob.digest, |_| (), || true).unwrap();
    assert_eq!(stopped, None);
    assert_eq!(digests(&house.open(), &blob, 0..1), list.digests()[..32]);

    let told = std::sync::atomic::AtomicU64::new(0);
    let progress = |bytes| {
        told.fetch_max(bytes, std::sync::atomic::Ordering::Relaxed);
    };
    let own = store.hash_rest(&blob.digest, progress, || false).unwrap();
    assert_eq!(own, Some(list.blob().digest));
    assert_eq!(told.into_inner(), bytes.len() as u64);

    // From here on nobody reads the file for them, or they would be others.
    hide_a_change(&path);
    let store = house.open();
    assert_eq!(store.own_digest(&blob.digest), own);
    assert_eq!(digests(&store, &blob, 0..6), list.digests()[..]);

    // A list that was damaged is made anew.
    let list_path = store.shared.list_path(&blob.digest);
    let mut kept = fs::read(&list_path).unwrap();
    kept[40] ^= 1;
    fs::write(&list_path, kept).unwrap();
    let anew = digests(&house.open(), &blob, 0..6);
    assert_eq!(anew[..32], list.digests()[..32]);
    assert_ne!(anew, list.digests()[..], "of the file as it is");
}

/// Writes into the second chunk, and sets the time back.
fn hide_a_change(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"xyz", CHUNK_BYTES).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn imports_of_earlier_releases_still_load_and_are_not_hashed_again() {
    let house = House::new();
    let bytes = sample(2 * MIB + 3);
    let path = house.file("stack.mrcs", &bytes).canonicalize().unwrap();
    let list = hash_bytes(&bytes);
    let store = house.open();
    let stamp = Stamp::of(&fs::metadata(&path).unwrap());
    store.remember(list.clone(), (path.clone(), stamp)).unwrap();

    let store = house.open();
    let loaded = store.load(&list.blob().digest).unwrap();
    assert!(!loaded.is_by_reference());
    assert_eq!(loaded.digests(0..3).unwrap(), list.digests());
    assert_eq!(load(&store, &list.blob()).unwrap(), bytes);
    let blob = store.import(&path).unwrap();
    assert_ne!(blob, list.blob());
    assert_eq!(store.own_digest(&blob.digest), Some(list.blob().digest));
}

#[test]
fn a_changed_file_is_named_and_never_served() {
    let house = House::new();
    let bytes = sample(MIB + 17);
    let check = |change: &dyn Fn(&Path), difference: &str| {
        let path = house.file("stack.mrcs", &bytes);
        let store = house.open();
        let blob = store.import(&path).unwrap();
        change(&path);
        let error = load(&store, &blob).unwrap_err().to_string();
        assert!(error.contains("stack.mrcs"), "{error}");
        assert!(error.ends_with(difference), "{error}");
        store.delete(&blob.digest).unwrap();
    };
    let write_in_place = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"xyz", 5).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(1))
            .unwrap();
    };
    check(&write_in_place, "it was written to");
    check(
        &|path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(9)
                .unwrap()
        },
        "it had 1048593 bytes and has 9",
    );
    check(&|path| fs::remove_file(path).unwrap(), "it is gone");
    check(
        &|path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        },
        "it was replaced by another file",
    );
}

#[test]
fn a_change_that_hides_its_time_is_caught_by_the_digest() {
    let house = House::new();
    let path = house.file("stack.mrcs", &sample(2 * MIB));
    let store = house.open();
    let blob = store.import(&path).unwrap();
    assert_eq!(digests(&store, &blob, 0..2).len(), 64);
    hide_a_change(&path);
    let loaded = store.load(&blob.digest).unwrap();
    assert!(loaded.read_chunk(0).is_ok());
    assert!(matches!(
        loaded.read_chunk(1),
        Err(LoadError::Corrupt { .. })
    ));
}

#[test]
fn a_copy_elsewhere_serves_as_well() {
    let house = House::new();
    let bytes = sample(100);
    let store = house.open();
    let (first, second) = (house.file("a", &bytes), house.file("b", &bytes));
    let blob = store.import(&first).unwrap();
    assert_eq!(store.import(&second).unwrap(), blob);
    fs::remove_file(second).unwrap();
    assert_eq!(load(&house.open(), &blob).unwrap(), bytes);
}

#[test]
fn only_files_in_exported_folders_are_imported() {
    let house = House::new();
    let store = house.open();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let link = house.export.path().join("link");
    symlink(&secret, &link).unwrap();
    let sneaky = house.export.path().join("..").join(
        secret
            .strip_prefix(secret.ancestors().nth(2).unwrap())
            .unwrap(),
    );
    for path in [&secret, &link, &sneaky] {
        assert!(
            matches!(store.import(path), Err(ImportError::NotExported { .. })),
            "{}",
            path.display()
        );
    }
    let folder = house.export.path();
    assert!(matches!(
        store.import(folder),
        Err(ImportError::NotRegular { .. })
    ));
    assert!(matches!(
        store.import(&folder.join("none")),
        Err(ImportError::NotFound { .. })
    ));
    assert!(matches!(
        store.import(Path::new("stack.mrcs")),
        Err(ImportError::NotAbsolute { .. })
    ));
    // A link from inside to inside is as good as the file.
    let inside = house.file("inside", b"y");
    let link = house.export.path().join("link2");
    symlink(inside, &link).unwrap();
    assert!(store.import(&link).is_ok());
}

#[test]
fn a_damaged_reference_is_passed_over() {
    for size in [100, MIB + 1] {
        check_damaged_reference(size);
    }
}

fn check_damaged_reference(size: usize) {
    let house = House::new();
    let path = house.file("stack.mrcs", &sample(size));
    let store = house.open();
    let blob = store.import(&path).unwrap();
    let reference = store.shared.imported_path(&blob.digest);
    let mut bytes = fs::read(&reference).unwrap();
    for damage in 0..bytes.len() {
        bytes[damage] ^= 0x55;
        fs::write(&reference, &bytes).unwrap();
        // Either it is passed over, or what it says is checked when it is read.
        if let Ok(loaded) = house.open().load(&blob.digest) {
            assert!(loaded.read_chunk(0).is_ok());
        }
        bytes[damage] ^= 0x55;
    }
}

#[test]
fn pinned_and_rewritten_blobs_stay() {
    let house = House::new();
    let store = house.open();
    let blob = save(&store, b"abc");
    let pin = store.pin(blob.digest);
    let second = store.pin(blob.digest);
    drop(pin);
    assert!(!store.delete(&blob.digest).unwrap());
    drop(second);
    store.note_rewritten(&blob.digest);
    assert!(!store.delete(&blob.digest).unwrap());
    assert_eq!(load(&store, &blob).unwrap(), b"abc");
}

#[test]
fn only_old_and_unheld_blobs_are_swept() {
    let house = House::new();
    let store = house.open();
    let held = save(&store, b"held");
    let old = save(&store, b"old");
    let young = save(&store, b"young");
    let long_ago = SystemTime::now() - UNHELD_AGE_MAX * 2;
    for blob in [held, old] {
        File::options()
            .write(true)
            .open(store.shared.path(&blob.digest))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    let swept = store.sweep(|digest| *digest == held.digest).unwrap();
    assert_eq!(
        swept,
        Swept {
            blob_count: 1,
            freed_bytes: 3
        }
    );
    assert_eq!(store.size_of(&old.digest), None);
    assert!(load(&store, &held).is_ok() && load(&store, &young).is_ok());
}
