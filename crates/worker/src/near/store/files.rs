//! Files of the folder: their names, their lock, and how one is made and read.

use super::Kept;
use bytes::Bytes;
use dewar_blobs::{BlobRef, Chunk, ChunkList, Digest, chunk_count, hash_file};
use memmap2::MmapOptions;
use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// How names end of files that are being written, and are locked by whoever does.
const PART: &str = "part";

/// How names end of chunk lists, of blobs that have more than one.
const LIST: &str = "chunks";

/// What changes the folder does so while it has this.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(root: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true);
        let file = file.open(root.join("lock"))?;
        file.lock()?;
        Ok(Self { _file: file })
    }
}

/// A blob that is being put there. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Part {
    blob: BlobRef,
    folder: PathBuf,
    path: PathBuf,
    stamp: u64,
    /// Locked: what nobody has locked was left by a process that was killed.
    file: File,
}

impl Part {
    /// Takes the room, and no more.
    pub(super) fn create(folder: &Path, blob: BlobRef) -> io::Result<Self> {
        let stamp = stamp();
        let path = folder.join(name(&blob.digest, stamp)).with_extension(PART);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        file.set_len(blob.size_bytes)?;
        let folder = folder.to_owned();
        Ok(Self {
            blob,
            folder,
            path,
            stamp,
            file,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes some of it.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Its bytes and its list are on disk when this returns.
    pub(super) fn flush(&self, list: &ChunkList) -> io::Result<()> {
        if list.chunk_count() > 1 {
            let path = self.path.with_extension("list-part");
            let file = File::create(&path)?;
            file.write_all_at(list.digests(), 0)?;
            file.sync_all()?;
            fs::rename(&path, list_path(&self.folder, &self.blob.digest))?;
        }
        self.file.sync_all()
    }

    /// Gives it its name.
    pub(super) fn name(&self) -> io::Result<u64> {
        fs::rename(&self.path, self.path.with_extension(""))?;
        Ok(self.stamp)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Not there any more if it has its name.
        let _ = fs::remove_file(&self.path);
    }
}

/// The folder's own id, made when it is first wanted.
pub(super) fn id_of(folder: &Path) -> io::Result<Uuid> {
    let path = folder.join("id");
    match fs::read_to_string(&path) {
        Ok(id) => Uuid::try_parse(id.trim()).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::new_v4();
            let part = folder.join("id-part");
            fs::write(&part, id.to_string())?;
            File::open(&part)?.sync_all()?;
            fs::rename(&part, &path)?;
            sync(folder)?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

/// All that is kept in a folder.
pub(super) fn listed(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some((digest, stamp)) = entry.file_name().to_str().and_then(parsed) else {
            continue;
        };
        match entry.metadata() {
            Ok(metadata) => {
                let size_bytes = metadata.len();
                let blob = BlobRef { digest, size_bytes };
                all.push(Kept { blob, stamp });
            }
            // Removed between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Bytes of all brokers' blobs, those that are being written among them.
pub(super) fn held_bytes(root: &Path) -> io::Result<u64> {
    let mut held_bytes = 0;
    for folder in fs::read_dir(root)? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(folder)? {
            held_bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(held_bytes)
}

/// Removes what processes that were killed left half-written, and lists without a blob. Under the lock.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    let kept = listed(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let is_left = match path.extension().and_then(OsStr::to_str) {
            Some(PART) => File::open(&path).is_ok_and(|file| file.try_lock().is_ok()),
            Some(LIST) => !kept.iter().any(|kept| kept.blob.digest.to_string() == stem),
            _ => false,
        };
        // Of a blob that is being written the list may come first.
        let is_awaited = || stem.len() == 64 && has_part_of(folder, stem);
        if is_left && !is_awaited() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn has_part_of(folder: &Path, digest: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == PART))
        .any(|path| {
            let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            stem.starts_with(digest)
        })
}

/// Removes a blob of this stamp, and its list if there is no other. Under the lock.
pub(super) fn remove(folder: &Path, digest: &Digest, stamp: u64) -> io::Result<()> {
    remove_file(&folder.join(name(digest, stamp)))?;
    let is_there = listed(folder)?
        .iter()
        .any(|kept| kept.blob.digest == *digest);
    if is_there || has_part_of(folder, &digest.to_string()) {
        return Ok(());
    }
    remove_file(&list_path(folder, digest))
}

/// Removes the same blob of other stamps. Under the lock.
pub(super) fn remove_others(folder: &Path, digest: &Digest, stamp: u64) -> io::Result<()> {
    let others = listed(folder)?.into_iter();
    let mut others = others.filter(|kept| kept.blob.digest == *digest && kept.stamp != stamp);
    others.try_for_each(|kept| remove_file(&folder.join(name(digest, kept.stamp))))
}

/// Gives a blob another stamp. Under the lock.
pub(super) fn rename(folder: &Path, kept: Kept) -> io::Result<u64> {
    let stamp = stamp();
    let path = |stamp| folder.join(name(&kept.blob.digest, stamp));
    fs::rename(path(kept.stamp), path(stamp))?;
    Ok(stamp)
}

/// Makes names last.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The list of a blob that is kept; what is lost of it the blob itself tells. None if the blob is another.
pub(super) fn list_of(folder: &Path, kept: Kept) -> io::Result<Option<ChunkList>> {
    let blob = kept.blob;
    if let Some(list) = ChunkList::of_one_chunk(blob) {
        return Ok(Some(list));
    }
    let digests = fs::read(list_path(folder, &blob.digest)).unwrap_or_default();
    if let Ok(list) = ChunkList::new(blob, digests.into()) {
        return Ok(Some(list));
    }
    let file = File::open(folder.join(name(&blob.digest, kept.stamp)))?;
    let list = hash_file(&file, |_| ())?;
    Ok((list.blob() == blob).then_some(list))
}

/// A chunk's bytes; none if they are not right. It is read before it is mapped: a bad block is an error then, and not the
/// end of the process.
pub(super) fn read(folder: &Path, kept: Kept, chunk: &Chunk) -> io::Result<Option<Bytes>> {
    let file = File::open(folder.join(name(&kept.blob.digest, kept.stamp)))?;
    let (start, size_bytes) = (chunk.range().start, chunk.size_bytes());
    let size = usize::try_from(size_bytes).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    match file.read_exact_at(&mut bytes, start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    if chunk.verify(&bytes).is_err() {
        return Ok(None);
    }
    if chunk_count(kept.blob.size_bytes) == 1 {
        return Ok(Some(bytes.into()));
    }
    // SAFETY: a file that has its name is never written nor shortened, and lives on through the mapping when it is removed.
    let map = unsafe { MmapOptions::new().offset(start).len(size).map(&file)? };
    Ok(Some(Bytes::from_owner(map)))
}

fn stamp() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

fn name(digest: &Digest, stamp: u64) -> String {
    format!("{digest}-{stamp:016x}")
}

fn parsed(name: &str) -> Option<(Digest, u64)> {
    let (digest, stamp) = name.split_once('-')?;
    Some((digest.parse().ok()?, u64::from_str_radix(stamp, 16).ok()?))
}

fn list_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(format!("{digest}.{LIST}"))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
