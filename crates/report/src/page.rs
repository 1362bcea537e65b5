//! The page: what the run was, what came of it, and every picture, in one file that needs no other.

use crate::{Content, Picture, Table, chart};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// How often a page of a refinement under way is read again.
const REFRESH_S: u32 = 10;

/// What a page says.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was refined.
    pub title: String,
    /// Where it is.
    pub stage: Stage,
    /// The last finished round; 0 before the first.
    pub round: usize,
    /// How many there may be.
    pub rounds_max: usize,
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

/// Where a refinement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Rounds go on; who writes the page says at what it is.
    Running(Option<Running>),
    /// It was told to stop.
    Stopped,
    /// Something was wrong.
    Failed(String),
    /// All is there.
    Finished,
}

/// What a refinement under way is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The work at hand.
    pub doing: Option<Doing>,
    /// The last thing that was said, and when.
    pub note: Option<(String, String)>,
    /// If the page is not written again before, nobody lives who would.
    pub dead_from: String,
}

/// Work at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    /// What it is.
    pub what: String,
    /// How far it is, for people.
    pub told: String,
    /// Parts done.
    pub done: u64,
    /// Of so many; 0 where that is not known.
    pub total: u64,
}

impl Stage {
    /// In one word, for the tab and for programs.
    fn word(&self) -> &'static str {
        match self {
            Self::Running(_) => "running",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
            Self::Finished => "finished",
        }
    }
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
    /// As HTML that reads itself again while rounds go on.
    pub fn to_html(&self) -> String {
        self.html(matches!(self.stage, Stage::Running(_)))
    }

    /// As HTML for a frame, whose owner sees to it that it is fresh: where nothing may run, none can read itself again.
    pub fn to_framed_html(&self) -> String {
        self.html(false)
    }

    fn html(&self, reads_itself_again: bool) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if reads_itself_again {
                        meta http-equiv="refresh" content=(REFRESH_S);
                    }
                    title { (self.heading()) }
                    style { (PreEscaped(STYLE)) (PreEscaped(chart::STYLE)) }
                }
                body { main data-state=(self.stage.word()) data-round=(self.round) { (self.body()) } }
            }
        }
        .into_string()
    }

    /// Of the tab: what is of interest there is whether it goes on.
    fn heading(&self) -> String {
        let (title, round) = (&self.title, self.round);
        match self.stage {
            Stage::Running(_) => format!("{round}/{} – {title}", self.rounds_max),
            Stage::Finished => title.clone(),
            Stage::Stopped | Stage::Failed(_) => format!("{} – {title}", self.stage.word()),
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
            @if !self.pictures.is_empty() {
                section aria-label="Pictures" {
                    h2 { "Pictures" }
                    div.pictures { @for picture in &self.pictures { (figure(picture)) } }
                }
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
        let after = match self.round {
            0 => "before the first round was done".to_owned(),
            round => format!("after round {round} of at most {}", self.rounds_max),
        };
        let written = html! { p.aside { "Written " (self.written_at) "." } };
        match &self.stage {
            Stage::Running(running) => self.under_way(running.as_ref()),
            Stage::Stopped => html! {
                p.stage { "Stopped " (after) "." }
                p { "The same command, or " code { "dewar refine --continue" } ", goes on from there." }
                (written)
            },
            Stage::Failed(problem) => html! {
                section.failure aria-label="Failure" {
                    h2 { "Failed " (after) }
                    p { (problem) }
                    p { "Once that is mended, the same command goes on from the last finished round." }
                }
                (written)
            },
            Stage::Finished => html! {
                p.stage { "Finished." }
                (written)
            },
        }
    }

    fn under_way(&self, running: Option<&Running>) -> Markup {
        let (round, rounds_max) = (self.round, self.rounds_max);
        html! {
            p.stage {
                span { "Under way: " @if round == 0 { "no round" } @else { "round " (round) } " of at most " (rounds_max) " is done." }
                progress max=(rounds_max) value=(round) aria-label="Rounds done" {}
            }
            @if let Some(running) = running {
                @if let Some(doing) = &running.doing {
                    p.stage {
                        span { (doing.what) @if !doing.told.is_empty() { ": " (doing.told) } "." }
                        @if doing.total > 0 {
                            progress max=(doing.total) value=(doing.done) aria-label=(doing.what) {}
                        }
                    }
                }
                @if let Some((line, when)) = &running.note {
                    p.aside { "Last message, " (when) ": " (line) }
                }
                p.aside {
                    "Written " (self.written_at) "; this page reads itself again every " (REFRESH_S) " s. If it is later than "
                    strong { (running.dead_from) } " now, the run was killed: the same command goes on from the last finished \
                     round."
                }
            }
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
