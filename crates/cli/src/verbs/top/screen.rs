//! What `dewar top` knows and what its keys mean: no terminal, no broker.

use dewar_sdk::{BrokerStatus, JobStatus, TaskStatus, WorkerStatus};
use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    widgets::TableState,
};
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Samples of the throughput that are kept: as many as a wide terminal has columns.
const HISTORY: usize = 240;

/// Rates are means over this.
const RATE_OVER: Duration = Duration::from_secs(20);

/// What the background has to tell.
pub enum News {
    /// How all stands now.
    Snapshot(Box<Snapshot>),
    /// The broker is away, and why; or it is back.
    Away(Option<String>),
    /// A line for the user.
    Said(String),
}

/// How all stands at one moment.
pub struct Snapshot {
    pub status: BrokerStatus,
    pub jobs: Vec<JobStatus>,
    pub workers: Vec<WorkerStatus>,
    /// Of the job that is looked into.
    pub tasks: Vec<TaskStatus>,
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Show the tasks of this job, or of none.
    Look(Option<u64>),
    /// Cancel a job.
    Cancel(u64),
    /// Drain a worker.
    Drain { id: String, name: String },
    /// End.
    Leave,
}

/// Which list the keys move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    Jobs,
    Workers,
    /// The tasks of a job, in place of both.
    Tasks(u64),
}

/// Counters at one moment, for rates.
struct Sample {
    at: Instant,
    outcomes: HashMap<u64, u64>,
    sent_bytes: u64,
    fetched_from_broker_bytes: u64,
    fetched_from_peers_bytes: u64,
}

/// All that is shown.
pub struct Screen {
    pub address: String,
    pub now: Option<Snapshot>,
    /// Why the broker is away.
    pub away: Option<String>,
    /// What was said last.
    pub said: Option<String>,
    /// What waits for a y.
    pub question: Option<(String, Wish)>,
    pub focus: Focus,
    pub jobs: TableState,
    pub workers: TableState,
    pub tasks: TableState,
    /// Outcomes a second, the newest last.
    pub throughput: VecDeque<u64>,
    samples: VecDeque<Sample>,
}

impl Screen {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            now: None,
            away: None,
            said: None,
            question: None,
            focus: Focus::Jobs,
            jobs: TableState::default(),
            workers: TableState::default(),
            tasks: TableState::default(),
            throughput: VecDeque::new(),
            samples: VecDeque::new(),
        }
    }

    /// Takes in what the background tells.
    pub fn take(&mut self, news: News) {
        match news {
            News::Snapshot(now) => self.take_snapshot(*now, Instant::now()),
            News::Away(reason) => self.away = reason,
            News::Said(line) => self.said = Some(line),
        }
    }

    pub(super) fn take_snapshot(&mut self, mut now: Snapshot, at: Instant) {
        // What goes on comes first, the newest of it first; so it is with what has ended.
        now.jobs
            .sort_by_key(|job| (job.unfinished_count() == 0, std::cmp::Reverse(job.number)));
        let sample = Sample::of(&now, at);
        if let Some(before) = self.samples.back() {
            let seconds = at.duration_since(before.at).as_secs_f64().max(0.1);
            self.throughput
                .push_back((sample.outcomes_since(before) as f64 / seconds).round() as u64);
        }
        while self.throughput.len() > HISTORY {
            self.throughput.pop_front();
        }
        self.samples.push_back(sample);
        while self.samples.len() > 2 && at.duration_since(self.samples[1].at) >= RATE_OVER {
            self.samples.pop_front();
        }
        self.now = Some(now);
        self.keep_selections();
    }

    /// Outcomes a second of one job lately; none before there is anything to compare.
    pub fn rate_of(&self, job: u64) -> Option<f64> {
        let count = |sample: &Sample| sample.outcomes.get(&job).copied().unwrap_or(0);
        self.rate(count)
    }

    /// How long the tasks a job has now will take, as things go.
    pub fn time_left(&self, job: &JobStatus) -> Option<Duration> {
        let rate = self.rate_of(job.number).filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(job.unfinished_count() as f64 / rate).ok()
    }

    /// Bytes a second: sent by the broker, fetched by workers from it, and from one another.
    pub fn byte_rates(&self) -> [f64; 3] {
        [
            self.rate(|sample| sample.sent_bytes),
            self.rate(|sample| sample.fetched_from_broker_bytes),
            self.rate(|sample| sample.fetched_from_peers_bytes),
        ]
        .map(|rate| rate.unwrap_or(0.0))
    }

    fn rate(&self, count: impl Fn(&Sample) -> u64) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        // Counters of a broker or a worker that began anew start at zero again.
        (seconds > 0.0).then(|| count(last).saturating_sub(count(first)) as f64 / seconds)
    }

    /// What a key does, and asks for.
    pub fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Wish::Leave);
        }
        self.said = None;
        if let Some((_, wish)) = self.question.take() {
            return matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(wish);
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Leave),
            KeyCode::Up | KeyCode::Char('k') => self.selection().select_previous(),
            KeyCode::Down | KeyCode::Char('j') => self.selection().select_next(),
            KeyCode::Home => self.selection().select_first(),
            KeyCode::End => self.selection().select_last(),
            KeyCode::Tab => self.focus = self.other_list(),
            KeyCode::Enter => return self.look_in(),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => return self.look_away(),
            KeyCode::Char('c') => self.question = self.cancel(),
            KeyCode::Char('d') => self.question = self.drain(),
            _ => {}
        }
        self.keep_selections();
        None
    }

    fn selection(&mut self) -> &mut TableState {
        match self.focus {
            Focus::Jobs => &mut self.jobs,
            Focus::Workers => &mut self.workers,
            Focus::Tasks(_) => &mut self.tasks,
        }
    }

    fn other_list(&self) -> Focus {
        match self.focus {
            Focus::Jobs => Focus::Workers,
            Focus::Workers => Focus::Jobs,
            Focus::Tasks(number) => Focus::Tasks(number),
        }
    }

    fn look_in(&mut self) -> Option<Wish> {
        if self.focus != Focus::Jobs {
            return None;
        }
        let number = self.chosen_job()?.number;
        self.focus = Focus::Tasks(number);
        self.tasks = TableState::default();
        if let Some(now) = &mut self.now {
            now.tasks.clear();
        }
        Some(Wish::Look(Some(number)))
    }

    fn look_away(&mut self) -> Option<Wish> {
        let Focus::Tasks(_) = self.focus else {
            return None;
        };
        self.focus = Focus::Jobs;
        Some(Wish::Look(None))
    }

    /// The job that `c` is about.
    pub fn chosen_job(&self) -> Option<&JobStatus> {
        let jobs = &self.now.as_ref()?.jobs;
        match self.focus {
            Focus::Tasks(number) => jobs.iter().find(|job| job.number == number),
            _ => jobs.get(self.jobs.selected()?),
        }
    }

    fn cancel(&self) -> Option<(String, Wish)> {
        if self.focus == Focus::Workers {
            return None;
        }
        let job = self
            .chosen_job()
            .filter(|job| !job.closed || job.unfinished_count() > 0)?;
        let question = format!(
            "cancel j{} ({}), {} tasks not done?",
            job.number,
            job.name,
            job.unfinished_count()
        );
        Some((question, Wish::Cancel(job.number)))
    }

    fn drain(&self) -> Option<(String, Wish)> {
        if self.focus != Focus::Workers {
            return None;
        }
        let worker = self
            .now
            .as_ref()?
            .workers
            .get(self.workers.selected()?)
            .filter(|worker| !worker.draining)?;
        let (id, name) = (worker.id.clone(), worker.name.clone());
        let question = format!("drain {name}? It finishes what it runs, and leaves");
        Some((question, Wish::Drain { id, name }))
    }

    /// A list that has become shorter has its last row chosen, one that is no longer empty its first.
    fn keep_selections(&mut self) {
        let Some(now) = &self.now else { return };
        for (state, count) in [
            (&mut self.jobs, now.jobs.len()),
            (&mut self.workers, now.workers.len()),
            (&mut self.tasks, now.tasks.len()),
        ] {
            let last = count.checked_sub(1);
            state.select(last.map(|last| state.selected().unwrap_or(0).min(last)));
        }
    }
}

impl Sample {
    fn of(now: &Snapshot, at: Instant) -> Self {
        let sum = |bytes: fn(&WorkerStatus) -> u64| now.workers.iter().map(bytes).sum();
        Self {
            at,
            outcomes: now
                .jobs
                .iter()
                .map(|job| (job.number, job.outcome_count()))
                .collect(),
            sent_bytes: now.status.sent_blob_bytes,
            fetched_from_broker_bytes: sum(|worker| worker.fetched_from_broker_bytes),
            fetched_from_peers_bytes: sum(|worker| worker.fetched_from_peers_bytes),
        }
    }

    /// Outcomes that came between, in the jobs that are still there. A rerun takes some back.
    fn outcomes_since(&self, before: &Self) -> u64 {
        let grown = |(job, count): (&u64, &u64)| {
            count.saturating_sub(before.outcomes.get(job).copied().unwrap_or(0))
        };
        self.outcomes.iter().map(grown).sum()
    }
}
