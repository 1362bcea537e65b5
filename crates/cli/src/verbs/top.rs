//! `dewar top`: the broker at a glance, while it works.

mod draw;
mod feed;
mod screen;

use self::{feed::Feed, screen::Screen};
use crate::{failure::Failure, output};
use anyhow::anyhow;
use clap::Args;
use dewar_settings::ConnectArgs;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

/// Shows jobs, workers, tasks and rates, and keeps them fresh.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar top\n  dewar top --broker titan:9990\n\n\
    Keys: up and down choose, Tab goes from jobs to workers, Enter shows a job's tasks, c cancels the chosen job and d drains \
    the chosen worker (both ask), q leaves. Of a job's tasks those that run come first, then those that failed, then those that \
    wait."
)]
pub struct Options {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How long a key may wait for its answer on the screen.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let error = anyhow!("dewar top needs a terminal");
        return Err(Failure::input(error).try_next("dewar status --json, dewar jobs --json"));
    }
    // Before the screen is taken: what is wrong with the command line is told as by every other verb.
    let feed = Feed::start(&options.connect)?;
    let mut terminal = ratatui::init();
    let shown = show(&mut terminal, &feed, Screen::new(&options.connect.broker));
    ratatui::restore();
    shown.map_err(Failure::work)?;
    output::print("")
}

fn show(terminal: &mut DefaultTerminal, feed: &Feed, mut screen: Screen) -> io::Result<()> {
    loop {
        while let Some(news) = feed.news() {
            screen.take(news);
        }
        terminal.draw(|frame| draw::draw(frame, &mut screen))?;
        if !event::poll(KEY_WAIT)? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            match screen.press(key) {
                Some(screen::Wish::Leave) => return Ok(()),
                Some(wish) => feed.wish(wish),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
