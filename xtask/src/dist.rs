//! What a release consists of: a package for Debian of each program, and a tarball for systems as old as the nodes of
//! clusters are, with sums of them all.
//!
//! The programs are linked against the symbols of an old glibc by zig, so that one build serves both. What they need in the
//! end is read from them, and not believed.

mod build;
mod stage;

pub use build::{Build, programs_dir, zigbuild};

use crate::{root, target_dir};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, process::Command};

/// The programs, each in a package of its own name, and the crates they are of.
pub const PROGRAMS: [(&str, &str); 3] = [
    ("dewar", "dewar-cli"),
    ("dewar-broker", "dewar-broker"),
    ("dewar-worker", "dewar-worker"),
];

/// Builds a release into `dist` of the target folder.
pub fn run() -> Result<()> {
    let out = target_dir().join("dist");
    make_empty(&out)?;
    let build = Build::make()?;
    build.packages(&out, 1)?;
    tarball(&build, &out)?;
    let names = sums(&out)?;
    for name in names {
        println!("{}", out.join(name).display());
    }
    Ok(())
}

/// The tarball: programs, pages of the manual, completions, what systemd needs, and what people read.
fn tarball(build: &Build, out: &Path) -> Result<()> {
    let name = format!("dewar-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let folder = tempfile::tempdir()?;
    let top = folder.path().join(&name);
    stage::fill(build, &top)?;
    // The same commit gives the same bytes: names in order, nobody's own accounts, and the time of the commit.
    dewar_testkit::run(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .arg(format!("--mtime=@{}", commit_time()?))
            .arg("--use-compress-program=gzip -9n")
            .arg("--create")
            .arg("--file")
            .arg(out.join(format!("{name}.tar.gz")))
            .arg("--directory")
            .arg(folder.path())
            .arg(&name),
    )
}

/// Writes the sums of all files of a folder into it; gives the names of all.
fn sums(out: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(out)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let mut command = Command::new("sha256sum");
    let said = dewar_testkit::output(command.current_dir(out).args(&names))?;
    fs::write(out.join("SHA256SUMS"), said)?;
    names.push("SHA256SUMS".to_owned());
    Ok(names)
}

/// When the commit was made that is built, in seconds since 1970.
fn commit_time() -> Result<u64> {
    let mut git = Command::new("git");
    let said = dewar_testkit::output(git.current_dir(root()).args(["log", "-1", "--format=%ct"]));
    let said = said.context("a release is built from its repository")?;
    Ok(said.trim().parse()?)
}

/// Makes a folder that holds nothing.
fn make_empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    Ok(())
}

/// The newest glibc that a program asks for, by what readelf says of the versions it needs.
fn newest_glibc(needs: &str) -> Option<(u32, u32)> {
    let versions = needs.split("GLIBC_").skip(1).filter_map(|rest| {
        let version = rest.split([' ', '\n']).next()?;
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    versions.max()
}

/// Fails where a program needs a newer glibc than is promised.
fn check_glibc(program: &Path) -> Result<()> {
    let mut readelf = Command::new("readelf");
    let needs = dewar_testkit::output(readelf.args(["--version-info", "--wide"]).arg(program))?;
    let newest = newest_glibc(&needs).with_context(|| {
        format!(
            "{} names no version of glibc at all, so that nothing is known of it",
            program.display()
        )
    })?;
    ensure!(
        newest <= build::GLIBC,
        "{} needs glibc {}.{}, and is to run with {}.{}",
        program.display(),
        newest.0,
        newest.1,
        build::GLIBC.0,
        build::GLIBC.1
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_by_number() {
        let needs = "  0x0060:   Name: GLIBC_2.9  Flags: none  Version: 10\n\
                     0x0070:   Name: GLIBC_2.28  Flags: none  Version: 9\n\
                     0x0080:   Name: GLIBC_2.2.5  Flags: none  Version: 8\n\
                     0x0090:   Name: GLIBC_PRIVATE  Flags: none  Version: 7\n\
                     0x00a0:   Name: GCC_4.2.0  Flags: none  Version: 7\n";
        assert_eq!(newest_glibc(needs), Some((2, 28)));
        assert_eq!(newest_glibc("  Name: GCC_3.0"), None);
    }

    #[test]
    fn a_program_of_this_machine_names_its_glibc() {
        let mut readelf = Command::new("readelf");
        let this = std::env::current_exe().unwrap();
        let Ok(needs) = dewar_testkit::output(readelf.args(["--version-info", "--wide"]).arg(this))
        else {
            eprintln!("a_program_of_this_machine_names_its_glibc: skipped without readelf");
            return;
        };
        assert!(newest_glibc(&needs) > Some((2, 2)), "{needs}");
    }

    #[test]
    fn sums_are_of_all_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(sums(folder.path()).unwrap(), ["a", "b", "SHA256SUMS"]);
        let said = fs::read_to_string(folder.path().join("SHA256SUMS")).unwrap();
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(said, format!("{nothing}  a\n{nothing}  b\n"));
    }
}
