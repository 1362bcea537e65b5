//! The store on disk: sled 0.34, with the guards without which it loses what was acknowledged.
//!
//! sled's `flush` is no fsync, its leftover snapshots keep it from opening, and large values are never synced; see
//! `docs/decisions/store.md`. So every append ends with our own `fdatasync`, the folder is put in order before it is
//! opened, and no value exceeds 4 KiB. One tree, keys in writing order; what events mean is nobody's business here.

mod folder;
mod keys;

use super::{
    Store, StoreError, job_of,
    records::{self, EncodedRecord, Frame},
};
use dewar_proto::store::v1::Header;
use dewar_queue::{Event, JobNumber};
use folder::Folder;
use prost::Message as _;
use sled::Batch;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Raised when an older release would misread what is written.
const FORMAT_VERSION: u32 = 2;

/// Keys written at once: beyond it sled's memory explodes.
const BATCH_KEYS_MAX: usize = 1000;

/// The queue is in the broker's own memory; this is for reading at start.
const CACHE_BYTES: u64 = 64 << 20;

/// sled collects its garbage when it flushes by itself.
const FLUSH_EVERY_MS: u64 = 500;

/// Many times what sled's threads take to end on a busy machine.
const SLED_LOCK_WAIT: Duration = Duration::from_secs(10);

/// Events in a sled database.
pub struct SledStore {
    db: sled::Db,
    /// Declared after `db`, since it holds the lock until sled has closed its files.
    folder: Folder,
    broker_start: u64,
    next_sequence: u64,
    /// Where each job's records are, to delete them.
    sequences: BTreeMap<JobNumber, Vec<u64>>,
    highest_forgotten: Option<JobNumber>,
    failed: bool,
}

/// Puts and removals, cut into batches that sled applies whole.
#[derive(Default)]
struct Writes {
    batch: Batch,
    key_count: usize,
}

impl SledStore {
    /// Opens the store in a folder, making it if need be, and counts the start.
    ///
    /// # Errors
    /// If another process has it open, it is on a network file system, a later release wrote it, or it is damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Folder::prepare(path)?;
        let db = open_db(path)?;
        let mut store = Self {
            db,
            folder,
            broker_start: 0,
            next_sequence: 0,
            sequences: BTreeMap::new(),
            highest_forgotten: None,
            failed: false,
        };
        store.check_format()?;
        store.highest_forgotten = store.number(keys::FORGOTTEN)?.map(JobNumber);
        store.broker_start = store.number(keys::START)?.unwrap_or(0) + 1;
        store.finish_forgetting()?;
        store.index()?;
        store.write_start()?;
        Ok(store)
    }

    /// Refuses what a later release wrote, before anything is read or written that it may have changed.
    fn check_format(&self) -> Result<(), StoreError> {
        let Some(header) = self.value(keys::HEADER)? else {
            return if self.db.is_empty() {
                Ok(())
            } else {
                Err(damaged(self.folder.path(), "its header is missing"))
            };
        };
        let header = Header::decode(&*header)
            .map_err(|_| damaged(self.folder.path(), "its header is no header"))?;
        if header.format_version > FORMAT_VERSION {
            return Err(StoreError::Newer {
                found: header.format_version,
                supported: FORMAT_VERSION,
            });
        }
        Ok(())
    }

    /// Deletes the rest of jobs whose forgetting a crash cut short.
    fn finish_forgetting(&mut self) -> Result<(), StoreError> {
        let mut jobs = BTreeSet::new();
        self.scan(&[keys::TOMBSTONE], |key, _| {
            jobs.extend(keys::tombstone_job(key));
            Ok(())
        })?;
        if jobs.is_empty() {
            return Ok(());
        }
        let mut sequences: BTreeMap<JobNumber, Vec<u64>> = BTreeMap::new();
        self.scan(&[keys::EVENT], |key, _| {
            if let Some((sequence, job)) =
                keys::event_parts(key).filter(|(_, job)| jobs.contains(job))
            {
                sequences.entry(job).or_default().push(sequence);
            }
            Ok(())
        })?;
        for job in jobs {
            self.remove_records(job, sequences.remove(&job).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Notes where records are, and drops the beginning of one that a crash cut off: it was never acknowledged.
    fn index(&mut self) -> Result<(), StoreError> {
        let mut sequences: BTreeMap<JobNumber, Vec<u64>> = BTreeMap::new();
        let mut next_sequence = 0;
        let mut unfinished = Vec::new();
        self.scan(&[keys::EVENT], |key, value| {
            let corrupt = |reason| StoreError::Corrupt {
                sequence: next_sequence,
                reason,
            };
            let (sequence, job) = keys::event_parts(key).ok_or(corrupt("its key is no key"))?;
            let frame = records::unseal(key, value).ok_or(StoreError::Corrupt {
                sequence,
                reason: "its checksum is wrong",
            })?;
            if frame.continues {
                unfinished.push((sequence, job));
            } else {
                unfinished.clear();
            }
            sequences.entry(job).or_default().push(sequence);
            next_sequence = sequence + 1;
            Ok(())
        })?;
        if let Some(&(first, _)) = unfinished.first() {
            tracing::info!(
                count = unfinished.len(),
                "dropping the beginning of a record that a crash cut off"
            );
            let mut writes = Writes::default();
            for &(sequence, job) in &unfinished {
                self.remove(&mut writes, &keys::event(sequence, job))?;
            }
            self.apply(&mut writes)?;
            for sequences in sequences.values_mut() {
                sequences.retain(|sequence| *sequence < first);
            }
        }
        self.sequences = sequences;
        self.next_sequence = next_sequence;
        Ok(())
    }

    fn write_start(&mut self) -> Result<(), StoreError> {
        let header = Header {
            format_version: FORMAT_VERSION,
            written_by: env!("CARGO_PKG_VERSION").into(),
        };
        let mut writes = Writes::default();
        self.put_whole(&mut writes, keys::HEADER, &header.encode_to_vec())?;
        self.put_whole(&mut writes, keys::START, &self.broker_start.to_be_bytes())?;
        self.apply(&mut writes)?;
        self.sync()?;
        // Names of files that sled has just made; itself it never syncs them.
        self.folder.sync_names()
    }

    fn try_append(&mut self, batch: &[Event]) -> Result<(), StoreError> {
        let forgotten: BTreeSet<JobNumber> = batch
            .iter()
            .filter_map(|event| match event {
                Event::JobForgotten { job } => Some(*job),
                _ => None,
            })
            .collect();
        let mut writes = Writes::default();
        for job in &forgotten {
            self.put_whole(&mut writes, &keys::tombstone(*job), &[])?;
        }
        if let Some(highest) = forgotten.last().copied()
            && Some(highest) > self.highest_forgotten
        {
            self.put_whole(&mut writes, keys::FORGOTTEN, &highest.0.to_be_bytes())?;
            self.highest_forgotten = Some(highest);
        }
        // Nothing follows the forgetting of a job, so whatever else the batch says of it went before.
        let kept = batch
            .iter()
            .filter(|event| job_of(event).is_some_and(|job| !forgotten.contains(&job)));
        for record in records::encode(kept) {
            self.put_record(&mut writes, &record)?;
        }
        if writes.key_count == 0 {
            return Ok(());
        }
        self.apply(&mut writes)?;
        self.sync()?;
        // The tombstones are durable: should we not come to the end of this, the next start will.
        for job in forgotten {
            let sequences = self.sequences.remove(&job).unwrap_or_default();
            self.remove_records(job, sequences)?;
        }
        Ok(())
    }

    fn put_record(
        &mut self,
        writes: &mut Writes,
        record: &EncodedRecord,
    ) -> Result<(), StoreError> {
        let frames: Vec<_> = records::frames(&record.bytes).collect();
        // A record is cut in two by a crash only if it is larger than a whole batch.
        if writes.key_count + frames.len() > BATCH_KEYS_MAX {
            self.apply(writes)?;
        }
        for frame in &frames {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            self.sequences.entry(record.job).or_default().push(sequence);
            self.put(writes, &keys::event(sequence, record.job), frame)?;
        }
        Ok(())
    }

    /// Deletes a job's records, and its tombstone with the last of them.
    fn remove_records(&self, job: JobNumber, sequences: Vec<u64>) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        for sequence in sequences {
            self.remove(&mut writes, &keys::event(sequence, job))?;
        }
        self.remove(&mut writes, &keys::tombstone(job))?;
        self.apply(&mut writes)
    }

    fn put_whole(&self, writes: &mut Writes, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let frame = Frame {
            continues: false,
            bytes,
        };
        self.put(writes, key, &frame)
    }

    fn put(&self, writes: &mut Writes, key: &[u8], frame: &Frame<'_>) -> Result<(), StoreError> {
        let value = records::seal(key, frame);
        assert!(
            value.len() <= records::VALUE_BYTES_MAX,
            "sled would not sync it"
        );
        writes.batch.insert(key, value);
        self.count(writes)
    }

    fn remove(&self, writes: &mut Writes, key: &[u8]) -> Result<(), StoreError> {
        writes.batch.remove(key);
        self.count(writes)
    }

    fn count(&self, writes: &mut Writes) -> Result<(), StoreError> {
        writes.key_count += 1;
        if writes.key_count >= BATCH_KEYS_MAX {
            self.apply(writes)?;
        }
        Ok(())
    }

    /// Hands sled what was gathered. Not durable before [`Self::sync`].
    fn apply(&self, writes: &mut Writes) -> Result<(), StoreError> {
        let Writes { batch, .. } = std::mem::take(writes);
        self.db.apply_batch(batch).map_err(engine)
    }

    /// Makes everything handed to sled so far durable.
    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(engine)?;
        self.folder.sync_data()
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.value(key)? else {
            return Ok(None);
        };
        let bytes = bytes.try_into();
        let bytes = bytes.map_err(|_| damaged(self.folder.path(), "a number is no number"))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = guarded(self.folder.path(), || self.db.get(key))?.map_err(engine)?;
        let Some(value) = found else {
            return Ok(None);
        };
        match records::unseal(key, &value) {
            Some(frame) => Ok(Some(frame.bytes.to_vec())),
            None => Err(damaged(self.folder.path(), "a checksum is wrong")),
        }
    }

    /// Visits keys and values with a prefix, in order.
    fn scan(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut entries = self.db.scan_prefix(prefix);
        while let Some(entry) = guarded(self.folder.path(), || entries.next())? {
            let (key, value) = entry.map_err(engine)?;
            visit(&key, &value)?;
        }
        Ok(())
    }
}

impl Store for SledStore {
    fn replay(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), StoreError> {
        if let Some(job) = self.highest_forgotten {
            apply(Event::JobForgotten { job });
        }
        let mut begun: Option<(JobNumber, u64, Vec<u8>)> = None;
        self.scan(&[keys::EVENT], |key, value| {
            let (sequence, job) = keys::event_parts(key).unwrap_or((0, JobNumber(0)));
            let corrupt = |reason| StoreError::Corrupt { sequence, reason };
            let frame = records::unseal(key, value).ok_or(corrupt("its checksum is wrong"))?;
            let bytes = match begun.take() {
                None => frame.bytes.to_vec(),
                Some((begun_job, last, mut bytes)) if begun_job == job && last + 1 == sequence => {
                    bytes.extend_from_slice(frame.bytes);
                    bytes
                }
                Some(_) => return Err(corrupt("the rest of the record before it is missing")),
            };
            if frame.continues {
                begun = Some((job, sequence, bytes));
                return Ok(());
            }
            let events = records::decode(job, &bytes).ok_or(corrupt("it is no record"))?;
            events.into_iter().for_each(&mut *apply);
            Ok(())
        })
    }

    fn append(&mut self, batch: &[Event]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        // Set first, so that a panic of sled's counts as well.
        self.failed = true;
        self.try_append(batch)?;
        self.failed = false;
        Ok(())
    }

    fn broker_start(&self) -> u64 {
        self.broker_start
    }
}

/// Opens sled itself. The folder is locked by us already, so whoever holds sled's own lock is an earlier store of this
/// process, dropped, whose threads are just ending: it is waited for.
fn open_db(path: &Path) -> Result<sled::Db, StoreError> {
    let ends_at = Instant::now() + SLED_LOCK_WAIT;
    loop {
        let opened = guarded(path, || {
            sled::Config::new()
                .path(path)
                .mode(sled::Mode::HighThroughput)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()
        })?;
        match opened {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < ends_at =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(damaged(path, &error.to_string())),
        }
    }
}

/// Runs a part of sled that panics on damaged files.
fn guarded<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, StoreError> {
    // What a panic leaves half-done is sled's own, and is not used again: the caller gives the store up.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked");
        damaged(path, reason)
    })
}

fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn engine(error: sled::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

#[cfg(test)]
mod tests;
