//! Which file systems keep what they promise: locks that hold, and syncs that reach a disk.
//!
//! statfs(2) tells the type by a number. All that run in user space (FUSE) share one, and tell theirs by name in the list
//! of mounts: there only those are taken that are known to lie on this machine. One that encrypts another folder is what that
//! folder is on. An overlay may be written to only if it lies on a local disk, by the kernel's own rules.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Network and cluster file systems by their numbers.
const NETWORK_FILE_SYSTEMS: [(u64, &str); 14] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0102_1997, "9p"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x2003_0528, "OrangeFS"),
    (0xaad7_aaea, "PanFS"),
];

/// The number of all file systems in user space.
const FUSE: u64 = 0x6573_5546;

/// Those of them that lie on a disk of this machine. Not mergerfs: where the folders are that it joins cannot be told from
/// here.
const LOCAL_FUSE: [&str; 7] = [
    "fuseblk",
    "fuse.ntfs",
    "fuse.ntfs-3g",
    "fuse.exfat",
    "fuse.ext2",
    "fuse.fuse2fs",
    "fuse.fuse-overlayfs",
];

/// Encrypts another folder, which the list of mounts names as its source.
const ENCRYPTED_FOLDER: &str = "fuse.gocryptfs";

/// Where Linux lists what is mounted, as this process sees it.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The name of the network file system that a folder is on; None if it is on a local one.
///
/// # Errors
/// If the folder cannot be looked at.
pub fn network_kind(path: &Path) -> io::Result<Option<String>> {
    let status = rustix::fs::statfs(path)?;
    // The number has 32 bits, but its type differs between architectures, and its sign with it.
    let number = status.f_type as u64 & 0xffff_ffff;
    if number == FUSE {
        return fuse_kind(path);
    }
    let network = NETWORK_FILE_SYSTEMS
        .iter()
        .find(|(known, _)| *known == number);
    Ok(network.map(|(_, kind)| (*kind).to_owned()))
}

fn fuse_kind(path: &Path) -> io::Result<Option<String>> {
    let device_number = fs::metadata(path)?.dev();
    let device = format!(
        "{}:{}",
        rustix::fs::major(device_number),
        rustix::fs::minor(device_number)
    );
    match listed(&fs::read_to_string(MOUNTS)?, &device) {
        Listed::Local => Ok(None),
        Listed::Network(kind) => Ok(Some(kind)),
        // One that cannot be seen from here, or is its own source, is not believed.
        Listed::In(folder) => match fs::metadata(&folder) {
            Ok(metadata) if metadata.dev() != device_number => network_kind(&folder),
            _ => Ok(Some(ENCRYPTED_FOLDER.to_owned())),
        },
    }
}

/// What the list of mounts says of a file system in user space.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    Local,
    Network(String),
    /// It is where this folder is.
    In(PathBuf),
}

fn listed(mounts: &str, device: &str) -> Listed {
    match kind_of(mounts, device) {
        // It cannot be told from a network's.
        None => Listed::Network("FUSE".to_owned()),
        Some((ENCRYPTED_FOLDER, source)) => Listed::In(unescaped(source)),
        Some((kind, _)) if LOCAL_FUSE.contains(&kind) => Listed::Local,
        Some((kind, _)) => Listed::Network(kind.to_owned()),
    }
}

/// Type and source of the file system with a device number, by proc_pid_mountinfo(5): the third field is the number, and the
/// two come after a dash that ends the optional fields.
fn kind_of<'a>(mounts: &'a str, device: &str) -> Option<(&'a str, &'a str)> {
    mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device))
        .find_map(|line| {
            let mut fields = line.split_once(" - ")?.1.split(' ');
            Some((fields.next()?, fields.next().unwrap_or_default()))
        })
}

/// A path as it is: the list writes blanks and backslashes as octal numbers.
fn unescaped(path: &str) -> PathBuf {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let path = escapes
        .iter()
        .fold(path.to_owned(), |path, (escape, plain)| {
            path.replace(escape, plain)
        });
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 27 0:52 / /data/a\\040b rw,nosuid shared:7 master:1 - fuse.sshfs ann@far:/data rw,user_id=0
31 27 8:17 / /mnt/usb rw - fuseblk /dev/sdb1 rw
32 27 0:53 / /gluster rw,relatime shared:8 - fuse.glusterfs host:/v rw
34 27 0:55 / /pool rw,relatime - fuse.mergerfs a:b rw
35 27 0:56 / /plain rw,relatime - fuse.gocryptfs /nfs/a\\040b\\134c rw
broken
33 27 0:54 / /odd rw";

    #[test]
    fn the_type_is_found_by_the_device() {
        assert_eq!(kind_of(LISTED, "0:21"), Some(("proc", "proc")));
        let sshfs = ("fuse.sshfs", "ann@far:/data");
        assert_eq!(kind_of(LISTED, "0:52"), Some(sshfs));
        assert_eq!(kind_of(LISTED, "8:17"), Some(("fuseblk", "/dev/sdb1")));
        assert_eq!(kind_of(LISTED, "0:53"), Some(("fuse.glusterfs", "host:/v")));
        assert_eq!(kind_of(LISTED, "0:54"), None);
        assert_eq!(kind_of(LISTED, "0:5"), None);
        assert_eq!(kind_of("", "0:5"), None);
    }

    #[test]
    fn what_is_not_known_to_be_local_is_taken_for_a_networks() {
        let network = |kind: &str| Listed::Network(kind.to_owned());
        assert_eq!(listed(LISTED, "8:17"), Listed::Local);
        assert_eq!(listed(LISTED, "0:52"), network("fuse.sshfs"));
        assert_eq!(listed(LISTED, "0:55"), network("fuse.mergerfs"));
        assert_eq!(listed(LISTED, "0:99"), network("FUSE"));
        // What is encrypted may be anywhere.
        assert_eq!(listed(LISTED, "0:56"), Listed::In("/nfs/a b\\c".into()));
    }

    #[test]
    fn a_local_folder_is_found_in_the_real_list() {
        let folder = Path::new("/proc/self");
        let device = fs::metadata(folder).unwrap().dev();
        let device = format!(
            "{}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        );
        let mounts = fs::read_to_string(MOUNTS).unwrap();
        assert_eq!(kind_of(&mounts, &device), Some(("proc", "proc")));
        assert_eq!(network_kind(folder).unwrap(), None);
    }
}
