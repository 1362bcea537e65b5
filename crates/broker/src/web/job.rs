//! A job: how far it is, its tasks by state, and what went wrong with them.

use super::{
    Missing, Shared, Site,
    overview::{ended_count, failure_list, task_count, unfinished_count},
    page::{self, Page},
    report,
    sign_in::Viewer,
    words::{self, TASK_STATES, badge, count, moment},
};
use crate::meter::Failed;
use axum::{
    Extension,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::Html,
};
use dewar_proto::v1::{self, jobs_server::Jobs as _};
use maud::{Markup, html};
use std::time::Duration;
use tonic::Request;

/// Tasks of one page.
const TASK_COUNT_MAX: u32 = 100;

/// What of its tasks to show.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub(super) struct Which {
    /// Only those in this state.
    #[serde(default)]
    state: String,
    /// From this one on.
    #[serde(default)]
    from: u64,
}

/// A job at one moment.
#[derive(Debug)]
pub(super) struct JobView {
    pub(super) job: v1::Job,
    pub(super) tasks: v1::ListTasksResponse,
    pub(super) which: Which,
    pub(super) left: Option<Duration>,
    /// Of its tasks, the newest first.
    pub(super) failures: Vec<Failed>,
    pub(super) has_report: bool,
}

pub(super) async fn show(
    State(site): Shared,
    Extension(Viewer(viewer)): Extension<Viewer>,
    Path(name): Path<String>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Html<String>, Missing> {
    // Whatever a link was made into: then all of them from the first on.
    let which = which.map_or_else(|_| Which::default(), |Query(which)| which);
    let host_name = site.overview().await?.status.host_name.clone();
    let view = site.job_view(&name, which).await?;
    let page = Page {
        title: &name,
        host_name: &host_name,
        viewer: &viewer,
        above: &[("/".to_owned(), "Overview".to_owned())],
        news: &view.news(),
        body: view.to_markup(),
    };
    Ok(page.to_response())
}

/// A job by its short name.
pub(super) fn selector(name: &str) -> Result<v1::JobSelector, Missing> {
    let number = name
        .strip_prefix('j')
        .and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| Missing::Unknown("There is no such job".to_owned()))?;
    Ok(v1::JobSelector {
        by: Some(v1::job_selector::By::Number(number)),
    })
}

impl Site {
    pub(super) async fn job(&self, name: &str) -> Result<v1::Job, Missing> {
        let request = v1::GetJobRequest {
            job: Some(selector(name)?),
        };
        let found = self.sources.jobs.get(Request::new(request)).await;
        let found = found.map_err(|status| match Missing::from(status) {
            Missing::Unknown(_) => Missing::Unknown(format!("This broker has no job {name}")),
            Missing::Gone => Missing::Gone,
        });
        Ok(found?.into_inner())
    }

    async fn job_view(&self, name: &str, which: Which) -> Result<JobView, Missing> {
        let job = self.job(name).await?;
        let state = TASK_STATES.iter().find(|(_, word)| *word == which.state);
        let request = v1::ListTasksRequest {
            job: Some(selector(name)?),
            state: state.map_or(0, |(state, _)| (*state).into()),
            from_index: which.from,
            limit: TASK_COUNT_MAX,
            worker_name: String::new(),
        };
        let tasks = self.sources.jobs.list_tasks(Request::new(request)).await?;
        let mut failures = self.sources.engine.meter().failures();
        failures.retain(|failed| failed.task.job.0 == job.number);
        Ok(JobView {
            left: self.history().time_left(job.number, unfinished_count(&job)),
            has_report: self.sources.reports.version(&job.job_id).is_some(),
            job,
            tasks: tasks.into_inner(),
            which,
            failures,
        })
    }
}

impl JobView {
    fn name(&self) -> String {
        format!("j{}", self.job.number)
    }

    fn count_of(&self, state: v1::TaskState) -> u64 {
        match state {
            v1::TaskState::Unspecified => task_count(&self.job),
            v1::TaskState::Waiting => self.job.waiting_count,
            v1::TaskState::Running => self.job.running_count,
            v1::TaskState::Succeeded => self.job.succeeded_count,
            v1::TaskState::Failed => self.job.failed_count,
            v1::TaskState::Cancelled => self.job.cancelled_count,
        }
    }

    fn news(&self) -> String {
        let tenths = (10 * ended_count(&self.job))
            .checked_div(task_count(&self.job))
            .unwrap_or(0);
        let mut news = format!(
            "{} is {}, {} per cent done",
            self.name(),
            words::job_state(&self.job),
            10 * tenths
        );
        if self.job.failed_count > 0 {
            news += &format!(", {} failed", count(self.job.failed_count, "task"));
        }
        news
    }

    pub(super) fn to_markup(&self) -> Markup {
        let job = &self.job;
        html! {
            h1 { (self.name()) " " span.title { (job.name) } }
            p.stage {
                (badge(words::job_state(job))) " "
                (page::progress(ended_count(job), task_count(job), "Tasks done")) " tasks have ended"
                @if let Some(left) = self.left.filter(|_| unfinished_count(job) > 0) {
                    ", " (words::time(left)) " left as things go"
                }
            }
            @if !job.blocked_reason.is_empty() {
                p.problem { strong { "Blocked. " } (job.blocked_reason) }
            }
            @if self.has_report {
                p { a.go href=(format!("/jobs/{}/report", self.name())) { "The report, with its pictures" } }
            }
            (self.facts())
            section aria-labelledby="failures" {
                h2 #failures { "Failures" }
                (failure_list(&self.failures, usize::MAX))
            }
            section aria-labelledby="tasks" {
                h2 #tasks { "Tasks" }
                (self.states())
                (self.task_table())
            }
        }
    }

    fn facts(&self) -> Markup {
        let job = &self.job;
        html! {
            table.facts {
                tbody {
                    tr { th scope="row" { "Owner" } td { (job.owner) } }
                    tr { th scope="row" { "Opened" } td { (moment(job.created_unix_ms)) } }
                    tr { th scope="row" { "Priority" } td { (job.priority) } }
                    tr {
                        th scope="row" { "Kept once finished" }
                        td { (words::time(Duration::from_millis(job.keep_ms))) }
                    }
                    @if job.absence_ms_max > 0 {
                        tr {
                            th scope="row" { "Cancelled without its program for" }
                            td { (words::time(Duration::from_millis(job.absence_ms_max))) }
                        }
                    }
                    tr {
                        th scope="row" { "Earlier outcomes" }
                        td { @if job.reuse { "answer equal tasks" } @else { "are not used" } }
                    }
                }
            }
        }
    }

    /// One link a state, with how many tasks are in it.
    fn states(&self) -> Markup {
        let all = (v1::TaskState::Unspecified, "all");
        let states = std::iter::once(all).chain(TASK_STATES);
        let chosen = if self.which.state.is_empty() {
            "all"
        } else {
            &self.which.state
        };
        html! {
            nav.states aria-label="Tasks by state" {
                ul {
                    @for (state, word) in states {
                        li {
                            a href=(self.link(if word == "all" { "" } else { word }, 0))
                                aria-current=[(word == chosen).then_some("true")] {
                                (word) " " span.count { (self.count_of(state)) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn link(&self, state: &str, from: u64) -> String {
        let name = self.name();
        match (state, from) {
            ("", 0) => format!("/jobs/{name}#tasks"),
            ("", from) => format!("/jobs/{name}?from={from}#tasks"),
            (state, 0) => format!("/jobs/{name}?state={state}#tasks"),
            (state, from) => format!("/jobs/{name}?state={state}&from={from}#tasks"),
        }
    }

    fn task_table(&self) -> Markup {
        if self.tasks.tasks.is_empty() {
            return html! {
                p {
                    "None " @if self.which.from > 0 { "from " (self.which.from) " on" } @else { "now" } "."
                    @if self.tasks.next_index > 0 {
                        " " a href=(self.link(&self.which.state, self.tasks.next_index)) { "Look further on" }
                    }
                }
            };
        }
        let heads = [
            ("Task", false),
            ("State", false),
            ("Kind", false),
            ("Tries", true),
            ("Took", true),
            ("Key", false),
            ("About", false),
        ];
        let rows = html! {
            @for task in &self.tasks.tasks { (self.task_row(task)) }
        };
        html! {
            (page::table("Tasks", &heads, &rows))
            @if self.tasks.next_index > 0 {
                p { a href=(self.link(&self.which.state, self.tasks.next_index)) rel="next" { "The next ones" } }
            }
        }
    }

    fn task_row(&self, task: &v1::Task) -> Markup {
        let kind = task.kind.clone().unwrap_or_default();
        let waits = task.waits_for.iter().map(u64::to_string);
        html! {
            tr id=(format!("task-{}", task.index)) {
                th scope="row" { (self.name()) "." (task.index) }
                td { (badge(words::task_state(task.state))) }
                td { (kind.name) "/" (kind.version) }
                td.number { (task.attempts_begun) }
                td.number {
                    @if task.run_ms > 0 { (words::time(Duration::from_millis(task.run_ms))) } @else { "–" }
                }
                td.text { (task.key) }
                td.text {
                    @if task.state() == v1::TaskState::Running {
                        (format!("{:.0} %", 100.0 * task.progress)) " on " (task.worker_names.join(", "))
                    }
                    @if !task.waits_for.is_empty() { "waits for " (waits.collect::<Vec<_>>().join(", ")) }
                    @if task.reused { "answered from an earlier run" }
                    @if task.generation > 0 { " rerun, generation " (task.generation) }
                    @if let Some(failure) = &task.failure {
                        p.why { (words::class(failure)) ":" }
                        pre { (failure.message) }
                    }
                }
            }
        }
    }
}

/// The way to the report of a job, for those that have one.
pub(super) fn report_path(job: &v1::Job, version: report::Version) -> String {
    format!("/jobs/j{}/report/page?version={}", job.number, version.0)
}
