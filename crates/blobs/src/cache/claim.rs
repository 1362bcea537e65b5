//! The right to fetch a chunk, among all processes that share the folder, and the room it will take.
//!
//! A claim is a locked file, which gets the chunk's bytes and then its name. Its length is the room it was given. The lock
//! ends with the claim, or its process; the file stays, and its room, until the next who wants the chunk takes it over, or
//! somebody counts and sweeps: so nobody has to be told that room is free again.

use super::{
    Shared,
    evict::{Limit, NoRoom},
    in_use::lock_shared,
    ledger::try_lock,
};
use crate::{Chunk, Digest, Pieces};
use bytes::Bytes;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
    sync::Arc,
};

/// A chunk that nobody else fetches meanwhile.
#[derive(Debug)]
pub(super) struct Claim {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Locked for as long as it is open.
    file: File,
}

/// What came of claiming a chunk.
pub(super) enum Claimed {
    /// It is ours until dropped.
    Ours(Claim),
    /// Another process has it.
    Others,
    /// It came meanwhile.
    Kept,
    /// The folder is full of what others read or fetch.
    NoRoom(NoRoom),
}

impl Shared {
    /// Takes the right to fetch a chunk, and room for it. Folders without locks give it to all.
    pub(super) fn claim(self: &Arc<Self>, chunk: &Chunk) -> io::Result<Claimed> {
        match self.claim_room(chunk) {
            Err(error) if is_disk_full(&error) => Ok(Claimed::NoRoom(self.disk_full())),
            claimed => claimed,
        }
    }

    fn claim_room(self: &Arc<Self>, chunk: &Chunk) -> io::Result<Claimed> {
        let Some(claim) = self.claim_file(&chunk.digest)? else {
            return Ok(Claimed::Others);
        };
        if self.path(&chunk.digest).exists() {
            claim.remove_if_unused()?;
            return Ok(Claimed::Kept);
        }
        let need_bytes = chunk.size_bytes();
        let reserved = self.ledger.change(|books| {
            let room_bytes = claim.file.metadata()?.len();
            let more_bytes = need_bytes.saturating_sub(room_bytes);
            if let Err(no_room) = self.make_room(books, more_bytes)? {
                return Ok(Err(no_room));
            }
            if !self.make_disk_room(books, need_bytes)? {
                return Ok(Err(self.disk_full()));
            }
            // Noted before it is taken.
            books.held_bytes += more_bytes;
            books.write()?;
            claim.file.set_len(need_bytes).map(Ok)
        });
        Ok(match reserved? {
            Ok(()) => Claimed::Ours(claim),
            Err(no_room) => Claimed::NoRoom(no_room),
        })
    }

    fn claim_file(self: &Arc<Self>, digest: &Digest) -> io::Result<Option<Claim>> {
        let path = self.fetching_folder().join(digest.to_string());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        if !try_lock(&file)? {
            return Ok(None);
        }
        let ours = file.metadata()?.ino();
        // Whoever had it before may have given it its name, or swept it, between our opening and locking it.
        let is_current = fs::metadata(&path).is_ok_and(|now| now.ino() == ours);
        Ok(is_current.then(|| Claim {
            shared: Arc::clone(self),
            path,
            file,
        }))
    }

    pub(super) fn fetching_folder(&self) -> PathBuf {
        self.folder.join("fetching")
    }

    /// What a full disk has to say: which bytes are free is only a hint, for people.
    pub(super) fn disk_full(&self) -> NoRoom {
        NoRoom {
            room_bytes: self.disk_room().unwrap_or_default(),
            limit: Limit::Disk,
        }
    }
}

impl Claim {
    /// Makes the chunk of its bytes, which were checked, and gives them back from there, so that slots share its memory.
    /// On a full disk, older chunks go.
    pub(super) fn keep(self, chunk: &Chunk, pieces: &Pieces) -> io::Result<Result<Bytes, NoRoom>> {
        match self.write(pieces) {
            Err(error) if is_disk_full(&error) => return Ok(Err(self.shared.disk_full())),
            written => written?,
        }
        let path = self.shared.path(&chunk.digest);
        // Whoever counts meanwhile would find it twice, or not at all; whoever evicts, unlocked.
        self.shared.ledger.change(|_| {
            fs::rename(&self.path, &path)?;
            lock_shared(&self.file)
        })?;
        let bytes = self.shared.in_use.map(chunk.digest, &self.file)?;
        self.shared.tell_kept(chunk);
        Ok(Ok(bytes))
    }

    /// One without room is in nobody's count.
    fn remove_if_unused(self) -> io::Result<()> {
        match self.file.metadata()?.len() {
            0 => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, pieces: &Pieces) -> io::Result<()> {
        loop {
            match self.write_once(pieces) {
                Err(error) if is_disk_full(&error) => {
                    let (shared, need_bytes) = (&self.shared, pieces.size_bytes());
                    let freed = shared
                        .ledger
                        .change(|books| shared.free_disk(books, need_bytes));
                    if !freed? {
                        return Err(error);
                    }
                }
                written => return written,
            }
        }
    }

    fn write_once(&self, pieces: &Pieces) -> io::Result<()> {
        let mut at = 0;
        for piece in pieces.iter() {
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

pub(super) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
