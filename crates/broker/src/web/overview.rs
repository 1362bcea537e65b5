//! The first page: jobs, workers, what goes over the wire, and what went wrong lately.

use super::{
    Missing, Shared, Site,
    chart::{Chart, Line, round_up, round_up_bytes},
    history::Rates,
    page::{self, Page},
    sign_in::Viewer,
    words::{self, badge, count, moment, size},
};
use crate::meter::{Failed, class_name};
use axum::{Extension, extract::State, response::Html};
use dewar_proto::v1::{self, admin_server::Admin as _, jobs_server::Jobs as _};
use maud::{Markup, html};
use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;
use tonic::Request;

/// How old what is shown may be.
const FRESH: Duration = Duration::from_secs(1);

/// Rows shown of a list.
const JOB_COUNT_MAX: usize = 100;
const WORKER_COUNT_MAX: usize = 500;
const FAILURE_COUNT_MAX: usize = 20;

/// How all stands at one moment.
#[derive(Debug, Default)]
pub(super) struct Overview {
    pub(super) status: v1::StatusResponse,
    /// What goes on first, the newest of it first; then what has ended.
    pub(super) jobs: Vec<v1::Job>,
    pub(super) workers: Vec<v1::Worker>,
    /// The newest first.
    pub(super) failures: Vec<Failed>,
    pub(super) rates: Vec<Rates>,
    pub(super) now: Rates,
    /// Of jobs whose pace is known.
    pub(super) left: HashMap<u64, Duration>,
}

pub(super) async fn show(
    State(site): Shared,
    Extension(Viewer(viewer)): Extension<Viewer>,
) -> Result<Html<String>, Missing> {
    let overview = site.overview().await?;
    let page = Page {
        title: "Overview",
        host_name: &overview.status.host_name,
        viewer: &viewer,
        above: &[],
        news: &overview.news(),
        body: overview.to_markup(),
    };
    Ok(page.to_response())
}

impl Site {
    /// How all stands, as of a second ago at most.
    pub(super) async fn overview(&self) -> Result<Arc<Overview>, Missing> {
        let mut latest = self.latest.lock().await;
        if let Some((at, overview)) = &*latest
            && at.elapsed() < FRESH
        {
            return Ok(overview.clone());
        }
        let sources = &self.sources;
        let status = sources.admin.status(Request::new(v1::StatusRequest {}));
        let status = status.await?.into_inner();
        let jobs = v1::ListJobsRequest::default();
        let jobs = sources.jobs.list(Request::new(jobs)).await?.into_inner();
        let workers = v1::ListWorkersRequest {};
        let workers = sources.admin.list_workers(Request::new(workers)).await?;
        let mut overview = Overview {
            status,
            jobs: jobs.jobs,
            workers: workers.into_inner().workers,
            failures: sources.engine.meter().failures(),
            ..Overview::default()
        };
        overview.order();
        let history = self.history();
        overview.rates = history.rates();
        overview.now = history.now();
        let left = overview.jobs.iter().filter_map(|job| {
            let left = history.time_left(job.number, unfinished_count(job));
            Some((job.number, left?))
        });
        overview.left = left.collect();
        drop(history);
        let overview = Arc::new(overview);
        *latest = Some((Instant::now(), overview.clone()));
        Ok(overview)
    }
}

pub(super) fn unfinished_count(job: &v1::Job) -> u64 {
    job.waiting_count + job.running_count
}

pub(super) fn ended_count(job: &v1::Job) -> u64 {
    job.succeeded_count + job.failed_count + job.cancelled_count
}

pub(super) fn task_count(job: &v1::Job) -> u64 {
    unfinished_count(job) + ended_count(job)
}

impl Overview {
    pub(super) fn order(&mut self) {
        self.jobs
            .sort_by_key(|job| (unfinished_count(job) == 0, Reverse(job.number)));
    }

    /// In a sentence, what is worth being told aloud.
    pub(super) fn news(&self) -> String {
        let going = self.jobs.iter().filter(|job| unfinished_count(job) > 0);
        let blocked = self
            .jobs
            .iter()
            .filter(|job| !job.blocked_reason.is_empty());
        let failed: u64 = self.jobs.iter().map(|job| job.failed_count).sum();
        let mut news = format!(
            "{} under way, {} attending",
            count(going.count() as u64, "job"),
            count(self.workers.len() as u64, "worker")
        );
        let blocked = blocked.count() as u64;
        if blocked > 0 {
            news += &format!(", {} blocked", count(blocked, "job"));
        }
        if failed > 0 {
            news += &format!(", {} failed", count(failed, "task"));
        }
        news
    }

    pub(super) fn to_markup(&self) -> Markup {
        html! {
            h1 { "Overview" }
            @if !self.status.refusing_reason.is_empty() {
                p.problem { strong { "Submits and uploads are refused. " } (self.status.refusing_reason) }
            }
            (self.figures())
            section aria-labelledby="pace" {
                h2 #pace { "Over time" }
                div.charts { (self.throughput()) (self.bytes()) }
            }
            section aria-labelledby="jobs" {
                h2 #jobs { "Jobs" }
                (self.job_table())
            }
            section aria-labelledby="workers" {
                h2 #workers { "Workers" }
                (self.worker_table())
            }
            section aria-labelledby="failures" {
                h2 #failures { "Recent failures" }
                (failure_list(&self.failures, FAILURE_COUNT_MAX))
            }
        }
    }

    fn figures(&self) -> Markup {
        let status = &self.status;
        let up = words::time(words::since(status.started_unix_ms));
        // As the table below has it: what is sent ahead to a worker waits still.
        let sum = |of: fn(&v1::Job) -> u64| self.jobs.iter().map(of).sum::<u64>().to_string();
        let facts = [
            ("Running", sum(|job| job.running_count), "tasks"),
            ("Waiting", sum(|job| job.waiting_count), "tasks"),
            ("Done", words::rate(self.now.outcomes), "tasks a second"),
            ("Slots", status.slot_count.to_string(), "of workers"),
            (
                "From the broker",
                size(self.now.from_broker_bytes as u64),
                "a second",
            ),
            (
                "From peers",
                size(self.now.from_peers_bytes as u64),
                "a second",
            ),
            ("Free", size(status.free_bytes), "on the broker's disk"),
            ("Up", up, "Dewar"),
        ];
        html! {
            dl.figures {
                @for (name, value, unit) in facts {
                    div {
                        dt { (name) }
                        dd {
                            span.value { (value) } " "
                            span.unit {
                                (unit)
                                @if name == "Up" { " " (status.program_version) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn throughput(&self) -> Markup {
        let values = self.rates.iter().map(|rate| rate.outcomes).collect();
        let lines = vec![Line {
            name: "tasks",
            values,
        }];
        html! {
            div {
                h3 { "Tasks done a second" }
                (Chart { title: "Tasks done a second", lines, told: words::rate, scale: round_up }.to_markup())
            }
        }
    }

    fn bytes(&self) -> Markup {
        let values = |of: fn(&Rates) -> f64| self.rates.iter().map(of).collect();
        let lines = vec![
            Line {
                name: "from the broker",
                values: values(|rate| rate.from_broker_bytes),
            },
            Line {
                name: "from peers",
                values: values(|rate| rate.from_peers_bytes),
            },
        ];
        let told = |value: f64| size(value as u64);
        html! {
            div {
                h3 { "Bytes fetched a second" }
                (Chart { title: "Bytes that workers fetched a second", lines, told, scale: round_up_bytes }.to_markup())
            }
        }
    }

    fn job_table(&self) -> Markup {
        if self.jobs.is_empty() {
            return html! {
                p { "None yet. " code { "dewar refine PARTICLES.star … --parallel dc:HOST:PORT" } " opens one." }
            };
        }
        let heads = [
            ("Job", false),
            ("Name", false),
            ("State", false),
            ("Done", false),
            ("Running", true),
            ("Waiting", true),
            ("Failed", true),
            ("Left", true),
            ("Owner", false),
            ("Opened", false),
        ];
        let rows = html! {
            @for job in self.jobs.iter().take(JOB_COUNT_MAX) { (self.job_row(job)) }
        };
        html! {
            (page::table("Jobs", &heads, &rows))
            (more(self.jobs.len(), JOB_COUNT_MAX, "dewar jobs"))
        }
    }

    fn job_row(&self, job: &v1::Job) -> Markup {
        let number = format!("j{}", job.number);
        let left = self.left.get(&job.number);
        let left = left.filter(|_| unfinished_count(job) > 0);
        html! {
            tr id=(format!("job-{}", job.number)) {
                th scope="row" { a href=(format!("/jobs/{number}")) { (number) } }
                td.text {
                    (job.name)
                    @if !job.blocked_reason.is_empty() { p.why { (job.blocked_reason) } }
                }
                td { (badge(words::job_state(job))) }
                td { (page::progress(ended_count(job), task_count(job), &format!("Tasks of {number} done"))) }
                td.number { (job.running_count) }
                td.number { (job.waiting_count) }
                td.number.bad[job.failed_count > 0] { (job.failed_count) }
                td.number {
                    @match left {
                        Some(left) => (words::time(*left)),
                        None => "–",
                    }
                }
                td { (job.owner) }
                td { (moment(job.created_unix_ms)) }
            }
        }
    }

    fn worker_table(&self) -> Markup {
        if self.workers.is_empty() {
            return html! {
                p { "None attends. " code { "dewar-worker --broker HOST:PORT" } " starts one; "
                    code { "dewar worker-script" } " prints scripts for clusters." }
            };
        }
        let heads = [
            ("Worker", false),
            ("Host", false),
            ("Site", false),
            ("State", false),
            ("Slots in use", false),
            ("Done", true),
            ("Failed", true),
            ("In cache", true),
            ("From broker", true),
            ("From peers", true),
            ("Here for", true),
        ];
        let rows = html! {
            @for worker in self.workers.iter().take(WORKER_COUNT_MAX) { (worker_row(worker)) }
        };
        html! {
            (page::table("Workers", &heads, &rows))
            (more(self.workers.len(), WORKER_COUNT_MAX, "dewar workers"))
        }
    }
}

fn worker_row(worker: &v1::Worker) -> Markup {
    let id = super::worker::hex(&worker.worker_id);
    let state = words::worker_state(worker);
    html! {
        tr id=(format!("worker-{id}")) {
            th scope="row" { a href=(format!("/workers/{id}")) { (worker.name) } }
            td { (worker.host_name) }
            td { (worker.site) }
            td.text {
                (badge(state))
                @if state == "held back" { p.why { (worker.held_back_reason) } }
                @if worker.corrupt_count > 0 {
                    p.why { "gave " (count(worker.corrupt_count, "corrupt chunk")) "; nobody fetches from it" }
                }
            }
            td {
                (page::progress(
                    worker.running_count.into(),
                    worker.slot_count.into(),
                    &format!("Slots of {} in use", worker.name),
                ))
            }
            td.number { (worker.succeeded_count) }
            td.number.bad[worker.failed_count > 0] { (worker.failed_count) }
            td.number { (size(worker.held_bytes)) }
            td.number { (size(worker.fetched_from_broker_bytes)) }
            td.number { (size(worker.fetched_from_peers_bytes)) }
            td.number { (words::time(words::since(worker.joined_unix_ms))) }
        }
    }
}

/// Failures with their text, the newest first.
pub(super) fn failure_list(failures: &[Failed], count_max: usize) -> Markup {
    if failures.is_empty() {
        return html! { p { "None since the broker started." } };
    }
    let heads = [
        ("When", false),
        ("Task", false),
        ("Kind", false),
        ("Worker", false),
        ("Class", false),
        ("What it said", false),
    ];
    let rows = html! {
        @for failed in failures.iter().take(count_max) {
            tr {
                td { (moment(failed.at_unix_ms)) }
                th scope="row" {
                    a href=(format!("/jobs/{}?state=failed#tasks", failed.task.job)) { (failed.task) }
                    @if !failed.is_final { span.aside { " (tried again)" } }
                }
                td {
                    @match &failed.kind {
                        Some(kind) => { (kind.name) "/" (kind.version) },
                        None => "–",
                    }
                }
                td { (failed.worker_name.as_deref().unwrap_or("–")) }
                td { (class_name(failed.failure.class)) }
                td.text { pre { (failed.failure.message) } }
            }
        }
    };
    page::table("Recent failures", &heads, &rows)
}

/// Where the rows are that are not shown.
pub(super) fn more(all: usize, shown: usize, command: &str) -> Markup {
    html! {
        @if all > shown {
            p.aside { "And " (all - shown) " more; " code { (command) } " lists them all." }
        }
    }
}
