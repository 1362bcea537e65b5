//! A refinement's report, as its customer last sent it.
//!
//! It is a page made elsewhere: it is shown in a frame in which no script runs, nothing is loaded, and which is of no
//! origin at all.

use super::{Missing, Shared, Site, job::report_path, page::Page, sign_in::Viewer};
use axum::{
    Extension,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use maud::html;

pub(super) use crate::reports::Version;

/// Pictures and styles lie in the page itself. No script, no form, no link out of the frame.
const POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; \
    base-uri 'none'; form-action 'none'";

pub(super) async fn show(
    State(site): Shared,
    Extension(Viewer(viewer)): Extension<Viewer>,
    Path(name): Path<String>,
) -> Result<Html<String>, Missing> {
    let host_name = site.overview().await?.status.host_name.clone();
    let job = site.job(&name).await?;
    let version = site.sources.reports.version(&job.job_id);
    let body = html! {
        h1 { "Report of " (name) " " span.title { (job.name) } }
        @match version {
            Some(version) => {
                p.aside {
                    "As its program last sent it; it grows with every round. "
                    a href=(report_path(&job, version)) { "The report alone" }
                }
                iframe #report title=(format!("Report of {name}")) sandbox="" src=(report_path(&job, version)) {}
            }
            None => {
                p {
                    "There is none yet. A refinement of this release sends one after each round, and the same page is "
                    code { "report.html" } " in its own folder."
                }
            }
        }
    };
    let news = match version {
        Some(Version(number)) => format!(
            "The report of {name} was written for the {} time",
            nth(number)
        ),
        None => format!("{name} has no report yet"),
    };
    let page = Page {
        title: "Report",
        host_name: &host_name,
        viewer: &viewer,
        above: &[
            ("/".to_owned(), "Overview".to_owned()),
            (format!("/jobs/{name}"), name.clone()),
        ],
        news: &news,
        body,
    };
    Ok(page.to_response())
}

/// The report itself.
pub(super) async fn page(
    State(site): Shared,
    Path(name): Path<String>,
) -> Result<Response, Missing> {
    let job = site.job(&name).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    Ok(match site.sources.reports.read(&job.job_id).await {
        Some(bytes) => (headers, bytes).into_response(),
        None => (StatusCode::NOT_FOUND, headers, "no report").into_response(),
    })
}

impl Site {
    /// Drops the reports of jobs that are forgotten.
    pub(super) async fn sweep_reports(&self) -> Result<(), Missing> {
        let known = self
            .look(|view| view.queue.jobs().map(|job| job.id().0).collect())
            .await?;
        self.sources.reports.keep_only(known).await;
        Ok(())
    }
}

fn nth(number: u64) -> String {
    match (number % 10, number % 100) {
        (_, 11..=13) => format!("{number}th"),
        (1, _) => format!("{number}st"),
        (2, _) => format!("{number}nd"),
        (3, _) => format!("{number}rd"),
        _ => format!("{number}th"),
    }
}
