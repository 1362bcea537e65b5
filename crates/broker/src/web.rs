//! The web page and the metrics, on the port that also answers gRPC.
//!
//! The page is a view of what the services of `rpc/` tell, so that it and the command say the same; it changes nothing.
//! Each page is made here whole, so that it works without scripts; `assets/app.js` asks for the same page again and puts
//! what has changed into the one that is shown. Who may look is in `sign_in.rs`, and why it is so in
//! `docs/decisions/web.md`.

mod assets;
mod chart;
mod guard;
mod history;
mod job;
mod metrics;
mod overview;
mod page;
mod report;
mod sign_in;
#[cfg(test)]
mod tests;
mod words;
mod worker;

use crate::{
    engine::{EngineHandle, View},
    reports::Reports,
    rpc::{Traffic, admin::AdminService, jobs::JobsService},
    swarm::SwarmHandle,
    tokens::Tokens,
};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use history::History;
use overview::Overview;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};

/// Bytes of the one form there is: a token.
const FORM_BYTES_MAX: usize = 4096;

/// What the pages are made of.
pub(crate) struct Sources {
    pub(crate) engine: EngineHandle,
    pub(crate) swarm: SwarmHandle,
    pub(crate) admin: Arc<AdminService>,
    pub(crate) jobs: Arc<JobsService>,
    pub(crate) traffic: Traffic,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) reports: Reports,
}

/// What the handlers share.
struct Site {
    sources: Sources,
    history: Mutex<History>,
    /// The latest overview, and when it was made: many who look cost the engine as little as one.
    latest: AsyncMutex<Option<(Instant, Arc<Overview>)>>,
}

type Shared = axum::extract::State<Arc<Site>>;

/// Why there is no page.
#[derive(Debug)]
enum Missing {
    /// The broker has nothing of that name.
    Unknown(String),
    /// The broker stops.
    Gone,
}

/// The routes of gRPC, and beside them those of the page and the metrics.
pub(crate) fn routes(grpc: Routes, sources: Sources, stop: CancellationToken) -> Routes {
    let site = Arc::new(Site {
        sources,
        history: Mutex::default(),
        latest: AsyncMutex::default(),
    });
    tokio::spawn(history::keep(site.clone(), stop));
    let pages = Router::new()
        .route("/", get(overview::show))
        .route("/jobs/{job}", get(job::show))
        .route("/jobs/{job}/report", get(report::show))
        .route("/jobs/{job}/report/page", get(report::page))
        .route("/workers/{worker}", get(worker::show))
        .route("/metrics", get(metrics::show))
        .route_layer(from_fn_with_state(site.clone(), sign_in::require));
    let open = Router::new()
        .route("/sign-in", get(sign_in::form).post(sign_in::enter))
        .route("/sign-out", post(sign_in::leave))
        .route("/assets/{name}", get(assets::show));
    let web = pages
        .merge(open)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn(guard::watch_over))
        .with_state(site);
    grpc.into_axum_router()
        .merge(web)
        .fallback(nothing_here)
        .into()
}

impl Site {
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Result<T, Missing> {
        let seen = self.sources.engine.query(look).await;
        seen.map_err(|_| Missing::Gone)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // Samples are no worse for a panic elsewhere.
        self.history.lock().unwrap_or_else(|lost| lost.into_inner())
    }
}

impl From<Status> for Missing {
    fn from(status: Status) -> Self {
        match status.code() {
            tonic::Code::NotFound => Self::Unknown(status.message().to_owned()),
            _ => Self::Gone,
        }
    }
}

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown(what) => {
                let text = format!("{what}. It may have ended, and been forgotten.");
                let page = page::Problem {
                    title: "Nothing here",
                    text: &text,
                };
                (StatusCode::NOT_FOUND, page.to_response()).into_response()
            }
            Self::Gone => {
                let page = page::Problem {
                    title: "The broker stops",
                    text: "It will be back; this page asks again.",
                };
                (StatusCode::SERVICE_UNAVAILABLE, page.to_response()).into_response()
            }
        }
    }
}

/// What no route has: to gRPC, a method that is not there.
async fn nothing_here(request: axum::extract::Request) -> Response {
    let content = request.headers().get("content-type");
    let is_grpc = content.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::unimplemented("")
            .into_http::<axum::body::Body>()
            .into_response();
    }
    let response = Missing::Unknown("There is no such page".to_owned()).into_response();
    guard::secured(response)
}
