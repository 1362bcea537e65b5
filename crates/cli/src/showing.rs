//! Showing what a broker says: once, or again and again until somebody has seen enough.

use crate::{
    broker, clock,
    failure::Failure,
    interrupt::Interrupt,
    output::{self, Reader},
};
use clap::Args;
use console::Term;
use dewar_sdk::Client;
use dewar_settings::ConnectArgs;
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::time;

/// How something is shown.
#[derive(Args)]
pub struct ShowArgs {
    /// Show it again every so many seconds (2 if none are given) until Ctrl-C; with --json, a document a line.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = pause)]
    watch: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What there is to show.
pub struct Shown {
    /// For people.
    pub text: String,
    /// The same and more, for machines.
    pub json: Value,
    /// What people should know besides; not a part of the data.
    pub notes: Vec<String>,
}

/// Asks the broker, and prints what it says.
///
/// # Errors
/// If the broker is not reached or refuses.
pub fn show(
    connect: &ConnectArgs,
    args: &ShowArgs,
    question: impl AsyncFn(&Client) -> Result<Shown, Failure>,
) -> Result<(), Failure> {
    let Some(every) = args.watch else {
        let shown = broker::ask(connect, async |client: Client| question(&client).await)?;
        if args.json {
            return output::print_json(&shown.json);
        }
        output::print(&shown.text)?;
        shown.notes.iter().for_each(|note| eprintln!("{note}"));
        return Ok(());
    };
    broker::block_on(async {
        let client = broker::reach(connect).await?;
        broker::tell_absences(client.link(), |line| eprintln!("{line}"));
        let interrupt = Interrupt::catch(|| {}).map_err(Failure::work)?;
        let mut screen = Screen::new(every);
        loop {
            let shown = tokio::select! {
                () = interrupt.came() => return Ok(()),
                shown = question(&client) => shown?,
            };
            let reader = match args.json {
                true => output::print_to_reader(&format!("{}\n", shown.json))?,
                false => screen.draw(connect, &shown)?,
            };
            if reader == Reader::Left {
                return Ok(());
            }
            tokio::select! {
                () = interrupt.came() => return Ok(()),
                () = time::sleep(every) => {}
            }
        }
    })
}

/// Draws over what was drawn before, on a terminal; elsewhere below it.
struct Screen {
    every: Duration,
    is_drawn: bool,
}

impl Screen {
    fn new(every: Duration) -> Self {
        Self {
            every,
            is_drawn: false,
        }
    }

    fn draw(&mut self, connect: &ConnectArgs, shown: &Shown) -> Result<Reader, Failure> {
        let now = clock::time_of_day_utc(SystemTime::now());
        let every = clock::duration(self.every);
        let heading = format!("{}  {now} UTC, every {every}; Ctrl-C ends", connect.broker);
        let lines = std::iter::once(heading.as_str())
            .chain(shown.text.lines())
            .chain(shown.notes.iter().map(String::as_str));
        let terminal = Term::stdout();
        let drawn = if terminal.is_term() {
            over(lines, terminal.size().0.into(), self.is_drawn)
        } else {
            lines.map(|line| format!("{line}\n")).collect::<String>() + "\n"
        };
        self.is_drawn = true;
        output::print_to_reader(&drawn)
    }
}

/// Lines in place of those before, without a moment of emptiness between; what is too much is counted.
fn over<'a>(lines: impl Iterator<Item = &'a str>, height: usize, is_drawn: bool) -> String {
    const HOME: &str = "\x1b[H";
    const TO_END_OF_LINE: &str = "\x1b[K";
    const TO_END_OF_SCREEN: &str = "\x1b[J";
    const ALL: &str = "\x1b[2J";
    let lines: Vec<&str> = lines.collect();
    // The last line is the cursor's.
    let room = height.saturating_sub(1).max(2);
    let mut drawn = format!("{}{HOME}", if is_drawn { "" } else { ALL });
    let fits = lines.len() <= room;
    let shown_count = if fits { lines.len() } else { room - 1 };
    for line in &lines[..shown_count] {
        drawn += &format!("{line}{TO_END_OF_LINE}\n");
    }
    if !fits {
        let left_out = lines.len() - shown_count;
        drawn += &format!("… {left_out} lines more{TO_END_OF_LINE}\n");
    }
    drawn + TO_END_OF_SCREEN
}

fn pause(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds, from 0.1 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_screen_is_counted() {
        let lines = ["a", "b", "c", "d"];
        let all = over(lines.into_iter(), 5, false);
        assert_eq!(
            all,
            "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\nc\x1b[K\nd\x1b[K\n\x1b[J"
        );
        let some = over(lines.into_iter(), 4, true);
        assert_eq!(some, "\x1b[Ha\x1b[K\nb\x1b[K\n… 2 lines more\x1b[K\n\x1b[J");
    }

    #[test]
    fn pauses_are_sensible() {
        assert_eq!(pause("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "j7", "NaN", "1e9"] {
            assert!(pause(wrong).is_err(), "{wrong}");
        }
    }
}
