//! Who may look: whoever shows a token of this broker, or the view token that is made of one.
//!
//! Programs, such as Prometheus, show it as the wire does (`authorization: Bearer`). A browser gets a cookie for it, which
//! no script reads, no other site's page brings along, and which opens no call of the wire: it holds a view token, whatever
//! was typed in. Being on the same machine opens nothing, since others may be, too.

use super::{Shared, Site, page};
use crate::rpc::connections::Connection;
use axum::{
    Form,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};
use maud::html;
use std::sync::{Arc, atomic::Ordering};

const COOKIE: &str = "dewar_view";

/// How long a browser may look before it asks for a token again: a week.
const COOKIE_SECONDS: u32 = 7 * 24 * 3600;

/// The owner whose token a page was asked for with.
#[derive(Debug, Clone)]
pub(super) struct Viewer(pub(super) Arc<str>);

#[derive(Debug, serde::Deserialize)]
pub(super) struct Entry {
    token: String,
    #[serde(default)]
    to: String,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    to: String,
}

/// Lets those pass who may look, and asks others for a token.
pub(super) async fn require(State(site): Shared, mut request: Request, next: Next) -> Response {
    let viewer = shown(request.headers()).and_then(|token| site.viewer_of(token));
    let Some(viewer) = viewer else {
        return ask(&request);
    };
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.has_shown_token.store(true, Ordering::Relaxed);
    }
    request.extensions_mut().insert(Viewer(viewer));
    next.run(request).await
}

/// The form by itself.
pub(super) async fn form(Query(wanted): Query<Wanted>) -> Html<String> {
    page_with_form(&wanted.to, None).to_response()
}

/// Takes a token and gives a cookie.
pub(super) async fn enter(State(site): Shared, Form(entry): Form<Entry>) -> Response {
    let token = entry.token.trim();
    if site.viewer_of(token.as_bytes()).is_none() {
        let problem = "This is not a token of this broker.";
        let page = page_with_form(&entry.to, Some(problem)).to_response();
        return (StatusCode::UNAUTHORIZED, page).into_response();
    }
    // What lies in the browser can only look.
    let view = match site.sources.tokens.holder_of(token.as_bytes()) {
        Some(_) => dewar_proto::view_token(token),
        None => token.to_owned(),
    };
    go(local_path(&entry.to), &cookie(&view, COOKIE_SECONDS))
}

/// Takes the cookie back.
pub(super) async fn leave() -> Response {
    go("/sign-in", &cookie("", 0))
}

impl Site {
    fn viewer_of(&self, token: &[u8]) -> Option<Arc<str>> {
        self.sources.tokens.viewer_of(token)
    }
}

fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(header) = headers.get(header::AUTHORIZATION) {
        return header.as_bytes().strip_prefix(b"Bearer ");
    }
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let pairs = cookies.flat_map(|cookies| cookies.as_bytes().split(|byte| *byte == b';'));
    let mut pairs = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"=")
    });
    pairs.next()
}

fn ask(request: &Request) -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"dewar\"")];
    let is_page = request.uri().path() != "/metrics";
    if !is_page {
        let text = "no token of this broker: send `authorization: Bearer` with one, or with a view token \
            (`dewar web` prints it)\n";
        return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
    }
    let wanted = request.uri().path_and_query();
    let wanted = wanted.map_or("/", |path| path.as_str());
    let page = page_with_form(wanted, None).to_response();
    (StatusCode::UNAUTHORIZED, challenge, page).into_response()
}

fn page_with_form<'a>(to: &'a str, problem: Option<&'a str>) -> page::Outside<'a> {
    page::Outside {
        title: "Sign in",
        body: html! {
            h1 { "Sign in to look at this broker" }
            @if let Some(problem) = problem {
                p.problem role="alert" id="problem" { strong { "Not signed in. " } (problem) }
            }
            form #sign-in method="post" action="/sign-in" {
                input type="hidden" name="to" value=(local_path(to));
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="off" autofocus
                    spellcheck="false" aria-describedby=(if problem.is_some() { "problem help" } else { "help" });
                button type="submit" { "Look" }
            }
            div #help.aside {
                p {
                    "On a machine where the command " code { "dewar" } " reaches this broker, "
                    code { "dewar web" } " prints a link that signs you in, and the token it carries."
                }
                p {
                    "The contents of the broker's file " code { "token" } ", or of the file that "
                    code { "dewar-broker --add-owner" } " named, will do as well. This browser keeps only what is needed \
                    to look; nothing can be changed from here."
                }
            }
        },
    }
}

/// A path of this broker, whatever a link says: another site's would send people away with our blessing.
fn local_path(to: &str) -> &str {
    let is_local = to.starts_with('/')
        && !to.starts_with("//")
        && to
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local && !to.starts_with("/sign-") {
        to
    } else {
        "/"
    }
}

fn cookie(value: &str, seconds: u32) -> String {
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict")
}

fn go(to: &str, cookie: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for (to, goes) in [
            ("/jobs/j7?state=failed", "/jobs/j7?state=failed"),
            ("", "/"),
            ("https://elsewhere.example/", "/"),
            ("//elsewhere.example/", "/"),
            ("/\\elsewhere.example/", "/"),
            ("/a\r\nset-cookie: b=c", "/"),
            ("/sign-out", "/"),
        ] {
            assert_eq!(local_path(to), goes, "{to:?}");
        }
    }

    #[test]
    fn a_token_is_found_among_other_cookies() {
        let check = |name: header::HeaderName, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            shown(&headers).map(|token| String::from_utf8_lossy(token).into_owned())
        };
        let found = Some("view.ann.1".to_owned());
        assert_eq!(check(header::COOKIE, "a=b; dewar_view=view.ann.1"), found);
        assert_eq!(check(header::COOKIE, "dewar_view=view.ann.1;x=y"), found);
        assert_eq!(check(header::COOKIE, "not_dewar_view=view.ann.1"), None);
        assert_eq!(check(header::AUTHORIZATION, "Bearer view.ann.1"), found);
        assert_eq!(check(header::AUTHORIZATION, "Basic view.ann.1"), None);
    }
}
