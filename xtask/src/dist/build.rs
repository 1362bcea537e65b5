//! The programs of a release, built once, and the packages made of them.

use super::{PROGRAMS, check_glibc, commit_time, make_empty};
use crate::{root, target_dir, test_tools};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// That of RHEL 8, Debian 10 and Ubuntu 18.10: older systems have come to their end.
pub(super) const GLIBC: (u32, u32) = (2, 28);

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What links against the symbols of an old glibc, from PyPI.
const ZIG: [&str; 2] = ["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];

const CARGO_DEB: &str = "3.8.0";

/// The programs of a release, with what is made of their flags.
pub struct Build {
    /// Where the programs are.
    pub folder: PathBuf,
    cargo_deb: PathBuf,
}

impl Build {
    /// Builds them, with tools that it installs below the target folder.
    pub fn make() -> Result<Self> {
        let cargo_deb = cargo_deb()?;
        zigbuild(&root())?;
        let build = Self {
            folder: programs_dir(),
            cargo_deb,
        };
        for (program, _) in PROGRAMS {
            check_glibc(&build.folder.join(program))?;
            build.describe(program)?;
        }
        Ok(build)
    }

    /// Where a program's pages of the manual, completions and Debian's changelog are.
    pub fn description(&self, program: &str) -> PathBuf {
        self.folder.join("packaged").join(program)
    }

    /// Lets a program write its pages of the manual and completions.
    fn describe(&self, program: &str) -> Result<()> {
        let folder = self.description(program);
        make_empty(&folder)?;
        let path = self.folder.join(program);
        let man = folder.join("man");
        dewar_testkit::run(Command::new(&path).arg("--man").arg(&man))?;
        let mut pages = Vec::new();
        for page in fs::read_dir(&man)? {
            pages.push(page?.path());
        }
        gzip(&pages)?;
        for shell in ["bash", "zsh", "fish"] {
            let mut command = Command::new(&path);
            let script = dewar_testkit::output(command.args(["--completions", shell]))?;
            fs::write(folder.join(shell), script)?;
        }
        Ok(())
    }

    /// Puts the packages of all programs into a folder, as this revision of the version.
    pub fn packages(&self, out: &Path, revision: u32) -> Result<Vec<PathBuf>> {
        let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
        let time = commit_time()?.to_string();
        let mut date = Command::new("date");
        let date = dewar_testkit::output(
            date.args(["--utc", "--rfc-email", "--date"])
                .arg(format!("@{time}")),
        )?;
        let mut packages = Vec::new();
        for (program, krate) in PROGRAMS {
            eprintln!("\n==> cargo deb --package {krate}, {version}");
            let changelog = format!(
                "{program} ({version}) unstable; urgency=medium\n\n  \
                 * What changed is in /usr/share/doc/{program}/NEWS.md.\n\n \
                 -- The Dewar authors <dewar@users.noreply.github.com>  {date}"
            );
            let path = self.description(program).join("changelog.Debian");
            fs::write(&path, changelog)?;
            gzip(&[path])?;
            let package = out.join(format!("{program}_{version}_amd64.deb"));
            dewar_testkit::run(
                Command::new(&self.cargo_deb)
                    .current_dir(root())
                    .env("SOURCE_DATE_EPOCH", &time)
                    .args([
                        "--no-build",
                        "--quiet",
                        "--target",
                        TARGET,
                        "--package",
                        krate,
                    ])
                    .args(["--deb-revision", &revision.to_string(), "--output"])
                    .arg(&package),
            )?;
            packages.push(package);
        }
        Ok(packages)
    }
}

/// Where [`zigbuild`] puts programs.
pub fn programs_dir() -> PathBuf {
    target_dir().join(TARGET).join("release")
}

/// Builds the programs of these sources, against the symbols of an old glibc.
pub fn zigbuild(source: &Path) -> Result<()> {
    let bin = zig()?.join("bin");
    let (major, minor) = GLIBC;
    eprintln!("\n==> cargo zigbuild --release, for glibc {major}.{minor}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [bin.clone()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    )?;
    dewar_testkit::run(
        Command::new(bin.join("cargo-zigbuild"))
            .current_dir(source)
            .env("PATH", path)
            .env("CARGO_TARGET_DIR", target_dir())
            .args(["zigbuild", "--release", "--bins", "--target"])
            .arg(format!("{TARGET}.{major}.{minor}"))
            .args(PROGRAMS.iter().flat_map(|(_, krate)| ["--package", krate])),
    )
}

/// zig and cargo-zigbuild, in a virtual environment of their own.
fn zig() -> Result<PathBuf> {
    let venv = target_dir().join("dist-venv");
    test_tools::provide_venv(&venv, &ZIG)
        .context("a release is linked by packages from PyPI; is it reachable?")?;
    Ok(venv)
}

/// Puts what gzip makes of files in their place, without their times.
fn gzip(paths: &[PathBuf]) -> Result<()> {
    dewar_testkit::run(Command::new("gzip").args(["-9nf"]).args(paths))
}

fn cargo_deb() -> Result<PathBuf> {
    let tools = target_dir().join("tools");
    let program = tools.join("bin/cargo-deb");
    let mut version = Command::new(&program);
    let is_here = version.arg("--version").output().is_ok_and(|said| {
        String::from_utf8_lossy(&said.stdout)
            .trim()
            .ends_with(CARGO_DEB)
    });
    if !is_here {
        eprintln!("\n==> cargo install cargo-deb");
        dewar_testkit::run(
            Command::new(env!("CARGO"))
                .args([
                    "install",
                    "cargo-deb",
                    "--force",
                    "--quiet",
                    "--locked",
                    "--version",
                    CARGO_DEB,
                ])
                .arg("--root")
                .arg(&tools)
                .arg("--target-dir")
                .arg(tools.join("build")),
        )?;
    }
    Ok(program)
}
