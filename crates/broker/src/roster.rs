//! Who attends, and which tasks each was given: a file beside the store, so that a restarted broker knows what may still
//! be computed.
//!
//! What is new is appended before any worker hears of it, so a broker that is killed leaves nothing out. The file is not
//! synced: a power cut may take its end, and then some tasks are computed twice. What ends is not taken out, for the store
//! knows of it; a file that has grown too long for it is written anew.

use dewar_queue::{Event, Expected, JobNumber, TaskId, WorkerId};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// So much may be appended before it is written anew, or twice what was written whole, if that is more.
const APPENDED_BYTES_MIN: u64 = 1 << 20;

/// A disk that did not take it is not asked more often: it is a hint, and not worth a complaint at every turn.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The file.
#[derive(Debug)]
pub(crate) struct Roster {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It goes on at its end.
    Open {
        file: File,
        whole_bytes: u64,
        appended_bytes: u64,
    },
    /// It must be written whole, at once or later.
    Stale { since_failure: Option<Instant> },
}

impl Roster {
    /// The roster of a data folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("workers"),
            state: State::Stale {
                since_failure: None,
            },
        }
    }

    /// Who attended when it was last written. One that cannot be read is empty.
    pub(crate) fn read(&self) -> Vec<Expected> {
        match fs::read(&self.path) {
            Ok(bytes) => members_of(&String::from_utf8_lossy(&bytes)),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, path = %self.path.display(), "cannot read who attended");
                }
                Vec::new()
            }
        }
    }

    /// Whether the next thing to do is to write it whole.
    pub(crate) fn is_due(&self) -> bool {
        match &self.state {
            State::Open {
                whole_bytes,
                appended_bytes,
                ..
            } => *appended_bytes > APPENDED_BYTES_MIN.max(2 * whole_bytes),
            State::Stale { since_failure } => {
                since_failure.is_none_or(|at| at.elapsed() >= RETRY_AFTER)
            }
        }
    }

    /// Writes who is to be expected, whole or not at all. Blocks for as long as a disk takes.
    pub(crate) fn write(&mut self, members: &[Expected]) {
        let text: String = members.iter().map(line_of).collect();
        let beside = self.path.with_extension("new");
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            fs::rename(&beside, &self.path)?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                self.state = State::Open {
                    file,
                    whole_bytes: text.len() as u64,
                    appended_bytes: 0,
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Whether an event is one that it notes.
    pub(crate) fn notes(event: &Event) -> bool {
        matches!(
            event,
            Event::WorkerJoined { .. }
                | Event::WorkerGone { .. }
                | Event::ComebackOver
                | Event::AttemptStarted { .. }
        )
    }

    /// Appends who came and went, and who was given what. Blocks for as long as a disk takes.
    pub(crate) fn note(&mut self, events: &[Event]) {
        let State::Open {
            file,
            appended_bytes,
            ..
        } = &mut self.state
        else {
            return;
        };
        let text = lines_of(events);
        *appended_bytes += text.len() as u64;
        if let Err(error) = file.write_all(text.as_bytes()) {
            self.fail(&error);
        } else if events.contains(&Event::ComebackOver) {
            // Those that are expected no more are known to the queue alone.
            self.state = State::Stale {
                since_failure: None,
            };
        }
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::warn!(%error, path = %self.path.display(), "cannot write who attends");
        self.state = State::Stale {
            since_failure: Some(Instant::now()),
        };
    }
}

/// Such as `0198… [1.0,1.2] node7`: id, tasks by the numbers of job and index, name. It stands for all that was said of the
/// worker before.
fn line_of(member: &Expected) -> String {
    let held: Vec<String> = member.held.iter().map(name_of).collect();
    let id = Uuid::from_bytes(member.id.0).simple();
    format!("{id} [{}] {}\n", held.join(","), member.name)
}

/// Those of [`line_of`], `0198… +1.5,1.6` for tasks that it was given besides, and `0198… -` for one that is gone.
fn lines_of(events: &[Event]) -> String {
    let mut text = String::new();
    let mut given_to = None;
    for event in events {
        if let Event::AttemptStarted { task, worker, .. } = event {
            if given_to == Some(*worker) {
                text.push(',');
            } else {
                end_line(&mut text, &mut given_to);
                push_id(&mut text, *worker);
                text.push('+');
                given_to = Some(*worker);
            }
            text.push_str(&name_of(task));
            continue;
        }
        end_line(&mut text, &mut given_to);
        match event {
            Event::WorkerJoined { hello, .. } => text.push_str(&line_of(&Expected {
                id: hello.id,
                name: hello.name.clone(),
                held: hello.held.iter().map(|held| held.task).collect(),
            })),
            Event::WorkerGone { worker } => {
                push_id(&mut text, *worker);
                text.push_str("-\n");
            }
            _ => {}
        }
    }
    end_line(&mut text, &mut given_to);
    text
}

fn end_line(text: &mut String, given_to: &mut Option<WorkerId>) {
    if given_to.take().is_some() {
        text.push('\n');
    }
}

fn push_id(text: &mut String, worker: WorkerId) {
    let id = Uuid::from_bytes(worker.0).simple();
    write!(text, "{id} ").expect("a string takes what is written");
}

fn name_of(task: &TaskId) -> String {
    format!("{}.{}", task.job.0, task.index)
}

fn members_of(text: &str) -> Vec<Expected> {
    let mut members: BTreeMap<WorkerId, (&str, BTreeSet<TaskId>)> = BTreeMap::new();
    for line in text.lines() {
        let Some((id, said)) = line.split_once(' ') else {
            continue;
        };
        let Ok(id) = Uuid::try_parse(id) else {
            continue;
        };
        let id = WorkerId(id.into_bytes());
        if let Some((held, name)) = said.strip_prefix('[').and_then(|it| it.split_once("] ")) {
            members.insert(id, (name, tasks_of(held).collect()));
        } else if let Some(given) = said.strip_prefix('+') {
            if let Some((_, held)) = members.get_mut(&id) {
                held.extend(tasks_of(given));
            }
        } else if said == "-" {
            members.remove(&id);
        }
    }
    let members = members.into_iter();
    let members = members.map(|(id, (name, held))| Expected {
        id,
        name: name.into(),
        held: held.into_iter().collect(),
    });
    members.collect()
}

fn tasks_of(list: &str) -> impl Iterator<Item = TaskId> {
    list.split(',').filter_map(|text| {
        let (job, index) = text.split_once('.')?;
        Some(TaskId {
            job: JobNumber(job.parse().ok()?),
            index: index.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests;
