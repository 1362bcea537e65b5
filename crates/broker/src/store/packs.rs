//! Pack files: payloads of up to 64 KiB, appended to numbered files beside the store.
//!
//! Those beyond 4 KiB are too large to be values of the store and too many to be files of their own; smaller ones are
//! here when they come in bulk, since memory holds what the store holds. A batch of them is durable
//! before the event that names them is written. A payload lives as long as its job; a file goes when the last job
//! with a payload in it is forgotten, so the folder holds little more than what the kept jobs use.

use bytes::Bytes;
use dewar_queue::{Event, JobNumber, OutcomeResult, Payload};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// A file this large is closed and another begun: small enough to be freed soon, large enough to be few.
const PACK_BYTES_MAX: u64 = 64 << 20;

/// Files that stay open for reading. Tasks that wait for dispatch are in few, and so are outcomes that are watched.
const OPEN_FILE_COUNT_MAX: usize = 32;

/// Bytes of neighbours that are read at once.
const RUN_BYTES_MAX: u64 = 1 << 20;

/// The pack files of one data folder, and who uses them.
#[derive(Debug)]
pub struct Packs {
    reader: PackReader,
    current: Option<Current>,
    /// Bytes that have their places, at the end of the current file, and are not yet there.
    placed: Vec<u8>,
    /// Files on disk or named by events. A file no job uses goes, unless it is the current one.
    users: BTreeMap<u64, BTreeSet<JobNumber>>,
    /// Set by the first failed write: what the file holds then is unknown.
    failed: bool,
}

/// Reads payloads; cheap to clone, and independent of the writer.
#[derive(Debug, Clone)]
pub struct PackReader {
    folder: Arc<Path>,
    /// Held only to look one up.
    open: Arc<Mutex<OpenFiles>>,
}

/// Files by number, the one used last at the end.
type OpenFiles = VecDeque<(u64, Arc<File>)>;

/// Where a payload is.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: u64,
    offset: u64,
    length: u32,
    checksum: u32,
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

impl PackError {
    /// Whether the bytes are gone, so that no later try finds them.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
            ),
            Self::Failed => false,
        }
    }
}

/// The file that is being filled.
#[derive(Debug)]
struct Current {
    number: u64,
    /// None until the first write.
    file: Option<File>,
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
                folder: folder.into(),
                open: Arc::default(),
            },
            current: None,
            placed: Vec::new(),
            users,
            failed: false,
        })
    }

    /// Gives a payload the place where the next [`Packs::flush`] writes it. Only what an event names may have one: it is
    /// never taken back.
    ///
    /// # Panics
    /// If the payload has 4 GiB or more; they have 64 KiB at most.
    pub fn place(&mut self, payload: &[u8]) -> Payload {
        let current = match self.current.take() {
            Some(current) if current.size_bytes < PACK_BYTES_MAX => current,
            _ => self.next_file(),
        };
        let place = Payload::Packed {
            file: current.number,
            offset: current.size_bytes + self.placed.len() as u64,
            length: u32::try_from(payload.len()).expect("payloads have at most 64 KiB"),
            checksum: crc32c::crc32c(payload),
        };
        self.placed.extend_from_slice(payload);
        self.current = Some(current);
        place
    }

    /// Writes what was placed, with one sync for all; it is durable when this returns. Events that name it come after.
    ///
    /// # Errors
    /// If that is in doubt. No later flush succeeds then.
    pub fn flush(&mut self) -> Result<(), PackError> {
        if self.failed {
            return Err(PackError::Failed);
        }
        if self.placed.is_empty() {
            return Ok(());
        }
        let flushed = self.try_flush();
        self.failed = flushed.is_err();
        flushed
    }

    /// What a batch does.
    #[cfg(test)]
    pub(in crate::store) fn append(
        &mut self,
        payloads: &[&[u8]],
    ) -> Result<Vec<Payload>, PackError> {
        let places = payloads.iter().map(|payload| self.place(payload)).collect();
        self.flush()?;
        Ok(places)
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
                Ok(()) => {
                    reader.close(*number);
                    false
                }
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

    fn try_flush(&mut self) -> Result<(), PackError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let number = current.number;
        let file = match &mut current.file {
            Some(file) => file,
            none => none.insert(self.reader.begin_file(number)?),
        };
        file.write_all(&self.placed)
            .and_then(|()| file.sync_data())
            .map_err(self.reader.failed("write", number))?;
        current.size_bytes += self.placed.len() as u64;
        // Its room goes too: a batch of the largest tasks has hundreds of megabytes.
        self.placed = Vec::new();
        Ok(())
    }

    /// A file under a number that neither a file nor an event ever had.
    fn next_file(&mut self) -> Current {
        let number = self.users.keys().next_back().map_or(1, |last| last + 1);
        self.users.insert(number, BTreeSet::new());
        Current {
            number,
            file: None,
            size_bytes: 0,
        }
    }
}

impl PackReader {
    /// The bytes of payloads that are in pack files, in order; any others are passed over. Blocks for as long as a
    /// disk takes.
    ///
    /// # Errors
    /// If they cannot be read, or are not what was written.
    pub fn read_all(&self, payloads: &[Payload]) -> Result<Vec<Bytes>, PackError> {
        let places: Vec<_> = payloads.iter().filter_map(Place::of).collect();
        let mut read = Vec::with_capacity(places.len());
        let mut rest = &places[..];
        while !rest.is_empty() {
            let (run, behind) = rest.split_at(run_length(rest));
            self.read_run(run, &mut read)?;
            rest = behind;
        }
        Ok(read)
    }

    /// Reads payloads that lie side by side.
    fn read_run(&self, run: &[Place], read: &mut Vec<Bytes>) -> Result<(), PackError> {
        let [Place { file, offset, .. }, ..] = *run else {
            return Ok(());
        };
        let length: usize = run.iter().map(|place| place.length as usize).sum();
        let mut bytes = vec![0; length];
        self.file(file)
            .and_then(|pack| pack.read_exact_at(&mut bytes, offset))
            .map_err(self.failed("read", file))?;
        let mut bytes = Bytes::from(bytes);
        for place in run {
            let payload = bytes.split_to(place.length as usize);
            if crc32c::crc32c(&payload) != place.checksum {
                return Err(PackError::Corrupt {
                    path: self.path(file),
                    offset: place.offset,
                });
            }
            read.push(payload);
        }
        Ok(())
    }

    /// Makes the file that is to be filled next.
    fn begin_file(&self, number: u64) -> Result<File, PackError> {
        let file = File::options()
            .append(true)
            .create_new(true)
            .open(self.path(number))
            .map_err(self.failed("make", number))?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(self.failed("sync", number))?;
        Ok(file)
    }

    fn file(&self, number: u64) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.iter().position(|(known, _)| *known == number);
        let entry = match found.and_then(|index| open.remove(index)) {
            Some(entry) => entry,
            None => (number, Arc::new(File::open(self.path(number))?)),
        };
        let file = entry.1.clone();
        open.push_back(entry);
        if open.len() > OPEN_FILE_COUNT_MAX {
            open.pop_front();
        }
        Ok(file)
    }

    /// Lets go of a file that was deleted, so that its room is free.
    fn close(&self, number: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(known, _)| *known != number);
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

impl Place {
    fn of(payload: &Payload) -> Option<Self> {
        match *payload {
            Payload::Packed {
                file,
                offset,
                length,
                checksum,
            } => Some(Self {
                file,
                offset,
                length,
                checksum,
            }),
            Payload::Inline(_) | Payload::Blob(_) => None,
        }
    }

    fn end(self) -> u64 {
        self.offset.saturating_add(self.length.into())
    }
}

/// How many of these lie side by side from the first on, and are worth one read.
fn run_length(places: &[Place]) -> usize {
    let follows = |pair: &&[Place]| {
        pair[0].file == pair[1].file
            && pair[0].end() == pair[1].offset
            && pair[1].end() - places[0].offset <= RUN_BYTES_MAX
    };
    1 + places.windows(2).take_while(follows).count()
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".pack")?.parse().ok()
}

#[cfg(test)]
mod tests;
