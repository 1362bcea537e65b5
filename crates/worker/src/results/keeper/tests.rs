use super::*;
use dewar_blobs::hash_bytes;

fn kept(index: u64, pieces: &[&'static [u8]]) -> Kept {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|bytes| Piece {
            blob: hash_bytes(bytes).blob(),
            bytes: Bytes::from_static(bytes),
        })
        .collect();
    let report = v1::Report {
        task: Some(v1::TaskRef {
            job_id: vec![7; 16],
            index,
        }),
        attempt: Some(v1::AttemptId {
            broker_start: 1,
            n: index,
        }),
        result: Some(v1::report::Result::Succeeded(v1::Output {
            message: None,
            blobs: pieces.iter().map(|piece| piece.blob.into()).collect(),
        })),
        run_ms: 5,
        fetch_ms: 0,
    };
    let key = AttemptKey::from_wire(report.task.as_ref(), report.attempt.as_ref()).unwrap();
    Kept {
        key,
        report,
        pieces,
    }
}

fn start(results: &Path) -> (Keeper, Vec<Kept>) {
    Keeper::start(Identity::take(results, "a", None).unwrap()).unwrap()
}

fn indices(left: &[Kept]) -> Vec<u64> {
    let mut indices: Vec<_> = left.iter().map(|kept| kept.key.task().index).collect();
    indices.sort_unstable();
    indices
}

fn files(results: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(results).unwrap().next().unwrap().unwrap();
    let entries = fs::read_dir(folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn what_is_not_forgotten_comes_back() {
    let results = tempfile::tempdir().unwrap();
    let (keeper, left) = start(results.path());
    assert!(left.is_empty());
    keeper.keep_pieces(kept(1, &[])).await;
    let pieces = keeper.keep_pieces(kept(2, &[b"large", b""])).await;
    let pieces = pieces.expect("the disk takes them");
    assert_eq!(pieces[0].bytes, "large");
    keeper.keep(kept(3, &[b"larger"]));
    keeper.forget(kept(1, &[]).key);
    keeper.close().await;

    let (keeper, left) = start(results.path());
    assert_eq!(indices(&left), [2, 3]);
    let second = left.iter().find(|kept| kept.key.task().index == 2).unwrap();
    assert_eq!(second.pieces[0].bytes, "large");
    assert_eq!(second.report, kept(2, &[b"large", b""]).report);
    for one in left {
        keeper.forget(one.key);
    }
    keeper.close().await;
    assert_eq!(fs::read_dir(results.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn damaged_results_are_dropped_and_strays_cleared_away() {
    let results = tempfile::tempdir().unwrap();
    let (keeper, _) = start(results.path());
    keeper.keep_pieces(kept(1, &[])).await;
    keeper.keep_pieces(kept(2, &[b"piece"])).await;
    keeper.keep_pieces(kept(3, &[b"piece"])).await;
    keeper.close().await;
    for path in files(results.path()) {
        match path.file_name().unwrap().to_str().unwrap() {
            "0.reports" | "1.reports" => fs::write(path, "torn").unwrap(),
            _ => {}
        }
    }
    let (keeper, left) = start(results.path());
    assert_eq!(indices(&left), [3]);
    assert_eq!(left[0].pieces[0].bytes, "piece");
    keeper.close().await;
    let mut names = files(results.path());
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[1].ends_with("2.reports") && names[2].ends_with("lock"));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_tried_again() {
    let results = tempfile::tempdir().unwrap();
    let identity = Identity::take(results.path(), "a", None).unwrap();
    let folder = identity.folder.clone();
    let aside = results.path().join("aside");
    let (keeper, _) = Keeper::start(identity).unwrap();
    fs::rename(&folder, &aside).unwrap();
    let refused = keeper.keep_pieces(kept(1, &[b"piece"])).await;
    assert!(refused.is_none());
    fs::rename(&aside, &folder).unwrap();
    keeper.close().await;
    let (_keeper, left) = start(results.path());
    assert_eq!(indices(&left), [1]);
}

#[tokio::test]
async fn a_result_without_its_piece_is_none() {
    let results = tempfile::tempdir().unwrap();
    let (keeper, _) = start(results.path());
    keeper.keep(kept(1, &[b"piece"]));
    keeper.keep_pieces(kept(2, &[b"other"])).await;
    keeper.close().await;
    let gone = hash_bytes(b"piece").blob().digest.to_string();
    for path in files(results.path()) {
        if path.to_str().unwrap().contains(&gone) {
            fs::remove_file(path).unwrap();
        }
    }
    let (_keeper, left) = start(results.path());
    assert_eq!(indices(&left), [2]);
}

#[tokio::test]
async fn what_cannot_be_read_is_left() {
    let results = tempfile::tempdir().unwrap();
    let (keeper, _) = start(results.path());
    keeper.keep_pieces(kept(1, &[b"piece"])).await;
    keeper.keep_pieces(kept(2, &[b"piece"])).await;
    keeper.close().await;
    let find = |end: &str| {
        let mut paths = files(results.path()).into_iter();
        paths.find(|path| path.ends_with(end)).unwrap()
    };
    fs::write(find("0.reports"), "dewar results 2\nwhatever").unwrap();
    // Reading a folder as a file fails whoever tries.
    let elsewhere = tempfile::tempdir().unwrap();
    let aside = elsewhere.path().join("aside");
    let second = find("1.reports");
    fs::rename(&second, &aside).unwrap();
    fs::create_dir(&second).unwrap();
    let (keeper, left) = start(results.path());
    assert!(left.is_empty());
    keeper.close().await;

    fs::remove_dir(&second).unwrap();
    fs::rename(&aside, &second).unwrap();
    let (_keeper, left) = start(results.path());
    assert_eq!(indices(&left), [2]);
    assert_eq!(left[0].pieces[0].bytes, "piece");
    assert!(find("0.reports").exists());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_holds_no_process() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let results = tempfile::tempdir().unwrap();
    let identity = Identity::take(results.path(), "a", None).unwrap();
    // Opening it waits for a reader, who never comes.
    let stuck = identity.folder.join("0.part");
    let (keeper, _) = Keeper::start(identity).unwrap();
    mknodat(CWD, &stuck, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    keeper.keep(kept(1, &[]));
    let closed = timeout(Duration::from_secs(3600), keeper.close()).await;
    assert!(closed.is_ok());
    // So that the thread ends before the folder does.
    let _ = File::options().read(true).write(true).open(stuck);
}
