use super::*;
use dewar_blobs::hash_bytes;
use std::fs::File;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

struct Folder {
    dir: TempDir,
    broker: Uuid,
}

impl Folder {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            broker: Uuid::new_v4(),
        }
    }

    fn open(&self, bytes_max: Option<u64>) -> (NearStore, mpsc::UnboundedReceiver<Kept>) {
        let (sender, lost) = mpsc::unbounded_channel();
        let store = NearStore::new(self.dir.path().join("near"), bytes_max, sender);
        store.open(self.broker).unwrap();
        (store, lost)
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.dir.path().join("near").join(self.broker.to_string());
        let entries = fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| !path.ends_with("id")).collect()
    }
}

fn bytes(n: u8, size: usize) -> (Bytes, ChunkList) {
    let bytes: Vec<_> = (0..size).map(|at| (at >> 18) as u8 ^ n).collect();
    let list = hash_bytes(&bytes);
    (bytes.into(), list)
}

#[test]
fn what_was_put_there_is_there_after_a_restart_and_for_all_who_share_it() {
    let folder = Folder::new();
    let (store, _lost) = folder.open(Some(1 << 30));
    let (beside, _lost) = folder.open(Some(1 << 30));
    let (large, list) = bytes(1, 2 * MIB + 5);
    let (small, small_list) = bytes(2, 100);
    let kept = store.put(&list, &large).unwrap();
    store.put(&small_list, &small).unwrap();
    let (again, _lost) = folder.open(None);
    for store in [&store, &beside, &again] {
        let chunk = store.open_chunk(&list.chunk_digest(1).unwrap()).unwrap();
        assert_eq!(chunk.unwrap(), large.slice(MIB..2 * MIB));
        let chunk = store.open_chunk(&small_list.blob().digest).unwrap();
        assert_eq!(chunk.unwrap(), small);
        assert_eq!(
            store.open_chunk(&dewar_blobs::Digest([9; 32])).unwrap(),
            None
        );
        assert_eq!(store.kept().unwrap().len(), 2);
    }
    beside.remove(kept);
    assert_eq!(
        store.open_chunk(&list.chunk_digest(1).unwrap()).unwrap(),
        None
    );
    assert_eq!(folder.files().len(), 1, "its list is gone too");
    // Another broker has nothing to do with it.
    assert!(store.open(Uuid::new_v4()).unwrap().is_some());
    assert_eq!(store.kept().unwrap(), []);
    let (closed, _lost) = folder.open(None);
    assert_eq!(closed.open(Uuid::new_v4()).unwrap(), None);
}

#[test]
fn a_late_word_does_not_remove_what_was_put_there_since() {
    let folder = Folder::new();
    let (store, _lost) = folder.open(Some(1 << 30));
    let (large, list) = bytes(1, 2 * MIB);
    let first = store.put(&list, &large).unwrap();
    let second = store.put(&list, &large).unwrap();
    store.remove(first);
    assert_eq!(store.kept().unwrap(), [second]);
    let third = store.put_again(&list).unwrap();
    store.remove(second);
    assert_eq!(store.kept().unwrap(), [third]);
    let (_, other) = bytes(2, 2 * MIB);
    assert_eq!(store.put_again(&other), None);
    store.remove(third);
    assert_eq!(folder.files(), [] as [PathBuf; 0]);
}

#[test]
fn it_takes_no_more_than_it_may_and_forgets_what_was_half_written() {
    let folder = Folder::new();
    let (store, _lost) = folder.open(Some(3 * MIB as u64));
    let (large, list) = bytes(1, 2 * MIB);
    let (more, more_list) = bytes(2, 2 * MIB);
    let part = store.begin(list.blob()).unwrap();
    // Room is taken before a byte is there.
    let full = store.put(&more_list, &more).unwrap_err();
    assert!(full.to_string().contains("--results-size"), "{full}");
    drop(part);
    store.put(&more_list, &more).unwrap();
    assert!(matches!(
        store.put(&list, &large),
        Err(KeepError::Full { .. })
    ));

    let name = format!("{}-0.part", list.blob().digest);
    let left = folder.files()[0].with_file_name(name);
    File::create(&left).unwrap();
    folder.open(Some(1 << 30));
    assert!(!left.exists(), "its process is gone");
    let (closed, _lost) = folder.open(None);
    assert!(matches!(closed.put(&list, &large), Err(KeepError::Closed)));
}

#[test]
fn what_is_damaged_is_removed_and_said() {
    let folder = Folder::new();
    let (store, mut lost) = folder.open(Some(1 << 30));
    let (large, list) = bytes(1, 2 * MIB);
    let kept = store.put(&list, &large).unwrap();
    let files = folder.files();
    let blob = files.iter().find(|path| path.extension().is_none());
    let file = File::options().write(true).open(blob.unwrap()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", MIB as u64 + 7).unwrap();
    let digest = |index| list.chunk_digest(index).unwrap();
    assert!(store.open_chunk(&digest(0)).unwrap().is_some());
    assert_eq!(store.put_again(&list), None);
    assert_eq!(store.open_chunk(&digest(1)).unwrap(), None);
    assert_eq!(lost.try_recv().unwrap(), kept);
    assert_eq!(folder.files(), [] as [PathBuf; 0]);
}
