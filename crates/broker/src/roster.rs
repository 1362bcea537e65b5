//! Who attended last: a file beside the store, so that a restarted broker knows whom to wait for.
//!
//! It is a hint and no promise. It is not synced, may be a second old, and one that cannot be read is none: then the
//! broker waits for nobody, and a task may be computed twice.

use dewar_queue::WorkerId;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A worker by id, and its name for people.
pub(crate) type Member = (WorkerId, Arc<str>);

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    path: PathBuf,
}

impl Roster {
    /// The roster of a data folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("workers"),
        }
    }

    /// Who attended when it was last written.
    pub(crate) fn read(&self) -> Vec<Member> {
        match fs::read_to_string(&self.path) {
            Ok(text) => text.lines().filter_map(member_of).collect(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, path = %self.path.display(), "cannot read who attended");
                }
                Vec::new()
            }
        }
    }

    /// Writes who attends now, whole or not at all. Blocks for as long as a disk takes.
    pub(crate) fn write(&self, members: &[Member]) {
        let text: String = members.iter().map(line_of).collect();
        let beside = self.path.with_extension("new");
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "cannot write who attends");
        }
    }
}

fn line_of((id, name): &Member) -> String {
    format!("{} {name}\n", uuid::Uuid::from_bytes(id.0).simple())
}

fn member_of(line: &str) -> Option<Member> {
    let (id, name) = line.split_once(' ')?;
    let id = uuid::Uuid::try_parse(id).ok()?;
    Some((WorkerId(id.into_bytes()), name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::new(folder.path());
        assert_eq!(roster.read(), []);
        let members = [
            (WorkerId([1; 16]), "node7 of two".into()),
            (WorkerId([0xfe; 16]), "".into()),
        ];
        roster.write(&members);
        assert_eq!(roster.read(), members);
        fs::write(folder.path().join("workers"), "no line of ours\n\u{0}").unwrap();
        assert_eq!(roster.read(), []);
    }
}
