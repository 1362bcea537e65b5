//! Reading from the holder's own files, when they are on this machine.

use super::BlobClient;
use crate::{BlobRef, Chunk, Digest, LocalFile};
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Files that are remembered, each with an open descriptor: what the tasks of a large node read at once.
const FILES_MAX: usize = 64;

/// Where blobs lie on this machine, as far as their holder told.
#[derive(Debug, Clone, Default)]
pub(super) struct InPlace {
    files: Arc<Mutex<HashMap<Digest, LocalFile>>>,
}

impl InPlace {
    fn note(&self, blob: Digest, file: LocalFile) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= FILES_MAX && !files.contains_key(&blob) {
            // Any one: whoever needs it again is told again.
            let other = files.keys().next().copied();
            other.and_then(|other| files.remove(&other));
        }
        // The one that is there may be open.
        files.entry(blob).or_insert(file);
    }

    fn get(&self, blob: &Digest) -> Option<LocalFile> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(blob).cloned()
    }

    fn forget(&self, blob: &Digest) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(blob);
    }
}

impl BlobClient {
    /// Remembers where the holder said a blob lies.
    pub(crate) fn note_place(&self, blob: BlobRef, file: Option<LocalFile>) {
        if let Some(file) = file {
            self.in_place.note(blob.digest, file);
        }
    }

    /// A chunk's bytes, checked, from the holder's own file. One that does not give them is not tried again before its
    /// holder names it again.
    pub(crate) async fn read_in_place(&self, chunk: &Chunk) -> Option<Bytes> {
        let file = self.in_place.get(&chunk.blob.digest)?;
        let wanted = *chunk;
        let reading = tokio::task::spawn_blocking(move || file.read_chunk(&wanted));
        let bytes = reading.await.ok().flatten();
        if bytes.is_none() {
            self.in_place.forget(&chunk.blob.digest);
        }
        bytes
    }
}
