//! Pack files: payloads of 4 to 64 KiB, appended to numbered files beside the store.
//!
//! They are too large to be values of the store and too many to be files of their own. A batch of them is durable
//! before the event that names them is written. A payload lives as long as its job; a file goes when the last job
//! with a payload in it is forgotten, so the folder holds little more than what the kept jobs use.

use bytes::Bytes;
use dewar_queue::{Event, JobNumber, OutcomeResult, Payload};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A file this large is closed and another begun: small enough to be freed soon, large enough to be few.
const PACK_BYTES_MAX: u64 = 64 << 20;

/// The pack files of one data folder, and who uses them.
#[derive(Debug)]
pub struct Packs {
    reader: PackReader,
    current: Option<Current>,
    /// Files on disk or named by events. A file no job uses goes, unless it is the current one.
    users: BTreeMap<u64, BTreeSet<JobNumber>>,
    /// Set by the first failed write: what the file holds then is unknown.
    failed: bool,
}

/// Reads payloads; cheap to clone, and independent of the writer.
#[derive(Debug, Clone)]
pub struct PackReader {
    folder: PathBuf,
}

/// A fault of the pack files.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
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
    /// The bytes are not what was written.
    #[error("payload at {offset} of {} is corrupt", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// An earlier write failed.
    #[error("the pack files failed earlier and take nothing more")]
    Failed,
}

/// The file that is being filled.
#[derive(Debug)]
struct Current {
    number: u64,
    file: File,
    size_bytes: u64,
}

impl Packs {
    /// Opens the folder, making it if need be. Show it every replayed event, then call [`Packs::sweep`].
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self, PackError> {
        let failed = |action| {
            move |source| PackError::Io {
                action,
                path: folder.to_owned(),
                source,
            }
        };
        fs::create_dir_all(folder).map_err(failed("make"))?;
        let mut users = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed("read"))? {
            let name = entry.map_err(failed("read"))?.file_name();
            if let Some(number) = name.to_str().and_then(number_of) {
                users.insert(number, BTreeSet::new());
            }
        }
        Ok(Self {
            reader: PackReader {
                folder: folder.to_owned(),
            },
            current: None,
            users,
            failed: false,
        })
    }

    /// Appends payloads; they are durable when this returns, with one sync for all. Each is to be named by an event
    /// before the next [`Packs::observe`] of a forgotten job.
    ///
    /// # Errors
    /// If that is in doubt. No later append succeeds then.
    pub fn append(&mut self, payloads: &[&[u8]]) -> Result<Vec<Payload>, PackError> {
        if payloads.is_empty() {
            return Ok(Vec::new());
        }
        if self.failed {
            return Err(PackError::Failed);
        }
        let appended = self.try_append(payloads);
        self.failed = appended.is_err();
        appended
    }

    /// Notes which payloads an event names, or which it frees. For live events after they were stored, and for replay.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::TasksSubmitted { job, specs, .. } => {
                for spec in specs {
                    self.retain(*job, &spec.parameters);
                }
            }
            Event::TaskEnded { outcome, .. } => {
                if let OutcomeResult::Succeeded(output) = &outcome.result {
                    self.retain(outcome.task.job, &output.message);
                }
            }
            Event::JobForgotten { job } => {
                for users in self.users.values_mut() {
                    users.remove(job);
                }
            }
            _ => {}
        }
    }

    /// Deletes files that no job uses. Before replay has ended that is not yet known, so call it only then, and
    /// after a job was forgotten. A file that cannot be deleted stays until the next sweep.
    pub fn sweep(&mut self) {
        let current = self.current.as_ref().map(|current| current.number);
        let reader = &self.reader;
        self.users.retain(|number, users| {
            let used = !users.is_empty() || Some(*number) == current;
            used || match fs::remove_file(reader.path(*number)) {
                Ok(()) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => {
                    tracing::warn!(number, %error, "cannot delete a pack file");
                    true
                }
            }
        });
    }

    /// A reader for others.
    pub fn reader(&self) -> PackReader {
        self.reader.clone()
    }

    fn retain(&mut self, job: JobNumber, payload: &Payload) {
        if let Payload::Packed { file, .. } = payload {
            self.users.entry(*file).or_default().insert(job);
        }
    }

    fn try_append(&mut self, payloads: &[&[u8]]) -> Result<Vec<Payload>, PackError> {
        let current = match self.current.take() {
            Some(current) if current.size_bytes < PACK_BYTES_MAX => current,
            _ => self.begin_file()?,
        };
        let current = self.current.insert(current);
        let mut bytes = Vec::with_capacity(payloads.iter().map(|payload| payload.len()).sum());
        let mut places = Vec::with_capacity(payloads.len());
        for payload in payloads {
            places.push(Payload::Packed {
                file: current.number,
                offset: current.size_bytes + bytes.len() as u64,
                length: u32::try_from(payload.len()).expect("payloads have at most 64 KiB"),
                checksum: crc32c::crc32c(payload),
            });
            bytes.extend_from_slice(payload);
        }
        let number = current.number;
        let write = |current: &mut Current| {
            current.file.write_all(&bytes)?;
            current.size_bytes += bytes.len() as u64;
            current.file.sync_data()
        };
        write(current).map_err(|source| self.reader.failed("write", number)(source))?;
        Ok(places)
    }

    /// Begins a file under a number that neither a file nor an event ever had.
    fn begin_file(&mut self) -> Result<Current, PackError> {
        let number = self.users.keys().next_back().map_or(1, |last| last + 1);
        let path = self.reader.path(number);
        let file = File::options()
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(self.reader.failed("make", number))?;
        File::open(&self.reader.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(self.reader.failed("sync", number))?;
        self.users.insert(number, BTreeSet::new());
        Ok(Current {
            number,
            file,
            size_bytes: 0,
        })
    }
}

impl PackReader {
    /// The bytes of a payload that is in a pack file. Blocks for as long as a disk takes for 64 KiB.
    ///
    /// # Errors
    /// If they cannot be read, or are not what was written.
    pub fn read(
        &self,
        file: u64,
        offset: u64,
        length: u32,
        checksum: u32,
    ) -> Result<Bytes, PackError> {
        let mut bytes = vec![0; length as usize];
        File::open(self.path(file))
            .and_then(|pack| pack.read_exact_at(&mut bytes, offset))
            .map_err(self.failed("read", file))?;
        if crc32c::crc32c(&bytes) == checksum {
            Ok(bytes.into())
        } else {
            let path = self.path(file);
            Err(PackError::Corrupt { path, offset })
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:016}.pack"))
    }

    fn failed(&self, action: &'static str, number: u64) -> impl FnOnce(io::Error) -> PackError {
        let path = self.path(number);
        move |source| PackError::Io {
            action,
            path,
            source,
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".pack")?.parse().ok()
}

#[cfg(test)]
mod tests;
