//! Files that are there whole or not at all, also after a power cut.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};
use tempfile::NamedTempFile;

/// Gives a written file its name, for good.
pub(super) fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_data()?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_folder(parent)?;
    file.persist(path)?;
    sync_folder(parent)
}

/// Gives a file that is synced another name, for good.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let parent = to.parent().unwrap_or(Path::new("/"));
    make_folder(parent)?;
    fs::rename(from, to)?;
    sync_folder(parent)
}

/// Writes a small file under its name, for good.
pub(super) fn write(temporary_folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(temporary_folder)?;
    file.write_all(bytes)?;
    persist(file, path)
}

/// Makes a folder's latest names durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file that may not be there. Not synced: a file that comes back after a power cut is swept later.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
