//! What daemons tell whoever started them, by sd_notify(3): this is the end that hears it, as systemd would.

use anyhow::{Context, Result};
use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

/// A socket to be named to a daemon by `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl NotifySocket {
    /// Makes one in a folder of its own, whose path is short enough for a socket.
    ///
    /// # Errors
    /// If the file system says no.
    pub fn bind() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self {
            socket,
            path,
            _folder: folder,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for what is said next: assignments, one a line.
    ///
    /// # Errors
    /// If nothing is said within the limit.
    pub fn hear(&self, limit: Duration) -> Result<String> {
        self.socket.set_read_timeout(Some(limit))?;
        let mut said = [0; 4096];
        let length = self
            .socket
            .recv(&mut said)
            .with_context(|| format!("nothing was said for {} s", limit.as_secs()))?;
        Ok(String::from_utf8_lossy(&said[..length]).trim().to_owned())
    }
}
