//! `dewar top` in a real terminal.

use crate::{dewar::dewar, lab::Lab, terminal::Terminal};

#[test]
fn top_shows_looks_into_and_cancels_a_job() {
    let lab = Lab::start();
    let Some(terminal) = Terminal::open(&lab, "top") else {
        return;
    };
    let job = lab.job_name();
    terminal.shows(&["jobs (1)", "hold the line", "workers (1)", "2/2"]);
    terminal.press("Enter");
    terminal.shows(&["0 of 9 done", "test.hold", "25 % on", "waiting"]);
    terminal.press("c");
    terminal.shows(&[&format!(
        "cancel {job} (hold the line), 9 tasks not done? [y/N]"
    )]);
    terminal.press("y");
    terminal.shows(&["9 of 9 done", "cancelled"]);
    terminal.press("Escape");
    terminal.shows(&["finished"]);
    lab.stop();
    terminal.shows(&["broker away"]);
    terminal.press("q");
    terminal.shows(&["left with 0"]);
}

#[test]
fn without_a_terminal_it_says_what_to_ask_instead() {
    let ran = dewar(["top"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("needs a terminal"), "{ran:?}");
    assert!(ran.stderr.contains("dewar status --json"), "{ran:?}");
}
