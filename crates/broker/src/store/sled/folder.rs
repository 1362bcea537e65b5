//! The folder sled works in: locked, in order, on a disk that keeps its word, and synced by us.

use super::super::StoreError;
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// File systems whose locks or syncs cannot be relied on, by the numbers of statfs(2).
const NETWORK_FILE_SYSTEMS: [(u64, &str); 10] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0102_1997, "9p"),
];

/// A folder that is ours alone while this lives.
pub(super) struct Folder {
    path: PathBuf,
    /// sled's data file. Opened before anything is written, since an error of write-back is reported only to those who
    /// had the file open when it happened.
    data: File,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, locks it, and removes what keeps sled from opening it.
    pub(super) fn prepare(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(failed("make", path))?;
        refuse_network(path)?;
        let lock_path = path.join("LOCK");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        remove_unfinished_snapshots(path).map_err(failed("tidy up", path))?;
        let data_path = path.join("db");
        let data = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&data_path)
            .map_err(failed("open", &data_path))?;
        Ok(Self {
            path: path.to_owned(),
            data,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes durable what sled wrote and flushed.
    pub(super) fn sync_data(&self) -> Result<(), StoreError> {
        self.data
            .sync_data()
            .map_err(failed("sync", &self.path.join("db")))
    }

    /// Makes durable that sled's files exist, and its settings.
    pub(super) fn sync_names(&self) -> Result<(), StoreError> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        for path in [&self.path.join("conf"), &self.path, parent] {
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(failed("sync", path))?;
        }
        Ok(())
    }
}

/// sled takes a snapshot it was killed in writing for a whole one, and then does not open.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn refuse_network(path: &Path) -> Result<(), StoreError> {
    let status = rustix::fs::statfs(path)
        .map_err(|error| failed("examine", path)(io::Error::from(error)))?;
    // The number has 32 bits, but its type differs between architectures, and its sign with it.
    let number = status.f_type as u64 & 0xffff_ffff;
    let network = NETWORK_FILE_SYSTEMS
        .iter()
        .find(|(known, _)| *known == number);
    match network {
        None => Ok(()),
        Some((_, kind)) => Err(StoreError::NetworkFileSystem {
            path: path.to_owned(),
            kind,
        }),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
