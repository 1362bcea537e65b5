//! What the command line names: files, and the stacks of those that are particle files.

use crate::failure::Failure;
use anyhow::{Context as _, ensure};
use dewar_formats::particles::ParticleSet;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The files, each once, in the order in which they are named; after a particle file come its stacks.
///
/// # Errors
/// If a file is not there, or a particle file cannot be used.
pub fn named(files: &[PathBuf], project: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    let (mut named, mut known) = (Vec::new(), BTreeSet::new());
    let mut add = |file: &Path| {
        let file = find(file).map_err(Failure::input)?;
        if known.insert(file.clone()) {
            named.push(file);
        }
        Ok::<_, Failure>(())
    };
    for file in files {
        add(file)?;
        if file
            .extension()
            .is_some_and(|name| name == "star" || name == "cs")
        {
            let set = ParticleSet::read(file, project).map_err(Failure::input)?;
            set.stacks.iter().try_for_each(|stack| add(&stack.path))?;
        }
    }
    Ok(named)
}

/// Where it truly is: two names of one file are one file.
fn find(file: &Path) -> anyhow::Result<PathBuf> {
    let found = fs::canonicalize(file)
        .and_then(|found| Ok((fs::metadata(&found)?, found)))
        .with_context(|| format!("cannot read {}", file.display()));
    let (metadata, found) = found?;
    ensure!(metadata.is_file(), "{} is no file", file.display());
    Ok(found)
}
