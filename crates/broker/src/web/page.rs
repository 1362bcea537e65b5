//! What all pages have: head, landmarks, where one is, and what can be said when there is nothing to show.

use super::assets;
use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

/// How often a page asks anew where there are no scripts.
const REFRESH_SECONDS: u32 = 30;

/// A page for whoever may look.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    /// Where the broker runs.
    pub(super) host_name: &'a str,
    /// As whom one looks.
    pub(super) viewer: &'a str,
    /// The pages above this one, and their names.
    pub(super) above: &'a [(String, String)],
    /// What has happened, in a sentence that changes seldom: it is read aloud whenever it does.
    pub(super) news: &'a str,
    pub(super) body: Markup,
}

/// A page for whoever may not, or not yet.
pub(super) struct Outside<'a> {
    pub(super) title: &'a str,
    pub(super) body: Markup,
}

/// A page that says why there is none.
pub(super) struct Problem<'a> {
    pub(super) title: &'a str,
    pub(super) text: &'a str,
}

impl Page<'_> {
    pub(super) fn to_response(&self) -> Html<String> {
        let head = html! {
            noscript { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
        };
        let title = format!("{} – Dewar on {}", self.title, self.host_name);
        let body = html! {
            a.skip href="#main" { "To the content" }
            header {
                a.name href="/" aria-current=[self.above.is_empty().then_some("page")] { "Dewar" }
                span.where { "on " (self.host_name) }
                nav aria-label="Where you are" {
                    @if !self.above.is_empty() {
                        ol {
                            @for (path, name) in self.above { li { a href=(path) { (name) } } }
                            li aria-current="page" { (self.title) }
                        }
                    }
                }
                // The script fills it: without one nothing is live.
                div #live {}
                form.out method="post" action="/sign-out" {
                    span.aside { "looking as " (self.viewer) }
                    button type="submit" { "Sign out" }
                }
            }
            p #news.unseen role="status" {}
            main #main tabindex="-1" data-live="" data-news=(self.news) { (self.body) }
        };
        whole(&title, &head, &body)
    }
}

impl Outside<'_> {
    pub(super) fn to_response(&self) -> Html<String> {
        let title = format!("{} – Dewar", self.title);
        let body = html! {
            header { span.name { "Dewar" } }
            main #main { (self.body) }
        };
        whole(&title, &html! {}, &body)
    }
}

impl Problem<'_> {
    pub(super) fn to_response(&self) -> Html<String> {
        let body = html! {
            h1 { (self.title) }
            p { (self.text) }
            p { a href="/" { "To the overview" } }
        };
        let title = self.title;
        Outside { title, body }.to_response()
    }
}

fn whole(title: &str, head: &Markup, body: &Markup) -> Html<String> {
    let [style, script, icon] = assets::paths();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href=(icon);
                link rel="stylesheet" href=(style);
                script src=(script) defer {}
                (head)
            }
            body { (body) }
        }
    };
    Html(page.into_string())
}

/// A table under a heading, with a caption for those who do not see the heading.
pub(super) fn table(caption: &str, heads: &[(&str, bool)], rows: &Markup) -> Markup {
    html! {
        // So that the keyboard can scroll it where it is wider than the window.
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.unseen { (caption) }
                thead {
                    tr {
                        @for (head, is_number) in heads {
                            th scope="col" class=[is_number.then_some("number")] { (head) }
                        }
                    }
                }
                tbody { (rows) }
            }
        }
    }
}

/// How much of something is done, drawn and in words.
pub(super) fn progress(done: u64, all: u64, label: &str) -> Markup {
    html! {
        span.progress {
            progress max=(all.max(1)) value=(done) aria-label=(label) {}
            " " (done) " of " (all)
        }
    }
}
