//! Folders of this machine: whether they can be written, how much room they have, how fast they are, what they lie on.

use super::finding::Finding;
use crate::size;
use dewar_blobs::examine_cache as examine_chunks;
use dewar_sdk::BrokerStatus;
use dewar_settings::{broker_data_dir, host_name, network_kind, worker_cache_dir};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

/// Less room than this holds no stack worth a worker's while.
const ROOM_MIN_BYTES: u64 = 1 << 30;

/// Less than this is soon full.
const ROOM_WANTED_BYTES: u64 = 10 << 30;

/// Bytes that are written to see how fast a disk is; a quarter of the room if that is less.
const WRITTEN_BYTES: u64 = 32 << 20;

/// A slower disk holds up a gigabit link.
const SLOW_BYTES_PER_S: f64 = 50e6;

/// Chunks of a cache that are read and checked: half a second's worth on a slow disk.
const CHUNKS_READ_MAX: usize = 64;

/// The worker's folder on this machine.
pub fn examine_cache(named: Option<PathBuf>) -> Vec<Finding> {
    let folder = match named.map_or_else(worker_cache_dir, Ok) {
        Ok(folder) => folder,
        Err(error) => {
            let mut findings = vec![Finding::failed(
                "cache-folder",
                "find the worker's folder",
                error.to_string(),
                "name one with --cache-dir",
            )];
            skip_cache(&mut findings, "there is no folder");
            return findings;
        }
    };
    // Before its first worker the folder is not there, and made where it is to be.
    let place = standing(&folder);
    let shown = folder.display();
    let tried = format!("write in {shown}");
    if let Err(error) = try_to_write(place) {
        let mut findings = vec![unwritable(
            "cache-folder",
            tried,
            place,
            &error,
            "--cache-dir",
        )];
        skip_cache(&mut findings, "the folder cannot be written");
        return findings;
    }
    let came = match place == folder {
        true => "done".to_owned(),
        false => format!("not there yet, but {} can be written", place.display()),
    };
    let on_network = network_kind(place).ok().flatten();
    let writable = match on_network {
        Some(kind) => Finding::warning(
            "cache-folder",
            tried,
            format!("{came}, on a network file system ({kind})"),
            "choose a local disk with --cache-dir: there every chunk crosses the network twice, and locks may not hold",
        ),
        None => Finding::ok("cache-folder", tried, came),
    };
    let free = free_bytes(place);
    vec![
        writable,
        room(&folder, free),
        speed(place, free),
        health(&folder),
    ]
}

fn skip_cache(findings: &mut Vec<Finding>, because: &str) {
    for check in ["cache-space", "cache-speed", "cache-health"] {
        findings.push(Finding::skipped(check, because));
    }
}

/// The broker's folder, if it is on this machine.
pub fn examine_data(named: Option<PathBuf>, broker: Option<&BrokerStatus>) -> Option<Finding> {
    let is_named = named.is_some();
    let folder = match broker {
        Some(status) if !is_named => {
            let is_here = status.host_name == host_name();
            Some(PathBuf::from(&status.data_dir)).filter(|_| is_here)
        }
        _ => named.or_else(|| broker_data_dir().ok()),
    };
    // No broker has run here, and nobody says that one should.
    let folder = folder.filter(|folder| is_named || folder.exists())?;
    let place = standing(&folder);
    let tried = format!("look at what {} is on", folder.display());
    Some(match network_kind(place) {
        Ok(Some(kind)) => on_network(tried, &kind),
        Ok(None) => {
            let free = free_bytes(place).map_or_else(String::new, |bytes| {
                format!(", {} free", size::rounded(bytes))
            });
            match try_to_write(place) {
                Ok(()) => Finding::ok("data-folder", tried, format!("a local disk{free}")),
                // The service's own folder is closed to everybody else.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_named => {
                    Finding::ok(
                        "data-folder",
                        tried,
                        format!("a local disk{free}; it belongs to another account"),
                    )
                }
                Err(error) => unwritable("data-folder", tried, place, &error, "--data-dir"),
            }
        }
        Err(error) => unwritable("data-folder", tried, place, &error, "--data-dir"),
    })
}

fn on_network(tried: String, kind: &str) -> Finding {
    Finding::failed(
        "data-folder",
        tried,
        format!(
            "a network file system ({kind}), whose locks and syncs do not keep what they promise: a broker does not start there"
        ),
        "choose a folder on a local disk with dewar-broker --data-dir",
    )
}

/// The folder itself, or the nearest above it that is there.
fn standing(folder: &Path) -> &Path {
    let mut above = folder
        .ancestors()
        .filter(|folder| !folder.as_os_str().is_empty());
    above
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."))
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    let probe = Probe::create(folder)?;
    let mut file = &probe.file;
    file.write_all(&[0; 4096])?;
    probe.file.sync_all()
}

fn unwritable(
    check: &'static str,
    tried: String,
    place: &Path,
    error: &io::Error,
    flag: &str,
) -> Finding {
    let place = place.display();
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room on the disk of {place}, or name a folder on another with {flag}")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "{place} is mounted read-only (after a disk error, perhaps: see dmesg): mount it for writing, or name another with {flag}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "{place} belongs to another account: give it to this one with chown, or name another with {flag}"
            )
        }
        _ => format!("look at the disk of {place} (dmesg), or name another folder with {flag}"),
    };
    Finding::failed(check, tried, error.to_string(), cure)
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

fn room(folder: &Path, free: Option<u64>) -> Finding {
    let tried = format!("ask for room at {}", folder.display());
    let Some(free) = free else {
        let cure = "look at the disk (dmesg), or name another folder with --cache-dir";
        return Finding::failed("cache-space", tried, "the system does not say", cure);
    };
    let came = format!("{} free", size::rounded(free));
    let cure = format!(
        "make room, or name a folder on a larger disk with --cache-dir; dewar-worker --cache-size bounds what it takes (50 GiB by \
         default). At least {} should be free",
        size::rounded(ROOM_WANTED_BYTES)
    );
    match free {
        0..ROOM_MIN_BYTES => Finding::failed("cache-space", tried, came, cure),
        ROOM_MIN_BYTES..ROOM_WANTED_BYTES => Finding::warning("cache-space", tried, came, cure),
        _ => Finding::ok("cache-space", tried, came),
    }
}

fn speed(folder: &Path, free: Option<u64>) -> Finding {
    let bytes = WRITTEN_BYTES.min(free.unwrap_or(WRITTEN_BYTES) / 4);
    let tried = format!("write {} in {}", size::rounded(bytes), folder.display());
    match write_timed(folder, bytes) {
        Ok(took) => {
            let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
            let came = format!("{:.0} MB/s, flushed", rate / 1e6);
            if rate < SLOW_BYTES_PER_S {
                let cure = "data will come no faster than that: name a folder on a faster disk with --cache-dir, if there is one";
                Finding::warning("cache-speed", tried, came, cure)
            } else {
                Finding::ok("cache-speed", tried, came)
            }
        }
        Err(error) => unwritable("cache-speed", tried, folder, &error, "--cache-dir"),
    }
}

fn write_timed(folder: &Path, bytes: u64) -> io::Result<Duration> {
    let probe = Probe::create(folder)?;
    let block = vec![0x5a; 1 << 20];
    let began = Instant::now();
    let mut file = &probe.file;
    let mut left = bytes;
    while left > 0 {
        let count = left.min(block.len() as u64);
        file.write_all(&block[..count as usize])?;
        left -= count;
    }
    probe.file.sync_all()?;
    Ok(began.elapsed())
}

fn health(folder: &Path) -> Finding {
    let tried = format!("read chunks in {} and check them", folder.display());
    match examine_chunks(folder, CHUNKS_READ_MAX) {
        Ok(found) if found.broken.is_empty() => {
            let came = format!(
                "{} of {} read, all sound",
                found.read_count, found.chunk_count
            );
            Finding::ok("cache-health", tried, came)
        }
        Ok(found) => {
            let names: Vec<String> = found
                .broken
                .iter()
                .take(3)
                .map(|path| path.display().to_string())
                .collect();
            Finding::failed(
                "cache-health",
                tried,
                format!(
                    "{} of {} read are broken, such as {}",
                    found.broken.len(),
                    found.read_count,
                    names.join(", ")
                ),
                "a worker fetches them again by itself, but the disk or the memory of this machine lost bytes: look at dmesg and \
                 smartctl, and test the memory",
            )
        }
        Err(error) => unwritable("cache-health", tried, folder, &error, "--cache-dir"),
    }
}

/// A file that is gone when this is dropped.
struct Probe {
    file: File,
    path: PathBuf,
}

impl Probe {
    fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!(".dewar-doctor-{}", process::id()));
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Whatever hindered it has been told already.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn too_little_room_is_told() {
        let folder = Path::new("/cache");
        let verdict = |free| room(folder, free).verdict;
        assert_eq!(verdict(Some(10 << 20)), Verdict::Failed);
        assert_eq!(verdict(Some(2 << 30)), Verdict::Warning);
        assert_eq!(verdict(Some(20 << 30)), Verdict::Ok);
        assert_eq!(verdict(None), Verdict::Failed);
    }

    #[test]
    fn a_brokers_folder_on_a_network_is_named_with_what_to_do() {
        // Mounting one takes a server and a kernel that has the module; what is told of it does not.
        let finding = on_network("look".to_owned(), "NFS");
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.came.contains("NFS"), "{finding:?}");
        assert!(finding.cure.unwrap().contains("--data-dir"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_looked_for_above() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b/c");
        assert_eq!(standing(&below), folder.path());
        let findings = examine_cache(Some(below));
        assert_eq!(findings[0].verdict, Verdict::Ok);
        assert!(findings[0].came.contains("not there yet"), "{findings:?}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left"
        );
    }
}
