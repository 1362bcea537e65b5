//! The store on disk: sled 0.34, with the guards without which it loses what was acknowledged.
//!
//! sled's `flush` is no fsync, its leftover snapshots keep it from opening, large values are never synced, and its files
//! never shrink; see `docs/decisions/store.md`. So every append ends with our own `fdatasync`, the folder is put in order
//! before it is opened, no value exceeds 4 KiB, and what lives moves to a new database when the old one has become too
//! large for it. One tree, keys in writing order; what events mean is nobody's business here.

mod compaction;
mod database;
mod folder;
mod fuse;
mod keys;

use super::{
    Store, StoreError,
    records::{self, EncodedRecord},
};
use compaction::Thrift;
use database::{BATCH_KEYS_MAX, Database, Writes, entry_bytes};
use dewar_proto::store::v1::Header;
use dewar_queue::{Event, JobNumber};
use folder::{Folder, Generation, Unnamed};
use fuse::Fuse;
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Raised when an older release would misread what is written.
const FORMAT_VERSION: u32 = 3;

/// Events in a sled database.
pub struct SledStore {
    database: Database,
    generation: Generation,
    /// Declared after `database`, since it holds the lock until sled has closed its files.
    folder: Folder,
    fuse: Fuse,
    broker_start: u64,
    next_sequence: u64,
    /// Where each job's records are, to delete them.
    records: BTreeMap<JobNumber, Records>,
    highest_forgotten: Option<JobNumber>,
    /// None once a compaction did not succeed: the next start will try again.
    thrift: Option<Thrift>,
    failed: bool,
}

/// The records of a job.
#[derive(Default)]
struct Records {
    sequences: Vec<u64>,
    bytes: u64,
}

impl SledStore {
    /// Opens the store in a folder, making it if need be, and counts the start.
    ///
    /// # Errors
    /// If another process has it open, it is on a network file system, a later release wrote it, or it is damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Thrift::default(), Fuse::default())
    }

    fn open_with(path: &Path, thrift: Thrift, fuse: Fuse) -> Result<Self, StoreError> {
        let folder = Folder::prepare(path, fuse.clone())?;
        let (generation, named) = folder.current()?;
        folder.sweep(generation)?;
        let database = Database::open(&folder.path_of(generation), fuse.clone())?;
        let mut store = Self {
            database,
            generation,
            folder,
            fuse,
            broker_start: 0,
            next_sequence: 0,
            records: BTreeMap::new(),
            highest_forgotten: None,
            thrift: Some(thrift),
            failed: false,
        };
        store.check_format()?;
        store.highest_forgotten = store.database.number(keys::FORGOTTEN)?.map(JobNumber);
        store.broker_start = store.database.number(keys::START)?.unwrap_or(0) + 1;
        store.finish_forgetting()?;
        store.index()?;
        store.write_start()?;
        if !named && !generation.is_early() {
            store.folder.name_current(generation)?;
        }
        store.compact_if_worth(u64::MAX)?;
        Ok(store)
    }

    /// Refuses what a later release wrote, before anything is read or written that it may have changed.
    fn check_format(&self) -> Result<(), StoreError> {
        let Some(header) = self.database.value(keys::HEADER)? else {
            return if self.database.is_empty() {
                Ok(())
            } else {
                Err(self.database.damaged("its header is missing"))
            };
        };
        let header = Header::decode(&*header)
            .map_err(|_| self.database.damaged("its header is no header"))?;
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
        self.database.scan(&[keys::TOMBSTONE], |key, _| {
            jobs.extend(keys::tombstone_job(key));
            Ok(())
        })?;
        if jobs.is_empty() {
            return Ok(());
        }
        let mut sequences: BTreeMap<JobNumber, Vec<u64>> = BTreeMap::new();
        self.database.scan(&[keys::EVENT], |key, _| {
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
        let mut records: BTreeMap<JobNumber, Records> = BTreeMap::new();
        let mut next_sequence = 0;
        let mut unfinished = Vec::new();
        self.database.scan(&[keys::EVENT], |key, value| {
            let corrupt = |reason| StoreError::Corrupt {
                sequence: next_sequence,
                reason,
            };
            let (sequence, job) = keys::event_parts(key).ok_or(corrupt("its key is no key"))?;
            let frame = records::unseal(key, &value).ok_or(StoreError::Corrupt {
                sequence,
                reason: "its checksum is wrong",
            })?;
            if frame.continues {
                unfinished.push((sequence, job, entry_bytes(key, &value)));
            } else {
                unfinished.clear();
            }
            let records = records.entry(job).or_default();
            records.sequences.push(sequence);
            records.bytes += entry_bytes(key, &value);
            next_sequence = sequence + 1;
            Ok(())
        })?;
        if !unfinished.is_empty() {
            tracing::info!(
                count = unfinished.len(),
                "dropping the beginning of a record that a crash cut off"
            );
            let mut writes = Writes::default();
            for &(sequence, job, bytes) in &unfinished {
                self.database
                    .remove(&mut writes, &keys::event(sequence, job))?;
                let records = records.entry(job).or_default();
                records.sequences.retain(|kept| *kept != sequence);
                records.bytes -= bytes;
            }
            self.database.apply(&mut writes)?;
        }
        self.records = records;
        self.next_sequence = next_sequence;
        Ok(())
    }

    fn write_start(&mut self) -> Result<(), StoreError> {
        let header = Header {
            format_version: FORMAT_VERSION,
            written_by: env!("CARGO_PKG_VERSION").into(),
        };
        let mut writes = Writes::default();
        let start = self.broker_start.to_be_bytes();
        self.database
            .put_whole(&mut writes, keys::HEADER, &header.encode_to_vec())?;
        self.database.put_whole(&mut writes, keys::START, &start)?;
        self.database.apply(&mut writes)?;
        self.database.sync()?;
        self.database.sync_names()
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
            self.database
                .put_whole(&mut writes, &keys::tombstone(*job), &[])?;
        }
        if let Some(highest) = forgotten.last().copied()
            && Some(highest) > self.highest_forgotten
        {
            self.database
                .put_whole(&mut writes, keys::FORGOTTEN, &highest.0.to_be_bytes())?;
            self.highest_forgotten = Some(highest);
        }
        // Nothing follows the forgetting of a job, so whatever else the batch says of it went before.
        let kept = batch.iter().filter(|event| {
            event
                .recorded_job()
                .is_some_and(|job| !forgotten.contains(&job))
        });
        for record in records::encode(kept) {
            self.put_record(&mut writes, &record)?;
        }
        if writes.key_count() == 0 {
            return Ok(());
        }
        self.database.apply(&mut writes)?;
        self.database.sync()?;
        if forgotten.is_empty() {
            return Ok(());
        }
        // The tombstones are durable: should we not come to the end of this, the next start will.
        for job in forgotten {
            let records = self.records.remove(&job).unwrap_or_default();
            self.remove_records(job, records.sequences)?;
        }
        match self.thrift {
            Some(thrift) => self.compact_if_worth(thrift.live_bytes_max_while_running),
            None => Ok(()),
        }
    }

    fn put_record(
        &mut self,
        writes: &mut Writes,
        record: &EncodedRecord,
    ) -> Result<(), StoreError> {
        let frames: Vec<_> = records::frames(&record.bytes).collect();
        // A record is cut in two by a crash only if it is larger than a whole batch.
        if writes.key_count() + frames.len() > BATCH_KEYS_MAX {
            self.database.apply(writes)?;
        }
        for frame in &frames {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let key = keys::event(sequence, record.job);
            let records = self.records.entry(record.job).or_default();
            records.sequences.push(sequence);
            records.bytes += self.database.put(writes, &key, frame)?;
        }
        Ok(())
    }

    /// Deletes a job's records, and its tombstone with the last of them.
    fn remove_records(&self, job: JobNumber, sequences: Vec<u64>) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        for sequence in sequences {
            self.database
                .remove(&mut writes, &keys::event(sequence, job))?;
        }
        self.database.remove(&mut writes, &keys::tombstone(job))?;
        self.database.apply(&mut writes)
    }

    /// Makes the files small again if they have become far too large for what lives, and that is not too much to move.
    fn compact_if_worth(&mut self, live_bytes_max: u64) -> Result<(), StoreError> {
        let Some(thrift) = self.thrift else {
            return Ok(());
        };
        let live_bytes = self.records.values().map(|records| records.bytes).sum();
        if live_bytes > live_bytes_max || !thrift.is_worth(self.database.disk_bytes()?, live_bytes)
        {
            return Ok(());
        }
        self.compact()
    }

    /// Moves what lives to a new generation. If that cannot be done, say for want of room, the old one goes on.
    fn compact(&mut self) -> Result<(), StoreError> {
        let next = self.generation.next();
        let before_bytes = self.database.disk_bytes()?;
        let database = match self.copy_to(next) {
            Ok(database) => database,
            Err(Unnamed::Perhaps(error)) => return Err(error),
            Err(Unnamed::Surely(error)) => {
                tracing::warn!(%error, "the store's files stay as large as they are");
                self.thrift = None;
                self.sweep();
                return Ok(());
            }
        };
        self.database = database;
        self.generation = next;
        self.sweep();
        let after_bytes = self.database.disk_bytes()?;
        tracing::info!(before_bytes, after_bytes, "made the store's files smaller");
        Ok(())
    }

    /// Makes this process stop, as it were, between two writes.
    #[cfg(test)]
    fn set_fuse(&mut self, fuse: Fuse) {
        self.database.set_fuse(fuse.clone());
        self.folder.set_fuse(fuse.clone());
        self.fuse = fuse;
    }

    fn copy_to(&self, next: Generation) -> Result<Database, Unnamed> {
        let path = self.folder.path_of(next);
        let database = Database::open(&path, self.fuse.clone()).map_err(Unnamed::Surely)?;
        compaction::copy(&self.database, &database).map_err(Unnamed::Surely)?;
        self.folder.name_current(next)?;
        Ok(database)
    }

    /// Removes other generations; what resists is removed at the next start.
    fn sweep(&self) {
        if let Err(error) = self.folder.sweep(self.generation) {
            tracing::warn!(%error, "an old generation of the store stays for now");
        }
    }
}

impl Store for SledStore {
    fn replay(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), StoreError> {
        if let Some(job) = self.highest_forgotten {
            apply(Event::JobForgotten { job });
        }
        let mut begun: Option<(JobNumber, u64, Vec<u8>)> = None;
        self.database.scan(&[keys::EVENT], |key, value| {
            let (sequence, job) = keys::event_parts(key).unwrap_or((0, JobNumber(0)));
            let corrupt = |reason| StoreError::Corrupt { sequence, reason };
            let frame = records::unseal(key, &value).ok_or(corrupt("its checksum is wrong"))?;
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

#[cfg(test)]
mod tests;
