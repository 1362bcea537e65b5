//! The page while a run lives: written again as its tasks are done, and every few seconds in any case, so that a page that is
//! too old is that of a run which was killed. The broker is given it too, after each round and every few seconds.

use super::{FILE, publish::Publishing, replace};
use crate::{
    error::RefineError,
    options::Options,
    postprocess::Step,
    progress::{Observer, Progress},
};
use dewar_formats::atomic::{self, WriteError};
use dewar_report::{Doing, Page, Running, Stage};
use dewar_sdk::Job;
use std::{
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::{task::JoinSet, time::sleep};

/// Tasks may end by the hundred each second: the page is written no more often than this.
const WRITE_EVERY: Duration = Duration::from_secs(3);

/// Where nothing is done, it is written again after so long, to say that the run lives.
const BEAT: Duration = Duration::from_secs(15);

/// A page older than this is that of a dead run: disks are slow at times.
const DEAD_AFTER: Duration = Duration::from_secs(120);

/// Listens to a run, and keeps its page.
pub struct Live {
    observer: Arc<dyn Observer>,
    path: PathBuf,
    publishing: Publishing,
    shown: Mutex<Shown>,
}

/// What the page says now.
struct Shown {
    /// None until the first is shown: before that the folder may be another's.
    page: Option<Page>,
    doing: Option<Work>,
    /// The last thing that was said, and when.
    note: Option<(String, SystemTime)>,
    written: Instant,
}

/// What the run is at.
struct Work {
    what: String,
    unit: Unit,
    done: u64,
    total: u64,
    started: Instant,
}

#[derive(Clone, Copy)]
enum Unit {
    Tasks,
    Parts,
}

impl Live {
    /// For a run that tells `observer` how it goes. Nothing is written yet.
    pub fn new(observer: &Arc<dyn Observer>, options: &Options) -> Self {
        Self {
            observer: Arc::clone(observer),
            path: options.out.join(FILE),
            publishing: Publishing::default(),
            shown: Mutex::new(Shown {
                page: None,
                doing: None,
                note: None,
                written: Instant::now(),
            }),
        }
    }

    /// Shows a page; what the run is at is filled in.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn show(&self, page: Page) -> Result<(), WriteError> {
        let mut shown = self.shown();
        shown.page = Some(page);
        // What led to this page is over.
        shown.doing = None;
        let written = self.write(&mut shown, &|html| {
            atomic::write(&self.path, |file| file.write_all(html))
        });
        shown
            .page
            .iter()
            .for_each(|page| self.publishing.begin(page));
        written
    }

    /// The broker is to show the page beside this job.
    pub fn publish_to(&self, job: &Job) {
        self.publishing.open(job);
    }

    /// Says how the run ended; the page of one that came to its end says so already.
    pub async fn ended<T>(&self, result: &Result<T, RefineError>) {
        if let Err(error) = result {
            let mut shown = self.shown();
            if let Some(page) = &mut shown.page {
                page.stage = match error {
                    RefineError::Cancelled => Stage::Stopped,
                    error => Stage::Failed(error.problems().join("; ")),
                };
            }
            self.rewrite(&mut shown);
            shown
                .page
                .iter()
                .for_each(|page| self.publishing.begin(page));
        }
        self.publishing.end().await;
    }

    /// Writes the page again and again, until what is given back is dropped.
    pub fn beat(live: &Arc<Self>) -> JoinSet<()> {
        let live = Arc::clone(live);
        let mut beats = JoinSet::new();
        beats.spawn(async move {
            loop {
                sleep(BEAT).await;
                let mut shown = live.shown();
                live.rewrite(&mut shown);
                let page = shown.page.iter();
                page.for_each(|page| live.publishing.begin_if_idle(page));
            }
        });
        beats
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // A page half changed is written whole all the same.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rewrite(&self, shown: &mut Shown) {
        // That a disk refuses is told when the next round is shown.
        let _ = self.write(shown, &|html| replace(&self.path, html));
    }

    fn write(
        &self,
        shown: &mut Shown,
        put: &dyn Fn(&[u8]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        shown.written = Instant::now();
        let running = shown.running();
        let Some(page) = &mut shown.page else {
            return Ok(());
        };
        page.written_at = told_time(SystemTime::now());
        if let Stage::Running(now) = &mut page.stage {
            *now = Some(running);
        }
        put(page.to_html().as_bytes())
    }
}

impl Observer for Live {
    fn on(&self, progress: Progress<'_>) {
        self.observer.on(progress);
        let mut shown = self.shown();
        if shown.hear(progress) || shown.written.elapsed() >= WRITE_EVERY {
            self.rewrite(&mut shown);
        }
    }
}

impl Shown {
    /// Takes in what happened. Whether it is worth writing at once.
    fn hear(&mut self, progress: Progress<'_>) -> bool {
        match progress {
            Progress::Note(line) => {
                self.note = Some((line.to_owned(), SystemTime::now()));
                return true;
            }
            Progress::Importing {
                stack,
                done_bytes,
                total_bytes,
            } => {
                let name = stack.file_name().unwrap_or_default().to_string_lossy();
                self.at(
                    &format!("Reading {name}"),
                    Unit::Parts,
                    done_bytes,
                    total_bytes,
                );
            }
            Progress::RoundStarted {
                iteration,
                limit_angstrom,
            } => {
                let what = format!("Round {iteration}, comparing detail to {limit_angstrom:.1} Å");
                self.at(&what, Unit::Tasks, 0, 0);
                return true;
            }
            Progress::FinalMaps => {
                self.at("Final maps", Unit::Tasks, 0, 0);
                return true;
            }
            Progress::Tasks { done, total, .. } => {
                if let Some(work) = &mut self.doing {
                    (work.done, work.total) = (done as u64, total as u64);
                }
            }
            Progress::PostProcessing { step, done, total } => {
                let what = match step {
                    Step::Map => "Post-processing",
                    Step::Local => "Local resolution",
                };
                self.at(what, Unit::Parts, done, total);
            }
            // The page of the finished round was shown before this was said.
            Progress::RoundFinished { .. } => {}
        }
        false
    }

    fn at(&mut self, what: &str, unit: Unit, done: u64, total: u64) {
        match &mut self.doing {
            Some(work) if work.what == what => (work.done, work.total) = (done, total),
            _ => {
                self.doing = Some(Work {
                    what: what.to_owned(),
                    unit,
                    done,
                    total,
                    started: Instant::now(),
                });
            }
        }
    }

    fn running(&self) -> Running {
        let dead_from = told_time(SystemTime::now() + DEAD_AFTER);
        Running {
            doing: self.doing.as_ref().map(Work::told),
            note: self.note.as_ref().map(|(line, when)| {
                let when = told_time(*when);
                (line.clone(), when)
            }),
            dead_from,
        }
    }
}

impl Work {
    fn told(&self) -> Doing {
        let (done, total) = (self.done, self.total);
        let counted = match self.unit {
            _ if total == 0 => String::new(),
            Unit::Tasks if done == total => format!("all {total} tasks done, making maps"),
            Unit::Tasks => format!("{done} of {total} tasks done"),
            Unit::Parts => format!("{:.0} % done", 100.0 * done as f64 / total as f64),
        };
        let left = (0 < done && done < total).then(|| {
            let seconds = self.started.elapsed().as_secs_f64() / done as f64;
            format!(", about {} left", roughly(seconds * (total - done) as f64))
        });
        Doing {
            what: self.what.clone(),
            told: counted + &left.unwrap_or_default(),
            done,
            total,
        }
    }
}

/// A time as a guess is told.
fn roughly(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{:.0} s", seconds.max(1.0)),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// A time as a page tells it: everywhere the same, since whoever reads it may sit elsewhere.
fn told_time(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn times_are_told_for_people() {
        assert_eq!(told_time(UNIX_EPOCH), "1970-01-01 00:00:00 UTC");
        assert_eq!(
            [0.2, 89.0, 90.0, 7000.0].map(roughly),
            ["1 s", "89 s", "2 min", "1.9 h"]
        );
    }
}
