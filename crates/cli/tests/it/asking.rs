//! Verbs on a real terminal: what cannot be taken back is asked for, what is watched is drawn in place, and colours.

use crate::{lab::Lab, terminal::Terminal};

#[test]
fn all_is_cancelled_and_drained_only_after_a_yes() {
    let lab = Lab::start();
    let Some(terminal) = Terminal::open(&lab, "cancel --all") else {
        return;
    };
    terminal.shows(&["cancel all jobs, 1 unfinished ones", "[y/N]"]);
    terminal.press("Enter");
    terminal.shows(&["nothing was changed", "left with 1"]);
    let terminal = Terminal::open(&lab, "drain --all").unwrap();
    terminal.shows(&["drain every worker", "[y/N]"]);
    terminal.press("n");
    terminal.press("Enter");
    terminal.shows(&["nothing was changed", "left with 1"]);
    let workers = lab.dewar(&["workers", "--json"]).ok().json();
    assert_eq!(workers["workers"][0]["state"], "up");
    let terminal = Terminal::open(&lab, "cancel --all").unwrap();
    terminal.shows(&["[y/N]"]);
    terminal.press("y");
    terminal.press("Enter");
    terminal.shows(&["9 tasks cancelled", "left with 0"]);
    // Nothing is left to ask about.
    let terminal = Terminal::open(&lab, "drain --all --yes").unwrap();
    terminal.shows(&["embedded drains", "left with 0"]);
}

#[test]
fn what_is_watched_is_drawn_in_place_and_fits_until_ctrl_c() {
    let lab = Lab::start();
    let Some(terminal) = Terminal::open(&lab, "workers --watch 0.2") else {
        return;
    };
    terminal.shows(&["every 0.2 s; Ctrl-C ends", "WORKER", "embedded", "2/2"]);
    lab.dewar(&["drain", "--all"]).ok();
    terminal.shows(&["draining"]);
    let screen = terminal.screen();
    assert_eq!(screen.matches("WORKER").count(), 1, "drawn over:\n{screen}");
    // The last column, which says why, has room in 80 columns; spare ones have not.
    assert!(
        screen.contains("WHY") && !screen.contains("VERSION"),
        "{screen}"
    );
    terminal.press("C-c");
    terminal.shows(&["left with 0"]);
}

#[test]
fn colours_are_for_terminals_and_not_where_they_are_not_wanted() {
    let lab = Lab::start();
    let again = format!("jobs; NO_COLOR=1 {} jobs", env!("CARGO_BIN_EXE_dewar"));
    let Some(terminal) = Terminal::open(&lab, &again) else {
        return;
    };
    terminal.shows(&["left with 0"]);
    let screen = terminal.coloured_screen();
    let lines: Vec<&str> = screen
        .lines()
        .filter(|line| line.contains("running"))
        .collect();
    assert_eq!(lines.len(), 2, "{screen}");
    assert!(lines[0].contains("\u{1b}[36mrunning"), "{lines:?}");
    assert!(!lines[1].contains('\u{1b}'), "{lines:?}");
    let piped = lab.dewar(&["jobs"]).ok().stdout;
    assert!(!piped.contains('\u{1b}'), "{piped:?}");
}
