//! A look at a cache folder from outside, which changes nothing in it: are its chunks what they should be?

use super::lists::blob_of;
use crate::{Chunk, Digest, chunk_count};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What was found in a cache folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Examined {
    /// Chunks that its lists name and that are there.
    pub chunk_count: usize,
    /// How many of them were read.
    pub read_count: usize,
    /// Those that were read and are not what their names say.
    pub broken: Vec<PathBuf>,
}

/// Reads at most so many chunks of a folder, spread over all of it, and checks them. Workers may use it meanwhile. Blocks.
///
/// # Errors
/// If the folder cannot be read. One in which nothing was ever cached is fine.
pub fn examine_cache(folder: &Path, read_max: usize) -> io::Result<Examined> {
    let chunks = listed(folder)?;
    let mut examined = Examined {
        chunk_count: chunks.len(),
        ..Examined::default()
    };
    let step = chunks.len().div_ceil(read_max.max(1)).max(1);
    for (path, chunk) in chunks.iter().step_by(step) {
        match fs::read(path) {
            Ok(bytes) => {
                examined.read_count += 1;
                if chunk.verify(&bytes).is_err() {
                    examined.broken.push(path.clone());
                }
            }
            // Evicted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(examined)
}

fn listed(folder: &Path) -> io::Result<Vec<(PathBuf, Chunk)>> {
    let lists = match fs::read_dir(folder.join("lists")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        lists => lists?,
    };
    let mut chunks = Vec::new();
    for list in lists {
        let list = list?.path();
        let Some(blob) = list.file_name().and_then(blob_of) else {
            continue;
        };
        let digests = match fs::read(&list) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            digests => digests?,
        };
        let digests = digests.chunks_exact(32);
        for (digest, index) in digests.zip(0..chunk_count(blob.size_bytes)) {
            let Ok(digest) = Digest::try_from(digest) else {
                continue;
            };
            let name = digest.to_string();
            let path = folder.join("chunks").join(&name[..2]).join(&name);
            if path.exists() {
                let chunk = Chunk {
                    blob,
                    index,
                    digest,
                };
                chunks.push((path, chunk));
            }
        }
    }
    Ok(chunks)
}
