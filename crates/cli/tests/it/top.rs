//! `dewar top` in a real terminal: tmux, of 80 columns and 24 lines.

use crate::{dewar::dewar, lab::Lab};
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A terminal of its own server, which ends with it.
struct Terminal(TempDir);

impl Terminal {
    /// None, with a message, where there is no tmux.
    fn open(lab: &Lab) -> Option<Self> {
        let terminal = Self(tempfile::tempdir().unwrap());
        let program = env!("CARGO_BIN_EXE_dewar");
        let setting = |name: &str, value: &str| format!("{name}={value}");
        let mut command = terminal.tmux();
        command
            .args(["new-session", "-d", "-x", "80", "-y", "24"])
            .args(["-e", &setting("DEWAR_BROKER", lab.address())])
            .args(["-e", &setting("DEWAR_TOKEN", lab.token())])
            .args([&format!("{program} top; echo left with $?; cat")]);
        match command.status() {
            Ok(status) if status.success() => Some(terminal),
            Ok(status) => panic!("tmux ended with {status}"),
            Err(error) => {
                eprintln!("skipped: tmux is not here ({error}); `cargo xtask test` installs it");
                None
            }
        }
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").env("TERM", "xterm-256color");
        command.args(["-f", "/dev/null", "-S"]);
        command.arg(self.0.path().join("socket"));
        command
    }

    fn press(&self, key: &str) {
        let status = self.tmux().args(["send-keys", key]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until all of these stand on the screen.
    #[track_caller]
    fn shows(&self, texts: &[&str]) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let output = self.tmux().args(["capture-pane", "-p"]).output().unwrap();
            let screen = String::from_utf8(output.stdout).unwrap();
            if texts.iter().all(|text| screen.contains(text)) {
                return;
            }
            assert!(Instant::now() < until, "no {texts:?} in\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").status();
    }
}

#[test]
fn top_shows_looks_into_and_cancels_a_job() {
    let lab = Lab::start();
    let Some(terminal) = Terminal::open(&lab) else {
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
