//! What the screen shows, fetched in the background: the keyboard must answer while a broker does not.

use super::screen::{News, Snapshot, Wish};
use crate::{broker, failure::Failure};
use dewar_sdk::{
    CallError, Client, JobSelector, Link, TaskFilter, TaskSelection, TaskState, TaskStatus,
};
use dewar_settings::ConnectArgs;
use std::{sync::mpsc, time::Duration};
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc as to_feed,
    time,
};

/// How old what is shown may be.
const EVERY: Duration = Duration::from_secs(1);

/// Of a job's tasks in one state, at most so many are shown.
const TASKS_MAX: u32 = 200;

/// The background's end of the screen.
pub struct Feed {
    news: mpsc::Receiver<News>,
    wishes: to_feed::UnboundedSender<Wish>,
    // Dropped last: with it the background ends.
    _runtime: Runtime,
}

impl Feed {
    /// Connects, and begins to ask.
    ///
    /// # Errors
    /// If there is no token, or the broker is not reached or refuses.
    pub fn start(connect: &ConnectArgs) -> Result<Self, Failure> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(Failure::work)?;
        let client = runtime.block_on(broker::reach(connect))?;
        let (tell, news) = mpsc::channel();
        let (wishes, wished) = to_feed::unbounded_channel();
        runtime.spawn(watch_link(client.clone(), tell.clone()));
        runtime.spawn(feed(client, tell, wished));
        Ok(Self {
            news,
            wishes,
            _runtime: runtime,
        })
    }

    /// What came since it was last asked, one by one.
    pub fn news(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Has the broker do it.
    pub fn wish(&self, wish: Wish) {
        // The background ends with this.
        let _ = self.wishes.send(wish);
    }
}

async fn watch_link(client: Client, tell: mpsc::Sender<News>) {
    let mut link = client.link();
    while link.changed().await.is_ok() {
        let reason = match link.borrow_and_update().clone() {
            Link::Away { reason, .. } => Some(reason.to_string()),
            Link::Up => None,
        };
        if tell.send(News::Away(reason)).is_err() {
            return;
        }
    }
}

async fn feed(
    client: Client,
    tell: mpsc::Sender<News>,
    mut wished: to_feed::UnboundedReceiver<Wish>,
) {
    let mut tick = time::interval(EVERY);
    let mut job = None;
    loop {
        let told = tokio::select! {
            wish = wished.recv() => match wish {
                Some(Wish::Look(wanted)) => {
                    job = wanted;
                    look(&client, job).await
                }
                Some(wish) => fulfil(&client, wish).await,
                None => return,
            },
            _ = tick.tick() => look(&client, job).await,
        };
        let told = told.unwrap_or_else(|error| News::Said(error.to_string()));
        if tell.send(told).is_err() {
            return;
        }
    }
}

async fn look(client: &Client, job: Option<u64>) -> Result<News, CallError> {
    let status = client.status().await?;
    let jobs = client.jobs(false).await?;
    let workers = client.workers().await?;
    let tasks = match job {
        // It may be gone by now; the list of jobs says so.
        Some(number) => tasks(client, number).await.unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(News::Snapshot(Box::new(Snapshot {
        status,
        jobs,
        workers,
        tasks,
    })))
}

async fn tasks(client: &Client, number: u64) -> Result<Vec<TaskStatus>, CallError> {
    let mut tasks = Vec::new();
    for state in [
        TaskState::Running,
        TaskState::Failed,
        TaskState::Waiting,
        TaskState::Cancelled,
        TaskState::Succeeded,
    ] {
        let filter = TaskFilter {
            state: Some(state),
            limit: TASKS_MAX,
            ..TaskFilter::default()
        };
        let page = client.tasks(JobSelector::Number(number), filter).await?;
        tasks.extend(page.tasks);
    }
    Ok(tasks)
}

async fn fulfil(client: &Client, wish: Wish) -> Result<News, CallError> {
    match wish {
        Wish::Cancel(number) => {
            let job = TaskSelection::Job(JobSelector::Number(number));
            let ended = client.cancel_tasks(&job).await?.task_count;
            Ok(News::Said(format!("j{number}: {ended} tasks cancelled")))
        }
        Wish::Drain { id, name } => {
            client.drain(&[id]).await?;
            Ok(News::Said(format!("{name} drains")))
        }
        // Answered where keys are read, and above.
        Wish::Leave | Wish::Look(_) => look(client, None).await,
    }
}
