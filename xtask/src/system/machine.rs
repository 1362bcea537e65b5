//! A Debian of its own, booted by systemd in a container with nothing but a loopback network. What happens in it does not
//! touch the host, and ends with it.

use super::image::Image;
use crate::target_dir;
use anyhow::{Context, Result};
use dewar_testkit::{Guarded, NotifySocket};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Far longer than a boot takes on a machine that is busy otherwise.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running machine. Dropping it switches it off.
pub struct Machine {
    process: Guarded,
    /// Its first process, as the host numbers it.
    leader: String,
    root: PathBuf,
    // Last, when the machine is off.
    _disk: tempfile::TempDir,
}

impl Drop for Machine {
    /// By its first process, with which the kernel ends all others in it; the container's own end would leave it running.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.leader]).status();
        let _ = self.process.child().kill();
    }
}

impl Machine {
    /// Boots a copy of the image, and gives it a name.
    pub fn boot(image: &Image, name: &str) -> Result<Self> {
        let disk = tempfile::tempdir_in(target_dir().join("system"))?;
        let root = disk.path().join("root");
        image.copy_to(&root)?;
        fs::write(root.join("etc/hostname"), format!("{name}\n"))?;
        // As Debian's installer does. Slurm takes a machine that has nothing but 127.0.0.1 for one without a network.
        let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n");
        fs::write(root.join("etc/hosts"), hosts)?;

        let systemd = NotifySocket::bind()?;
        let log = fs::File::create(disk.path().join("console.log"))?;
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["--quiet", "--boot", "--private-network", "--console=pipe"])
            // It is not one of the machines that the host's systemd knows, if it has one.
            .args(["--register=no", "--keep-unit", "--notify-ready=yes"])
            .arg("--directory")
            .arg(&root)
            .env("NOTIFY_SOCKET", systemd.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Guarded::start("systemd-nspawn", &mut command)?;
        let leader = booted(&systemd).with_context(|| {
            let console = fs::read_to_string(disk.path().join("console.log"));
            format!("no machine booted:\n{}", console.unwrap_or_default())
        })?;
        let machine = Self {
            process,
            leader,
            root,
            _disk: disk,
        };
        machine.run("ip address add 127.0.1.1/8 dev lo")?;
        Ok(machine)
    }

    /// Its disk, as the host sees it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a shell does in it, as root: each line must succeed.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .env_clear()
            .envs([("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")])
            .args(["--target", &self.leader])
            .args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--",
            ])
            .args(["sh", "-ec", script])
            .stdin(Stdio::null());
        command
    }

    /// The same as another account.
    pub fn shell_of(&self, account: &str, script: &str) -> Command {
        let mut command = self.shell("cd; exec runuser -u \"$ACCOUNT\" -- sh -ec \"$SCRIPT\"");
        command
            .env("ACCOUNT", account)
            .env("SCRIPT", script)
            .env("HOME", format!("/home/{account}"));
        command
    }

    /// Runs a shell's lines as root.
    pub fn run(&self, script: &str) -> Result<()> {
        self.ask(script).map(drop)
    }

    /// The same, for what they print.
    pub fn ask(&self, script: &str) -> Result<String> {
        dewar_testkit::output(&mut self.shell(script))
            .with_context(|| format!("in the machine: {script}"))
    }
}

/// Waits until a container has booted; gives its first process.
fn booted(systemd: &NotifySocket) -> Result<String> {
    let (mut leader, mut is_ready) = (None, false);
    loop {
        if is_ready && let Some(leader) = leader {
            return Ok(leader);
        }
        let said = systemd.hear(BOOT_LIMIT)?;
        for line in said.lines() {
            match line.split_once('=') {
                Some(("X_NSPAWN_LEADER_PID", id)) => leader = Some(id.to_owned()),
                Some(("READY", "1")) => is_ready = true,
                _ => {}
            }
        }
    }
}
