//! Who attended last, and with which tasks at hand: a file beside the store, so that a restarted broker knows what may still
//! be computed.
//!
//! It is a hint and no promise. It is not synced, may be a second old, and one that cannot be read is none: then the
//! broker waits for nobody, and a task may be computed twice.

use dewar_queue::{Expected, JobNumber, TaskId, WorkerId};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

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
    pub(crate) fn read(&self) -> Vec<Expected> {
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
    pub(crate) fn write(&self, members: &[Expected]) {
        let text: String = members.iter().map(line_of).collect();
        let beside = self.path.with_extension("new");
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "cannot write who attends");
        }
    }
}

/// Such as `0198… [1.0,1.2] node7`: id, tasks by the numbers of job and index, name.
fn line_of(member: &Expected) -> String {
    let held = member.held.iter();
    let held: Vec<String> = held
        .map(|task| format!("{}.{}", task.job.0, task.index))
        .collect();
    let id = uuid::Uuid::from_bytes(member.id.0).simple();
    format!("{id} [{}] {}\n", held.join(","), member.name)
}

fn member_of(line: &str) -> Option<Expected> {
    let (id, rest) = line.split_once(' ')?;
    let id = uuid::Uuid::try_parse(id).ok()?;
    let (held, name) = rest.strip_prefix('[')?.split_once("] ")?;
    let held = held.split(',').filter_map(task_of);
    Some(Expected {
        id: WorkerId(id.into_bytes()),
        name: name.into(),
        held: held.collect(),
    })
}

fn task_of(text: &str) -> Option<TaskId> {
    let (job, index) = text.split_once('.')?;
    Some(TaskId {
        job: JobNumber(job.parse().ok()?),
        index: index.parse().ok()?,
    })
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
            Expected {
                id: WorkerId([1; 16]),
                name: "node7 [of] two".into(),
                held: [(1, 0), (7, 42)]
                    .map(|(job, index)| TaskId {
                        job: JobNumber(job),
                        index,
                    })
                    .into(),
            },
            Expected {
                id: WorkerId([0xfe; 16]),
                name: "".into(),
                held: Vec::new(),
            },
        ];
        roster.write(&members);
        assert_eq!(roster.read(), members);
        fs::write(folder.path().join("workers"), "no line of ours\n\u{0}").unwrap();
        assert_eq!(roster.read(), []);
    }
}
