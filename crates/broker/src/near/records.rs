//! What the broker's disk says of blobs that workers keep: a small file each, named by the blob's digest.
//!
//! A file has its name only once it is whole. A damaged one is left for people: its blob counts as unknown.

use super::StoreId;
use crate::swarm::SiteName;
use dewar_blobs::{BlobRef, ChunkList, Digest, hash_bytes};
use dewar_proto::store::v1 as stored;
use prost::Message as _;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of a file's own digest, which stands before the rest.
const HEAD_BYTES: usize = 32;

/// One blob, and who keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) list: Arc<ChunkList>,
    pub(crate) site: SiteName,
    /// Folders, and who said so, for people.
    pub(crate) keepers: Vec<(StoreId, Arc<str>)>,
}

/// The folder. Everything here blocks.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    /// Opens the folder, making it if need be, and reads all that is there.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Vec<Record>)> {
        fs::create_dir_all(folder)?;
        let mut records = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(digest) = name.and_then(|name| name.parse::<Digest>().ok()) else {
                // Half-written when the broker was killed.
                let _ = fs::remove_file(&path);
                continue;
            };
            match decode(digest, &fs::read(&path)?) {
                Some(record) => records.push(record),
                None => tracing::error!(
                    path = %path.display(), "it is not known any more which workers keep this blob: the file is damaged"
                ),
            }
        }
        let folder = folder.to_owned();
        Ok((Self { folder }, records))
    }

    /// Writes one down; [`Records::sync`] makes it last.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.list.blob().digest);
        let part = path.with_extension("part");
        let mut file = File::create(&part)?;
        file.write_all(&encode(record))?;
        file.sync_all()?;
        fs::rename(&part, &path)
    }

    /// Removes one, if it is there.
    pub(crate) fn erase(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes names last that were written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

fn encode(record: &Record) -> Vec<u8> {
    let keepers = record
        .keepers
        .iter()
        .map(|(store, name)| stored::NearKeeper {
            store_id: store.0.to_vec(),
            worker_name: name.to_string(),
        });
    let body = stored::NearBlob {
        size_bytes: record.list.blob().size_bytes,
        chunk_digests: record.list.digests().to_vec(),
        site: record.site.to_string(),
        keepers: keepers.collect(),
    }
    .encode_to_vec();
    let mut bytes = hash_bytes(&body).blob().digest.0.to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(digest: Digest, bytes: &[u8]) -> Option<Record> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
    if hash_bytes(body).blob().digest.0 != head {
        return None;
    }
    let stored = stored::NearBlob::decode(body).ok()?;
    let keepers = stored.keepers.into_iter().map(|keeper| {
        let store = keeper.store_id.as_slice().try_into().ok()?;
        Some((StoreId(store), keeper.worker_name.into()))
    });
    let size_bytes = stored.size_bytes;
    let list = ChunkList::new(BlobRef { digest, size_bytes }, stored.chunk_digests.into());
    Some(Record {
        list: Arc::new(list.ok()?),
        site: stored.site.into(),
        keepers: keepers.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8) -> Record {
        let bytes = vec![byte; (1 << 20) + 1];
        Record {
            list: Arc::new(hash_bytes(&bytes)),
            site: "here".into(),
            keepers: vec![
                (StoreId([1; 16]), "a".into()),
                (StoreId([2; 16]), "b".into()),
            ],
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Records::open(folder.path()).unwrap();
        let (records, none) = open();
        assert_eq!(none, []);
        for byte in [1, 2, 3] {
            records.write(&record(byte)).unwrap();
        }
        let digest = |byte| record(byte).list.blob().digest;
        records.erase(&digest(2)).unwrap();
        records.erase(&digest(2)).unwrap();
        let damaged = folder.path().join(digest(3).to_string());
        let mut bytes = fs::read(&damaged).unwrap();
        bytes[40] ^= 1;
        fs::write(&damaged, bytes).unwrap();
        let half = folder.path().join("half.part");
        fs::write(&half, "x").unwrap();
        records.sync().unwrap();
        assert_eq!(open().1, [record(1)]);
        assert!(!half.exists());
        assert!(damaged.exists(), "it is left for people");
    }
}
