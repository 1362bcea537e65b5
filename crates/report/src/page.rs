//! The page: what the run was, what came of it, and every picture, in one file that needs no other.

use crate::{Content, Picture, Table, chart};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// How often a page of a refinement under way is read again: a round takes longer.
const REFRESH_S: u32 = 30;

/// What a page says.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was refined.
    pub title: String,
    /// How far it is.
    pub stage: Stage,
    /// When this was written, for people.
    pub written_at: String,
    /// What matters most.
    pub results: Vec<Fact>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The pictures that could be drawn.
    pub pictures: Vec<Picture>,
    /// What the run was: command, settings, inputs.
    pub sections: Vec<Section>,
}

/// How far a refinement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Rounds go on.
    Running {
        /// The last finished round.
        round: usize,
        /// How many there may be.
        rounds_max: usize,
    },
    /// All is there.
    Finished,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// What it comes to.
    pub value: String,
}

/// Facts under one heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// What is said.
    pub facts: Vec<Fact>,
}

impl Fact {
    /// A fact.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Self {
        Self {
            name: name.into(),
            value: value.to_string(),
        }
    }
}

impl Page {
    /// As HTML.
    pub fn to_html(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if let Stage::Running { .. } = self.stage {
                        meta http-equiv="refresh" content=(REFRESH_S);
                    }
                    title { (self.heading()) }
                    style { (PreEscaped(STYLE)) (PreEscaped(chart::STYLE)) }
                }
                body { main { (self.body()) } }
            }
        }
        .into_string()
    }

    fn heading(&self) -> String {
        match self.stage {
            Stage::Running { round, .. } => format!("{} – round {round} done", self.title),
            Stage::Finished => self.title.clone(),
        }
    }

    fn body(&self) -> Markup {
        html! {
            h1 { (self.title) }
            (self.progress())
            @if !self.warnings.is_empty() {
                section.warnings aria-label="Warnings" {
                    h2 { "Warnings" }
                    ul { @for warning in &self.warnings { li { (warning) } } }
                }
            }
            section aria-label="Results" {
                h2 { "Results" }
                (facts(&self.results))
            }
            section aria-label="Pictures" {
                h2 { "Pictures" }
                div.pictures { @for picture in &self.pictures { (figure(picture)) } }
            }
            @for section in &self.sections {
                section aria-label=(section.title) {
                    h2 { (section.title) }
                    (facts(&section.facts))
                }
            }
        }
    }

    fn progress(&self) -> Markup {
        match self.stage {
            Stage::Running { round, rounds_max } => html! {
                p.stage {
                    "Under way: round " (round) " of at most " (rounds_max) " is done. "
                    progress max=(rounds_max) value=(round) aria-label="Rounds done" {}
                }
                p.aside {
                    "Written " (self.written_at) "; this page reads itself again every " (REFRESH_S) " s. If that is long \
                     past, the run was stopped: the same command goes on."
                }
            },
            Stage::Finished => html! {
                p.stage { "Finished." }
                p.aside { "Written " (self.written_at) "." }
            },
        }
    }
}

fn facts(facts: &[Fact]) -> Markup {
    html! {
        table.facts {
            tbody {
                @for fact in facts {
                    tr { th scope="row" { (fact.name) } td { (fact.value) } }
                }
            }
        }
    }
}

fn figure(picture: &Picture) -> Markup {
    let kind = match picture.content {
        Content::Svg(_) => "wide",
        Content::Png(_) if picture.name == "particles" => "wide",
        Content::Png(_) => "third",
    };
    html! {
        figure class=(kind) id=(picture.name) {
            h3 { (picture.title) }
            @match &picture.content {
                Content::Svg(svg) => { (PreEscaped(chart::inline(svg, &picture.alt))) }
                Content::Png(png) => { img alt=(picture.alt) src=(data_url(png)); }
            }
            figcaption { (picture.caption) }
            @if let Some(table) = &picture.table {
                details {
                    summary { "The numbers" span.unseen { " of: " (picture.title) } }
                    (numbers(table))
                }
            }
        }
    }
}

fn data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

fn numbers(table: &Table) -> Markup {
    html! {
        // So that the keyboard can scroll it.
        div.scroll tabindex="0" role="region" aria-label="Table" {
            table.numbers {
                thead { tr { @for name in &table.head { th scope="col" { (name) } } } }
                tbody {
                    @for row in &table.rows {
                        tr { @for value in row { td { (value) } } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
