//! What holds for every page: nothing is changed by asking, nothing runs but our own script, and nothing is kept or told
//! to others by the browser.

use super::page;
use crate::rpc::connections::{Connection, Standing};
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Nothing but what this broker itself serves; frames only for the report, which has a policy of its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The two that change something, and that only in the browser: whether it may look.
const FORMS: [&str; 2] = ["/sign-in", "/sign-out"];

/// Around every page and form.
pub(super) async fn watch_over(request: Request, next: Next) -> Response {
    secured(match refused(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    })
}

fn refused(request: &Request) -> Option<Response> {
    let connection = request.extensions().get::<Connection>();
    if let Some(Standing::OneTooMany { .. }) = connection.map(|connection| connection.standing) {
        let page = page::Problem {
            title: "The broker is full",
            text: "It has as many connections as it can have. This page asks again.",
        };
        return Some((StatusCode::SERVICE_UNAVAILABLE, page.to_response()).into_response());
    }
    let is_form = FORMS.contains(&request.uri().path());
    match *request.method() {
        Method::GET | Method::HEAD => None,
        Method::POST if is_form => is_from_elsewhere(request).then(|| {
            let page = page::Problem {
                title: "Not from here",
                text: "Another page sent this form. Sign in on the broker's own.",
            };
            (StatusCode::FORBIDDEN, page.to_response()).into_response()
        }),
        _ => {
            let allow = [(header::ALLOW, "GET, HEAD")];
            Some((StatusCode::METHOD_NOT_ALLOWED, allow).into_response())
        }
    }
}

/// Whether the browser says that another site's page sent this.
fn is_from_elsewhere(request: &Request) -> bool {
    let from = request.headers().get("sec-fetch-site");
    from.is_some_and(|from| from != "same-origin" && from != "none")
}

/// With the headers that browsers go by.
pub(super) fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        // The report and the assets have their own.
        let entry = headers.entry(name);
        entry.or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
