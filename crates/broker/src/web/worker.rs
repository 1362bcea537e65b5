//! A worker: what it is, what it has moved, what it runs, and what went wrong on it.

use super::{
    Missing, Shared,
    overview::failure_list,
    page::{self, Page},
    sign_in::Viewer,
    words::{self, badge, count, moment, size},
};
use crate::{engine::View, meter::Failed};
use axum::{
    Extension,
    extract::{Path, State},
    response::Html,
};
use dewar_proto::v1;
use dewar_queue::{TaskId, WorkerId};
use maud::{Markup, html};

/// Tries listed: those that run, and some that wait behind them.
const TRY_COUNT_MAX: usize = 200;

/// A try on it.
#[derive(Debug)]
pub(super) struct Try {
    task: TaskId,
    job_name: String,
    kind: String,
    progress: f32,
    runs: bool,
}

/// A worker at one moment.
#[derive(Debug)]
pub(super) struct WorkerView {
    pub(super) worker: v1::Worker,
    pub(super) tries: Vec<Try>,
    /// Of tries on it, the newest first.
    pub(super) failures: Vec<Failed>,
}

pub(super) async fn show(
    State(site): Shared,
    Extension(Viewer(viewer)): Extension<Viewer>,
    Path(id): Path<String>,
) -> Result<Html<String>, Missing> {
    let unknown = || Missing::Unknown("This broker has no such worker".to_owned());
    let overview = site.overview().await?;
    let mut workers = overview.workers.iter();
    let worker = workers.find(|worker| hex(&worker.worker_id) == id);
    let worker = worker.ok_or_else(unknown)?.clone();
    let raw: [u8; 16] = worker
        .worker_id
        .as_slice()
        .try_into()
        .map_err(|_| unknown())?;
    let tries = site.look(move |view| tries_of(view, WorkerId(raw))).await?;
    let mut failures = site.sources.engine.meter().failures();
    failures.retain(|failed| failed.worker_name.as_deref() == Some(worker.name.as_str()));
    let view = WorkerView {
        worker,
        tries,
        failures,
    };
    let page = Page {
        title: &view.worker.name,
        host_name: &overview.status.host_name,
        viewer: &viewer,
        above: &[("/".to_owned(), "Overview".to_owned())],
        news: &view.news(),
        body: view.to_markup(),
    };
    Ok(page.to_response())
}

fn tries_of(view: View<'_>, worker: WorkerId) -> Vec<Try> {
    let worker = view.queue.worker(worker).into_iter();
    let tries = worker.flat_map(|worker| worker.tries()).take(TRY_COUNT_MAX);
    let told = tries.map(|(task, attempt, runs)| {
        let job = view.queue.job(task.job);
        let spec = view.queue.task(task).map(|task| task.spec());
        Try {
            task,
            job_name: job.map_or_else(String::new, |job| job.name().to_string()),
            kind: spec.map_or_else(String::new, |spec| {
                format!("{}/{}", spec.kind.name, spec.kind.version)
            }),
            progress: view.fleet.progress(attempt),
            runs,
        }
    });
    told.collect()
}

/// An id as it stands in paths.
pub(super) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl WorkerView {
    fn news(&self) -> String {
        let mut news = format!(
            "{} is {}",
            self.worker.name,
            words::worker_state(&self.worker)
        );
        if self.worker.failed_count > 0 {
            news += &format!(", {} on it", count(self.worker.failed_count, "failure"));
        }
        news
    }

    pub(super) fn to_markup(&self) -> Markup {
        let worker = &self.worker;
        html! {
            h1 { (worker.name) }
            p.stage {
                (badge(words::worker_state(worker))) " "
                (page::progress(worker.running_count.into(), worker.slot_count.into(), "Slots in use")) " slots in use"
            }
            @if !worker.held_back_reason.is_empty() && !worker.draining {
                p.problem { strong { "Held back. " } (worker.held_back_reason) }
            }
            @if worker.corrupt_count > 0 {
                p.problem {
                    strong { "Its data is not to be trusted. " }
                    "It gave others " (count(worker.corrupt_count, "corrupt chunk"))
                    "; nobody fetches from it. Look after its disk and its memory."
                }
            }
            (self.facts())
            section aria-labelledby="tries" {
                h2 #tries { "What it has" }
                (self.try_table())
            }
            section aria-labelledby="failures" {
                h2 #failures { "Failures on it" }
                (failure_list(&self.failures, usize::MAX))
            }
        }
    }

    fn facts(&self) -> Markup {
        let worker = &self.worker;
        let kinds = worker.kinds.iter();
        let kinds: Vec<_> = kinds
            .map(|kind| format!("{}/{}", kind.name, kind.version))
            .collect();
        let data_address = match worker.data_address.as_str() {
            "" => "peers cannot reach it",
            address => address,
        };
        let facts = [
            ("Host", worker.host_name.clone()),
            ("Site", worker.site.clone()),
            ("Release", worker.program_version.clone()),
            (
                "Memory",
                match worker.memory_bytes {
                    0 => "not said".to_owned(),
                    bytes => size(bytes),
                },
            ),
            ("Tasks done", worker.succeeded_count.to_string()),
            ("Tries failed", worker.failed_count.to_string()),
            ("Sent ahead", worker.waiting_count.to_string()),
            ("In its cache", size(worker.held_bytes)),
            (
                "Results it keeps",
                match worker.keeps_results {
                    true => size(worker.kept_bytes),
                    false => "none; they go to the broker".to_owned(),
                },
            ),
            (
                "Fetched from the broker",
                size(worker.fetched_from_broker_bytes),
            ),
            ("Fetched from peers", size(worker.fetched_from_peers_bytes)),
            ("Serves peers at", data_address.to_owned()),
            ("Computes", kinds.join(", ")),
        ];
        html! {
            table.facts {
                tbody {
                    tr { th scope="row" { "Attends since" } td { (moment(worker.joined_unix_ms)) } }
                    @for (name, value) in facts { tr { th scope="row" { (name) } td { (value) } } }
                }
            }
        }
    }

    fn try_table(&self) -> Markup {
        if self.tries.is_empty() {
            return html! { p { "Nothing now." } };
        }
        let heads = [
            ("Task", false),
            ("Job", false),
            ("Kind", false),
            ("State", false),
            ("Progress", true),
        ];
        let rows = html! {
            @for held in &self.tries {
                tr id=(format!("try-{}", held.task)) {
                    th scope="row" { a href=(format!("/jobs/{}?state=running#tasks", held.task.job)) { (held.task) } }
                    td.text { (held.job_name) }
                    td { (held.kind) }
                    td { (badge(if held.runs { "running" } else { "waiting" })) }
                    td.number { (format!("{:.0} %", 100.0 * held.progress)) }
                }
            }
        };
        page::table("Tasks it has", &heads, &rows)
    }
}
