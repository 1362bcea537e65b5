//! Keys: a letter for what is kept under them, then numbers, big-endian, so that their order is that of writing.

use dewar_queue::JobNumber;

/// How to read the rest.
pub(super) const HEADER: &[u8] = &[0, 1];

/// How often the store was opened.
pub(super) const START: &[u8] = &[0, 2];

/// The highest number among forgotten jobs.
pub(super) const FORGOTTEN: &[u8] = &[0, 3];

/// Prefix of events.
pub(super) const EVENT: u8 = 1;

/// Prefix of jobs whose records are being deleted.
pub(super) const TOMBSTONE: u8 = 2;

/// The key of a frame: its position, then its job, so that an index of jobs needs no values.
pub(super) fn event(sequence: u64, job: JobNumber) -> [u8; 17] {
    let mut key = [EVENT; 17];
    key[1..9].copy_from_slice(&sequence.to_be_bytes());
    key[9..].copy_from_slice(&job.0.to_be_bytes());
    key
}

/// Position and job of a frame's key.
pub(super) fn event_parts(key: &[u8]) -> Option<(u64, JobNumber)> {
    let (sequence, rest) = key.strip_prefix(&[EVENT])?.split_first_chunk()?;
    let job = rest.try_into().ok()?;
    Some((
        u64::from_be_bytes(*sequence),
        JobNumber(u64::from_be_bytes(job)),
    ))
}

/// The key that says that a job's records are to be deleted.
pub(super) fn tombstone(job: JobNumber) -> [u8; 9] {
    let mut key = [TOMBSTONE; 9];
    key[1..].copy_from_slice(&job.0.to_be_bytes());
    key
}

/// The job of a tombstone's key.
pub(super) fn tombstone_job(key: &[u8]) -> Option<JobNumber> {
    let job = key.strip_prefix(&[TOMBSTONE])?.try_into().ok()?;
    Some(JobNumber(u64::from_be_bytes(job)))
}
