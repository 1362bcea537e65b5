//! Which blobs the chunks in the folder belong to: what a worker tells the swarm after it was started anew.
//!
//! A list is a file for each blob, with 32 bytes for each of its chunks, zero until the chunk was kept. Nothing depends on
//! its truth: whoever asks for a chunk asks by its digest, and one that is not there is fetched elsewhere.

use super::{Shared, locked};
use crate::{BlobRef, Chunk, ChunkSet, Digest, chunk_count};
use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

impl Shared {
    /// Notes that a chunk of a blob is in the folder.
    pub(super) fn note_listed(&self, chunk: &Chunk) -> io::Result<()> {
        let list = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.list_path(chunk.blob))?;
        locked(&self.places).insert(chunk.digest, *chunk);
        list.write_all_at(&chunk.digest.0, chunk.index.saturating_mul(32))
    }

    /// The chunks of every blob that are in the folder. Lists of which nothing is left are removed, and places of chunks
    /// that are gone forgotten.
    pub(super) fn listed(&self) -> io::Result<Vec<(BlobRef, ChunkSet)>> {
        let present = self.present()?;
        let (mut listed, mut places) = (Vec::new(), HashMap::new());
        for entry in fs::read_dir(self.lists_folder())? {
            let path = entry?.path();
            let Some(blob) = path.file_name().and_then(blob_of) else {
                continue;
            };
            let digests = fs::read(&path)?;
            let chunks = digests
                .chunks_exact(32)
                .zip(0..chunk_count(blob.size_bytes));
            let chunks: ChunkSet = chunks
                .filter_map(|(digest, index)| {
                    let digest = Digest::try_from(digest).ok()?;
                    let is_here = present.contains(&digest);
                    is_here.then(|| {
                        places.insert(
                            digest,
                            Chunk {
                                blob,
                                index,
                                digest,
                            },
                        );
                        index
                    })
                })
                .collect();
            if chunks.is_empty() {
                // Another process may be about to write to it: then that chunk is not told of, and no more.
                super::evict::ignore_missing(fs::remove_file(&path))?;
            } else {
                listed.push((blob, chunks));
            }
        }
        *locked(&self.places) = places;
        Ok(listed)
    }

    /// The digests of the chunks in the folder.
    fn present(&self) -> io::Result<HashSet<Digest>> {
        let files = self.chunk_files()?.into_iter();
        let names = files.map(|entry| entry.file_name());
        Ok(names
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect())
    }

    fn list_path(&self, blob: BlobRef) -> PathBuf {
        let name = format!("{}-{}", blob.digest, blob.size_bytes);
        self.lists_folder().join(name)
    }

    fn lists_folder(&self) -> PathBuf {
        self.folder.join("lists")
    }
}

pub(super) fn blob_of(name: &OsStr) -> Option<BlobRef> {
    let (digest, size_bytes) = name.to_str()?.split_once('-')?;
    Some(BlobRef {
        digest: digest.parse().ok()?,
        size_bytes: size_bytes.parse().ok()?,
    })
}
