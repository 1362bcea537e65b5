//! `cargo xtask test --system`: what can only be told of a whole machine. Packages, units, a batch system and ssh are tried in a
//! Debian that is booted in a container of this one, by the programs of a release.

mod browser;
mod image;
mod lab;
mod machine;
mod packages;
mod slurm;
mod ssh;
mod upgrade;

use crate::{dist::Build, target_dir, test_tools};
use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use image::Image;
use std::{cell::OnceCell, fs, path::PathBuf, process::Command, time::Instant};

/// One of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Trial {
    /// The web page in a real Chromium.
    Browser,
    /// Debian's own judge of packages finds no error in them.
    Lintian,
    /// Packages install, start, are upgraded while work runs, backed up, restored, and removed.
    Packages,
    /// An array of workers under Slurm.
    Slurm,
    /// Workers started over ssh from a list of hosts.
    Ssh,
    /// The release before this one beside it, and replaced by it.
    Upgrade,
}

/// What the tests are made of.
pub struct Kit {
    image: Image,
    /// The folder of the programs, for tests on the host itself.
    programs: PathBuf,
    /// The packages of the release, and of one after it.
    packages: [Vec<PathBuf>; 2],
}

/// Programs that the tests need of the host, and the packages that bring them.
const NEEDED: [(&str, &str); 3] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("lintian", "lintian"),
];

/// Runs those that are named, or all; says which failed, and why.
pub fn run(only: &[Trial]) -> Result<()> {
    let start = Instant::now();
    if let Some(reason) = unable() {
        eprintln!("SKIPPED all tests of the system: {reason}");
        return Ok(());
    }
    let kit = LazyKit::default();
    let chosen = Trial::value_variants()
        .iter()
        .filter(|trial| only.is_empty() || only.contains(trial));
    let (mut passed_count, mut failed_count) = (0, 0);
    for trial in chosen {
        let began = Instant::now();
        eprintln!("\n==> system test {trial:?}");
        let outcome = trial.run(&kit);
        let took = began.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                passed_count += 1;
                eprintln!("{trial:?}: ok, {took:.0} s");
            }
            Err(error) => {
                failed_count += 1;
                eprintln!("{trial:?}: FAILED after {took:.0} s: {error:#}");
            }
        }
    }
    eprintln!(
        "\ntests of the system took {:.0} s",
        start.elapsed().as_secs_f64()
    );
    println!("system: {passed_count} passed, {failed_count} failed");
    if failed_count > 0 {
        bail!("{failed_count} tests of the system failed");
    }
    Ok(())
}

impl Trial {
    fn run(self, kit: &LazyKit) -> Result<()> {
        match self {
            Self::Browser => browser::run(),
            Self::Lintian => packages::judge(&kit.get()?.packages[0]),
            Self::Packages => packages::live(kit.get()?),
            Self::Slurm => slurm::run(kit.get()?),
            Self::Ssh => ssh::run(kit.get()?),
            Self::Upgrade => upgrade::run(kit.get()?),
        }
    }
}

/// Made when the first test asks for it: the browser's needs none.
#[derive(Default)]
struct LazyKit(OnceCell<Kit>);

impl LazyKit {
    fn get(&self) -> Result<&Kit> {
        if let Some(kit) = self.0.get() {
            return Ok(kit);
        }
        let kit = Kit::make()?;
        Ok(self.0.get_or_init(|| kit))
    }
}

impl Kit {
    fn make() -> Result<Self> {
        install_missing(&NEEDED)?;
        let build = Build::make()?;
        let mut packages = [Vec::new(), Vec::new()];
        for (revision, packages) in (1..).zip(&mut packages) {
            let folder = target_dir().join(format!("system/packages-{revision}"));
            fs::create_dir_all(&folder)?;
            *packages = build.packages(&folder, revision)?;
        }
        let programs = target_dir().join("system/programs");
        upgrade::keep_programs(&programs)?;
        Ok(Self {
            image: Image::make()?,
            programs,
            packages,
        })
    }
}

/// Why none can be run here, if so.
fn unable() -> Option<&'static str> {
    if !fs::exists("/etc/debian_version").unwrap_or(false) {
        return Some("they need Debian, for debootstrap and its packages");
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|this| {
        use std::os::unix::fs::MetadataExt as _;
        this.uid() == 0
    });
    (!is_root).then_some("they need root, to boot a container")
}

/// Installs the packages of those programs that are not there.
fn install_missing(needed: &[(&str, &str)]) -> Result<()> {
    let is_missing = |program: &str| Command::new(program).arg("--version").output().is_err();
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(program, _)| is_missing(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    test_tools::install(&missing).context("the tests of the system need them")
}
