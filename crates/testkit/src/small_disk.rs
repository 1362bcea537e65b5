//! A disk that is soon full: a file system in memory, which only root may mount.

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Sizes of what fills it, in bytes: the last leaves no byte free.
const FILLINGS: [usize; 3] = [1 << 20, 4096, 1];

/// A file system, mounted while this lives.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at a folder that is there and empty.
    ///
    /// # Errors
    /// If that cannot be had here; the text says why.
    pub fn mount(folder: &Path, size_mib: u32) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("only root may mount a small disk");
        }
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_mib}m"), "tmpfs"])
            .arg(folder)
            .output()
            .context("mount")?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", why.trim());
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    /// If nothing can be written at all.
    pub fn fill(&self) -> Result<()> {
        let mut options = fs::File::options();
        let mut file = options.append(true).create(true).open(self.filler())?;
        for size in FILLINGS {
            let bytes = vec![7; size];
            while file.write_all(&bytes).is_ok() {}
        }
        Ok(())
    }

    /// Takes away what filled it.
    ///
    /// # Errors
    /// If nothing did.
    pub fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test leaves behind may still have files open.
        let mut unmount = Command::new("umount");
        let unmounted = unmount.arg("--lazy").arg(&self.folder).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
