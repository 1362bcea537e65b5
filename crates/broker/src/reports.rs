//! Reports that customers sent of their jobs: a file each in the data folder, replaced whole, and gone with its job.
//!
//! They are for people to look at. Nothing computes with them, so they are not among the blobs, no event names them, and
//! one that a crash takes is sent again with the next round.

use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::task::spawn_blocking;

/// Bytes of one report: a refinement's are one to three million.
pub(crate) const REPORT_BYTES_MAX: usize = 6 << 20;

/// Reports kept at a time: no more gigabytes than a lab has room for.
const REPORT_COUNT_MAX: usize = 1000;

/// How often the report was replaced since the broker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) u64);

/// Why a report is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// It is larger than any that is meant.
    #[error("has {size_bytes} bytes, at most {REPORT_BYTES_MAX} are kept")]
    TooLarge {
        /// What it has.
        size_bytes: usize,
    },
    /// There are enough.
    #[error("{REPORT_COUNT_MAX} reports are kept already; they go with their jobs")]
    TooMany,
    /// The disk refuses.
    #[error("the report cannot be written")]
    Disk(#[source] io::Error),
}

/// All of them; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    folder: Arc<Path>,
    versions: Arc<Mutex<HashMap<[u8; 16], Version>>>,
}

impl Reports {
    /// Those in a folder, which is made if need be.
    ///
    /// # Errors
    /// If it cannot be.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut versions = HashMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match job_of(&path) {
                Some(job) => {
                    versions.insert(job, Version(1));
                }
                // What a crash left half-way.
                None => drop(fs::remove_file(&path)),
            }
        }
        Ok(Self {
            folder: folder.into(),
            versions: Arc::new(Mutex::new(versions)),
        })
    }

    /// Replaces a job's report.
    ///
    /// # Errors
    /// If it is too large, there are too many, or the disk refuses.
    pub(crate) async fn keep(&self, job: [u8; 16], html: Bytes) -> Result<(), KeepError> {
        if html.len() > REPORT_BYTES_MAX {
            let size_bytes = html.len();
            return Err(KeepError::TooLarge { size_bytes });
        }
        let is_known = {
            let versions = self.versions();
            versions.contains_key(&job) || versions.len() < REPORT_COUNT_MAX
        };
        if !is_known {
            return Err(KeepError::TooMany);
        }
        let (folder, path) = (self.folder.clone(), self.path(job));
        let written = spawn_blocking(move || replace(&folder, &path, &html)).await;
        written
            .unwrap_or_else(|lost| Err(io::Error::other(lost)))
            .map_err(KeepError::Disk)?;
        let mut versions = self.versions();
        let version = versions.entry(job).or_insert(Version(0));
        version.0 += 1;
        Ok(())
    }

    /// How often a job's report was replaced; none if it has none.
    pub(crate) fn version(&self, job: &[u8]) -> Option<Version> {
        let job: [u8; 16] = job.try_into().ok()?;
        self.versions().get(&job).copied()
    }

    /// A job's report.
    pub(crate) async fn read(&self, job: &[u8]) -> Option<Vec<u8>> {
        let job: [u8; 16] = job.try_into().ok()?;
        let path = self.path(job);
        let read = spawn_blocking(move || fs::read(path)).await;
        read.ok()?.ok()
    }

    /// Deletes those of all other jobs.
    pub(crate) async fn keep_only(&self, jobs: HashSet<[u8; 16]>) {
        let gone: Vec<_> = {
            let versions = self.versions();
            let gone = versions.keys().filter(|job| !jobs.contains(*job));
            gone.copied().collect()
        };
        for job in gone {
            let path = self.path(job);
            let deleted = spawn_blocking(move || fs::remove_file(path)).await;
            let deleted = deleted.unwrap_or_else(|lost| Err(io::Error::other(lost)));
            match deleted {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "a report that nobody needs is not deleted");
                }
                _ => drop(self.versions().remove(&job)),
            }
        }
    }

    fn path(&self, job: [u8; 16]) -> PathBuf {
        let name = uuid::Uuid::from_bytes(job).simple();
        self.folder.join(format!("{name}.html"))
    }

    fn versions(&self) -> MutexGuard<'_, HashMap<[u8; 16], Version>> {
        self.versions
            .lock()
            .unwrap_or_else(|lost| lost.into_inner())
    }
}

/// Not forced to disk: what a crash takes is drawn again.
fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let whole = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(whole.path(), bytes)?;
    whole.persist(path)?;
    Ok(())
}

fn job_of(path: &Path) -> Option<[u8; 16]> {
    let name = path.file_name()?.to_str()?.strip_suffix(".html")?;
    let id = uuid::Uuid::try_parse(name).ok()?;
    Some(id.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_report_is_replaced_bounded_found_again_and_gone_with_its_job() {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::open(folder.path()).unwrap();
        let (one, other) = ([1; 16], [2; 16]);
        assert_eq!(reports.version(&one), None);
        for html in ["<p>round 1", "<p>round 2"] {
            reports.keep(one, html.into()).await.unwrap();
        }
        reports.keep(other, "<p>other".into()).await.unwrap();
        assert_eq!(reports.version(&one), Some(Version(2)));
        assert_eq!(reports.read(&one).await.unwrap(), b"<p>round 2");
        let large = Bytes::from(vec![b' '; REPORT_BYTES_MAX + 1]);
        let refused = reports.keep(one, large).await;
        assert!(matches!(refused, Err(KeepError::TooLarge { .. })));
        assert_eq!(reports.read(&one).await.unwrap(), b"<p>round 2");

        fs::write(folder.path().join(".tmpleft"), "half").unwrap();
        let reports = Reports::open(folder.path()).unwrap();
        assert_eq!(reports.version(&one), Some(Version(1)));
        reports.keep_only([other].into()).await;
        assert_eq!(reports.version(&one), None);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(reports.read(&other).await.unwrap(), b"<p>other");
    }
}
