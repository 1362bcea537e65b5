//! The data folder: one broker at a time, the token that opens it, and the id by which workers know it again.

use crate::tokens;
use dewar_settings::network_kind;
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    iter,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Folders in which the way to it was made.
    parents: Vec<PathBuf>,
    token: String,
    broker_id: Uuid,
    /// Locked for as long as it is open.
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file or folder would not do as it was told.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another broker runs on it.
    #[error("another broker runs on {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Locks and syncs of network file systems do not keep what they promise.
    #[error(
        "{} is on a network file system ({kind}), which cannot keep a broker's data safe; choose a local disk with --data-dir",
        path.display()
    )]
    NetworkFileSystem {
        /// The folder, or one in it.
        path: PathBuf,
        /// Which.
        kind: String,
    },
    /// The file `token` was edited.
    #[error("{} holds no token of the form NAME.SECRET; delete it to have a new one made", path.display())]
    BadToken {
        /// The file.
        path: PathBuf,
    },
}

impl DataDir {
    /// Makes the folder and its token if need be, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io {
                action,
                path,
                source,
            }
        };
        // Only its own account reads what a lab has not published.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let parents = parents_to_write(path);
        builder.create(path).map_err(failed("make", path))?;
        let path = fs::canonicalize(path).map_err(failed("find", path))?;

        // Before anything is written there. What the folder holds may be mounted, or a link to elsewhere.
        let inside = ["store", "packs", "blobs", "near"].map(|name| path.join(name));
        for folder in iter::once(&path).chain(inside.iter().filter(|folder| folder.exists())) {
            if let Some(kind) = network_kind(folder).map_err(failed("examine", folder))? {
                return Err(DataDirError::NetworkFileSystem {
                    path: folder.clone(),
                    kind,
                });
            }
        }

        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }

        let token_path = path.join("token");
        let token = match fs::read_to_string(&token_path) {
            Ok(token) => token.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tokens::make(&token_path, &tokens::account_name())
                    .map_err(failed("write", &token_path))?
            }
            Err(error) => return Err(failed("read", &token_path)(error)),
        };
        if token.parse::<dewar_proto::Token>().is_err() {
            return Err(DataDirError::BadToken { path: token_path });
        }
        let id_path = path.join("broker-id");
        let broker_id = broker_id(&id_path).map_err(failed("read or write", &id_path))?;
        Ok(Self {
            path,
            parents,
            token,
            broker_id,
            _lock: lock,
        })
    }

    /// Makes durable that the folder and what lies in it exist. Whoever syncs a file in a new folder has not synced the
    /// folder's own name: after a power cut all that was acknowledged could lie in a folder that is not there.
    pub(crate) fn sync_names(&self) -> Result<(), DataDirError> {
        for folder in iter::once(&self.path).chain(&self.parents) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            match synced {
                // A parent may be writable and not readable. Then nobody can sync it.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied && folder != &self.path => {}
                synced => synced.map_err(|source| DataDirError::Io {
                    action: "sync",
                    path: folder.clone(),
                    source,
                })?,
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Made at the first start. It says whose results a worker keeps, where address and token may change.
    pub(crate) fn broker_id(&self) -> Uuid {
        self.broker_id
    }
}

fn broker_id(path: &Path) -> io::Result<Uuid> {
    match fs::read_to_string(path) {
        Ok(id) => Uuid::try_parse(id.trim()).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::new_v4();
            write_once(path, &format!("{id}\n"))?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

/// Writes a file for this account only; whatever happens, it is there whole or not at all.
pub(crate) fn write_once(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    // A leftover of a start that was cut short, perhaps.
    let _ = fs::remove_file(&beside);
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The folders that get a new name in them when this one is made, the innermost first.
fn parents_to_write(path: &Path) -> Vec<PathBuf> {
    let missing = path
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let parents = missing.filter_map(Path::parent);
    parents
        .map(|parent| match parent.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => parent.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn token_and_id_are_made_once_and_for_the_account_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/data");
        let open = || {
            let folder = DataDir::open(&path).unwrap();
            (folder.token().to_owned(), folder.broker_id())
        };
        assert_eq!(open(), open());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path.join("token")), 0o600);
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn all_folders_that_get_a_new_name_are_synced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(
            first.parents,
            [folder.path().join("deep"), folder.path().to_owned()]
        );
        first.sync_names().unwrap();
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap().parents, [] as [PathBuf; 0]);
        assert_eq!(parents_to_write(Path::new("not-here")), [Path::new(".")]);
    }

    #[test]
    fn a_folder_has_one_broker() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let second = DataDir::open(folder.path()).unwrap_err();
        assert!(matches!(second, DataDirError::InUse { .. }));
        drop(first);
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn an_edited_token_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "no dot").unwrap();
        let error = DataDir::open(folder.path()).unwrap_err();
        assert!(matches!(error, DataDirError::BadToken { .. }));
    }
}
