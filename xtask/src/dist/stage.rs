//! What is in the tarball, and where.

use super::{Build, PROGRAMS};
use crate::root;
use anyhow::{Context, Result};
use std::{fs, path::Path, process::Command};

/// What people read, from the top of the repository.
const READ: [&str; 5] = [
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
];

/// Puts everything below `top`.
pub fn fill(build: &Build, top: &Path) -> Result<()> {
    for (program, _) in PROGRAMS {
        let bin = top.join("bin");
        fs::create_dir_all(&bin)?;
        dewar_testkit::run(
            Command::new("strip")
                .arg("-o")
                .arg(bin.join(program))
                .arg(build.folder.join(program)),
        )?;
        let description = build.description(program);
        copy_all(&description.join("man"), &top.join("share/man/man1"))?;
        for (shell, place) in [
            (
                "bash",
                format!("share/bash-completion/completions/{program}"),
            ),
            ("zsh", format!("share/zsh/site-functions/_{program}")),
            (
                "fish",
                format!("share/fish/vendor_completions.d/{program}.fish"),
            ),
        ] {
            copy(&description.join(shell), &top.join(place))?;
        }
    }
    for folder in ["deploy", "deploy/sysusers.d", "deploy/tmpfiles.d"] {
        copy_all(&root().join(folder), &top.join(folder))?;
    }
    for name in READ {
        copy(&root().join(name), &top.join(name))?;
    }
    Ok(())
}

/// The files of a folder, without its folders.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("{}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("{}", from.display()))?;
    Ok(())
}
