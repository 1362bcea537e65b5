//! The keeper: a thread that writes results down and removes them once the broker has them.
//!
//! All that waits is written as one file with one sync, so that a thousand results that meet an absent broker cost the
//! disk no more than one. A file goes when the last of its results is acknowledged; what is offered to the broker
//! twice does no harm. Where the disk takes nothing the results stay in memory, and are tried again with the next ones.

use super::{folder::Identity, record};
use crate::attempt::AttemptKey;
use bytes::Bytes;
use dewar_blobs::{BlobRef, Digest};
use dewar_proto::v1;
use memmap2::Mmap;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

/// Results in one file. The first of them waits for all.
const BATCH_MAX: usize = 1024;

/// How long the disk may take for the last results. With what comes before it, less than systemd gives a process to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How names end of what is left for people to look at.
const ASIDE: &str = "aside";

/// Smaller pieces may as well stay in memory while they wait.
const MAPPED_BYTES_MIN: u64 = 1 << 20;

/// A part of a result that is too large for its report.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) blob: BlobRef,
    pub(crate) bytes: Bytes,
}

/// A result worth keeping: its report, and the pieces that the report names.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) key: AttemptKey,
    pub(crate) report: v1::Report,
    pub(crate) pieces: Vec<Piece>,
}

impl Kept {
    fn report_name(&self) -> String {
        let (task, attempt) = (self.key.task(), self.key.attempt());
        format!("{}-{}.{}", task.index, attempt.broker_start, attempt.n)
    }
}

enum Order {
    /// Answered once it was tried, with pieces that may now be backed by the disk instead of memory; none if it refused.
    Keep(Kept, Option<oneshot::Sender<Option<Vec<Piece>>>>),
    Forget(AttemptKey),
    SetAside(Kept),
    /// Answered with a worker that left results for this broker, if there is one.
    Settle(Uuid, oneshot::Sender<Option<Uuid>>),
    Close(oneshot::Sender<()>),
}

/// Gives the thread its orders, which wait in memory: no more than two for each attempt this worker has.
#[derive(Clone)]
pub(crate) struct Keeper {
    orders: mpsc::Sender<Order>,
}

impl Keeper {
    /// Starts the thread, and gives what an earlier process left.
    pub(crate) fn start(identity: Identity) -> io::Result<(Self, Vec<Kept>)> {
        let (orders, inbox) = mpsc::channel();
        let (shelf, left) = Shelf::open(identity)?;
        thread::Builder::new()
            .name("results".to_owned())
            .spawn(move || shelf.serve(&inbox))?;
        Ok((Self { orders }, left))
    }

    pub(crate) fn keep(&self, kept: Kept) {
        // The thread outlives its orders, unless it was closed and nobody needs it.
        let _ = self.orders.send(Order::Keep(kept, None));
    }

    /// Keeps a result, and gives its pieces back once it is on disk. None if the disk refused it for now.
    pub(crate) async fn keep_pieces(&self, kept: Kept) -> Option<Vec<Piece>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Keep(kept, Some(reply)));
        answer.await.ok().flatten()
    }

    pub(crate) fn forget(&self, key: AttemptKey) {
        let _ = self.orders.send(Order::Forget(key));
    }

    /// Forgets a result that the broker refuses, but leaves it in the folder for people.
    pub(crate) fn set_aside(&self, kept: Kept) {
        let _ = self.orders.send(Order::SetAside(kept));
    }

    /// Writes down which broker has answered, and gives a worker that is gone and left results for it.
    pub(crate) async fn settle(&self, broker_id: Uuid) -> Option<Uuid> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Settle(broker_id, reply));
        answer.await.ok().flatten()
    }

    /// Waits until all that was ordered is done; the folder is free afterwards. A disk that does not answer is not waited
    /// for: a process that was told to end must.
    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        let _ = self.orders.send(Order::Close(reply));
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::error!("the disk does not answer; results that it lacks are lost");
        }
    }
}

/// What is in the folder.
struct Shelf {
    identity: Identity,
    next_number: u64,
    files: BTreeMap<u64, KeptFile>,
    file_of: HashMap<AttemptKey, u64>,
    /// What the disk did not take.
    unkept: Vec<Kept>,
}

#[derive(Default)]
struct KeptFile {
    /// Not yet acknowledged.
    keys: HashSet<AttemptKey>,
    pieces: Vec<PathBuf>,
}

impl Shelf {
    fn open(identity: Identity) -> io::Result<(Self, Vec<Kept>)> {
        let mut shelf = Self {
            identity,
            next_number: 0,
            files: BTreeMap::new(),
            file_of: HashMap::new(),
            unkept: Vec::new(),
        };
        let mut left = Vec::new();
        let mut unread: Vec<String> = Vec::new();
        let mut stray: HashSet<PathBuf> = HashSet::new();
        for entry in fs::read_dir(&shelf.identity.folder)? {
            let path = entry?.path();
            match reports_number(&path) {
                Some(number) => match shelf.take_up(number, &path) {
                    Ok(kept) => left.extend(kept),
                    Err(error) => {
                        tracing::error!(%error, file = %path.display(), "kept results cannot be read, and are left");
                        unread.push(format!("{number}-"));
                    }
                },
                None if path.file_name().is_some_and(|name| name != "lock")
                    && path.extension().is_none_or(|extension| extension != ASIDE) =>
                {
                    stray.insert(path);
                }
                None => {}
            }
        }
        for file in shelf.files.values() {
            for piece in &file.pieces {
                stray.remove(piece);
            }
        }
        let is_of_unread = |path: &Path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            unread
                .iter()
                .any(|prefix| name.starts_with(prefix.as_bytes()))
        };
        // Half-written, or left when the rest of their file was removed.
        for path in stray.into_iter().filter(|path| !is_of_unread(path)) {
            let _ = fs::remove_file(path);
        }
        Ok((shelf, left))
    }

    /// Reads one file of reports. Only what was read and is damaged is dropped: an error of the disk may pass, and a later
    /// form is for a later program.
    fn take_up(&mut self, number: u64, path: &Path) -> io::Result<Vec<Kept>> {
        self.next_number = self.next_number.max(number + 1);
        let bytes = fs::read(path)?;
        if record::is_of_later_form(&bytes) {
            return Err(io::Error::other("they are of a later form"));
        }
        let (reports, is_whole) = record::decode(&bytes);
        if !is_whole {
            tracing::warn!(file = %path.display(), read_count = reports.len(), "kept results are damaged; the rest of the file is dropped");
        }
        let left = reports
            .into_iter()
            .filter_map(|report| self.with_pieces(number, report).transpose());
        let left = left.collect::<io::Result<Vec<Kept>>>()?;
        if left.is_empty() {
            let _ = fs::remove_file(path);
            return Ok(left);
        }
        self.note(number, &left);
        Ok(left)
    }

    /// A report with all its pieces, which are written before it and go after it. None if one is gone: the broker hears of
    /// no such result, and gives the task out again.
    fn with_pieces(&self, number: u64, report: v1::Report) -> io::Result<Option<Kept>> {
        let Some(key) = AttemptKey::from_wire(report.task.as_ref(), report.attempt.as_ref()) else {
            return Ok(None);
        };
        let mut pieces = Vec::new();
        for blob in named_blobs(&report) {
            match mapped(&self.piece_path(number, &blob.digest)) {
                Ok(bytes) => pieces.push(Piece { blob, bytes }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(attempt = %key, blob = %blob.digest, "a piece of a kept result is gone; the result is dropped");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Kept {
            key,
            report,
            pieces,
        }))
    }

    fn note(&mut self, number: u64, kept: &[Kept]) {
        let pieces = kept.iter().flat_map(|kept| &kept.pieces);
        let pieces = pieces.map(|piece| self.piece_path(number, &piece.blob.digest));
        let file = KeptFile {
            keys: kept.iter().map(|kept| kept.key).collect(),
            pieces: pieces.collect(),
        };
        self.file_of
            .extend(file.keys.iter().map(|key| (*key, number)));
        self.files.insert(number, file);
    }

    fn serve(mut self, inbox: &mpsc::Receiver<Order>) {
        while let Ok(first) = inbox.recv() {
            let mut replies = Vec::new();
            let mut closing = None;
            for order in std::iter::once(first)
                .chain(inbox.try_iter())
                .take(BATCH_MAX)
            {
                match order {
                    Order::Keep(kept, reply) => {
                        replies.extend(reply.map(|reply| (kept.key, kept.pieces.clone(), reply)));
                        self.unkept.push(kept);
                    }
                    Order::Forget(key) => self.forget(key),
                    Order::SetAside(kept) => self.set_aside(&kept),
                    Order::Settle(broker_id, reply) => {
                        let _ = reply.send(self.settle(broker_id));
                    }
                    Order::Close(reply) => closing = Some(reply),
                }
            }
            self.write_all();
            for (key, pieces, reply) in replies {
                // Who asked may have been told to stop meanwhile.
                let _ = reply.send(self.on_disk(key, pieces));
            }
            if let Some(reply) = closing {
                self.identity.remove_if_empty();
                drop(self);
                let _ = reply.send(());
                return;
            }
        }
        self.identity.remove_if_empty();
    }

    fn write_all(&mut self) {
        if self.unkept.is_empty() {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        match self.write(number) {
            Ok(()) => {
                let kept = std::mem::take(&mut self.unkept);
                self.note(number, &kept);
            }
            Err(error) => {
                tracing::warn!(%error, folder = %self.identity.folder.display(), result_count = self.unkept.len(), "results stay in memory");
                for kept in &self.unkept {
                    for piece in &kept.pieces {
                        let _ = fs::remove_file(self.piece_path(number, &piece.blob.digest));
                    }
                }
            }
        }
    }

    /// Pieces first, so that a file of reports names nothing that is not there.
    fn write(&self, number: u64) -> io::Result<()> {
        let folder = &self.identity.folder;
        for kept in &self.unkept {
            for piece in &kept.pieces {
                write_synced(&self.piece_path(number, &piece.blob.digest), &piece.bytes)?;
            }
        }
        let part = folder.join(format!("{number}.part"));
        let bytes = record::encode(self.unkept.iter().map(|kept| &kept.report));
        if let Err(error) = write_synced(&part, &bytes) {
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        fs::rename(&part, folder.join(format!("{number}.reports")))?;
        File::open(folder)?.sync_all()
    }

    fn forget(&mut self, key: AttemptKey) {
        self.unkept.retain(|kept| kept.key != key);
        let Some(number) = self.file_of.remove(&key) else {
            return;
        };
        if let Some(file) = self.files.get_mut(&number) {
            file.keys.remove(&key);
            if file.keys.is_empty() {
                let reports = self.identity.folder.join(format!("{number}.reports"));
                let _ = fs::remove_file(reports);
                for piece in self.files.remove(&number).unwrap_or_default().pieces {
                    let _ = fs::remove_file(piece);
                }
            }
        }
    }

    fn settle(&mut self, broker_id: Uuid) -> Option<Uuid> {
        if let Err(error) = self.identity.settle(broker_id) {
            tracing::warn!(%error, folder = %self.identity.folder.display(), "not written down whose results these are");
            return None;
        }
        self.identity.left_elsewhere()
    }

    fn set_aside(&mut self, kept: &Kept) {
        let stem = format!("refused-{}-{}", kept.report_name(), self.next_number);
        self.next_number += 1;
        let folder = &self.identity.folder;
        let report = folder.join(format!("{stem}.{ASIDE}"));
        let pieces = kept.pieces.iter().try_for_each(|piece| {
            let path = folder.join(format!("{stem}-{}.{ASIDE}", piece.blob.digest));
            write_synced(&path, &piece.bytes)
        });
        let bytes = record::encode([&kept.report]);
        match pieces.and_then(|()| write_synced(&report, &bytes)) {
            Ok(()) => {
                tracing::error!(attempt = %kept.key, file = %report.display(), "the broker refuses a result; it is set aside");
            }
            Err(error) => {
                tracing::error!(attempt = %kept.key, %error, "the broker refuses a result, and the disk too; it is lost");
            }
        }
        self.forget(kept.key);
    }

    /// The same pieces, the large ones backed by their files. None if they have no files.
    fn on_disk(&self, key: AttemptKey, mut pieces: Vec<Piece>) -> Option<Vec<Piece>> {
        let number = self.file_of.get(&key)?;
        for piece in &mut pieces {
            if piece.blob.size_bytes >= MAPPED_BYTES_MIN
                && let Ok(bytes) = mapped(&self.piece_path(*number, &piece.blob.digest))
            {
                piece.bytes = bytes;
            }
        }
        Some(pieces)
    }

    fn piece_path(&self, number: u64, digest: &Digest) -> PathBuf {
        self.identity.folder.join(format!("{number}-{digest}.blob"))
    }
}

/// The number of a file of reports; none for any other file.
fn reports_number(path: &Path) -> Option<u64> {
    let is_reports = path
        .extension()
        .is_some_and(|extension| extension == "reports");
    let stem = path.file_stem()?.to_str()?;
    is_reports.then(|| stem.parse().ok()).flatten()
}

/// The blobs of a report.
fn named_blobs(report: &v1::Report) -> impl Iterator<Item = BlobRef> {
    let output = match &report.result {
        Some(v1::report::Result::Succeeded(output)) => Some(output),
        _ => None,
    };
    let message = output.and_then(|output| match &output.message.as_ref()?.place {
        Some(v1::payload::Place::Blob(blob)) => Some(blob),
        _ => None,
    });
    let blobs = output.map_or(&[][..], |output| &output.blobs);
    let wire = message.into_iter().chain(blobs);
    wire.filter_map(|blob| BlobRef::from_wire(Some(blob), "kept").ok())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn mapped(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the folder is locked by this process, which writes a file once, before it is mapped, and never shortens it.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests;
