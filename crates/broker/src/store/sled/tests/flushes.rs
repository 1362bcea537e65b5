//! Whether commits reach the disk itself: its device counts how often it was told to flush.

use super::*;
use std::os::unix::fs::MetadataExt as _;

const COMMIT_COUNT: u64 = 40;

#[test]
fn every_commit_is_a_flush_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    match flushes_of_commits(folder.path()) {
        Err(reason) => eprintln!("skipped: {reason}"),
        Ok(flush_count) => assert!(
            flush_count >= COMMIT_COUNT,
            "{flush_count} flushes for {COMMIT_COUNT} commits"
        ),
    }
}

/// How often the device of a folder flushed while a store in it committed one event after another, or why nobody knows.
pub(super) fn flushes_of_commits(folder: &Path) -> Result<u64, String> {
    let device = Device::of(folder)?;
    let before = device.flush_count();
    let mut file = fs::File::create(folder.join("probe")).unwrap();
    for _ in 0..4 {
        file.write_all(b"plain").unwrap();
        file.sync_data().unwrap();
    }
    if device.flush_count() < before + 4 {
        let path = device.statistics.display();
        return Err(format!("{path} does not count the flushes of a plain file"));
    }
    let mut store = SledStore::open(&folder.join("counted")).unwrap();
    let events = every_durable_event(1);
    let before = device.flush_count();
    for event in events.iter().cycle().take(COMMIT_COUNT as usize) {
        store.append(std::slice::from_ref(event)).unwrap();
    }
    Ok(device.flush_count() - before)
}

/// A disk, as the kernel counts its doings.
pub(super) struct Device {
    statistics: PathBuf,
}

impl Device {
    /// The disk that a folder is on.
    pub(super) fn of(folder: &Path) -> Result<Self, String> {
        let number = fs::metadata(folder).unwrap().dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        // Flushes are counted for whole disks only.
        let path = match path.join("partition").exists() {
            true => path.join(".."),
            false => path,
        };
        let statistics = path.join("stat");
        match fs::read_to_string(&statistics) {
            Ok(text) if text.split_whitespace().count() > 15 => Ok(Self { statistics }),
            Ok(_) => Err(format!("{} counts no flushes", statistics.display())),
            Err(_) => Err(format!("{} is on no disk of its own", folder.display())),
        }
    }

    pub(super) fn flush_count(&self) -> u64 {
        self.number(15)
    }

    /// Writes that have ended. It stands still when nothing writes.
    pub(super) fn write_count(&self) -> u64 {
        self.number(4)
    }

    /// Field numbers are those of the kernel's `Documentation/block/stat.rst`, from 0.
    fn number(&self, field: usize) -> u64 {
        let text = fs::read_to_string(&self.statistics).unwrap();
        let number = text.split_whitespace().nth(field).unwrap();
        number.parse().unwrap()
    }
}
