//! A Debian on disk, fresh from its installer, of which each machine gets a copy.

use crate::target_dir;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const SUITE: &str = "bookworm";

/// What is in it besides the least that Debian is: a system that boots, and others that the tests bring Dewar together with.
const PACKAGES: [&str; 7] = [
    "iproute2",
    "munge",
    "openssh-client",
    "openssh-server",
    "procps",
    "slurm-wlm",
    "systemd-sysv",
];

/// Started by those tests that need them, with settings of their own.
const SERVICES: [&str; 4] = ["munge", "slurmctld", "slurmd", "ssh"];

/// The folder that would be its root.
pub struct Image(PathBuf);

impl Image {
    /// Installs it, unless it is there already.
    pub fn make() -> Result<Self> {
        let wanted = format!("{SUITE} {}", PACKAGES.join(","));
        let folder = target_dir().join("system");
        let (root, stamp) = (folder.join("debian"), folder.join("debian.txt"));
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(Self(root));
        }
        eprintln!("\n==> debootstrap {SUITE}");
        fs::create_dir_all(&folder)?;
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let log = folder.join("debootstrap.log");
        dewar_testkit::run(
            Command::new("debootstrap")
                .args(["--variant=minbase", "--include", &PACKAGES.join(",")])
                .arg(SUITE)
                .arg(&root)
                .stdout(fs::File::create(&log)?),
        )
        .with_context(|| format!("Debian's mirror is needed; {} says more", log.display()))?;
        dewar_testkit::run(
            Command::new("systemctl")
                .arg(format!("--root={}", root.display()))
                .args(["--quiet", "disable"])
                .args(SERVICES),
        )?;
        fs::write(stamp, wanted)?;
        Ok(Self(root))
    }

    /// Copies it to a path where nothing is yet.
    pub fn copy_to(&self, root: &Path) -> Result<()> {
        let mut command = Command::new("cp");
        dewar_testkit::run(
            command
                .args(["-a", "--reflink=auto"])
                .arg(&self.0)
                .arg(root),
        )
    }
}
