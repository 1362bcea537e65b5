//! A real terminal: tmux, of 80 columns and 24 lines.

use crate::lab::Lab;
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A terminal of its own server, which ends with it.
pub struct Terminal(TempDir);

impl Terminal {
    /// Runs `dewar` with these words there, says how it left, and waits. None, with a message, where there is no tmux.
    pub fn open(lab: &Lab, words: &str) -> Option<Self> {
        let terminal = Self(tempfile::tempdir().unwrap());
        let program = env!("CARGO_BIN_EXE_dewar");
        let setting = |name: &str, value: &str| format!("{name}={value}");
        let mut command = terminal.tmux();
        command
            .args(["new-session", "-d", "-x", "80", "-y", "24"])
            .args(["-e", &setting("DEWAR_BROKER", lab.address())])
            .args(["-e", &setting("DEWAR_TOKEN", lab.token())])
            .args([&format!("{program} {words}; echo left with $?; cat")]);
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

    /// Presses a key, by tmux's name of it.
    pub fn press(&self, key: &str) {
        let status = self.tmux().args(["send-keys", key]).status().unwrap();
        assert!(status.success());
    }

    /// What stands on the screen now.
    pub fn screen(&self) -> String {
        self.capture(&[])
    }

    /// The same, with the escapes that colour it.
    pub fn coloured_screen(&self) -> String {
        self.capture(&["-e"])
    }

    fn capture(&self, flags: &[&str]) -> String {
        let mut capture = self.tmux();
        let output = capture.args(["capture-pane", "-p"]).args(flags).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// Waits until all of these stand on the screen.
    #[track_caller]
    pub fn shows(&self, texts: &[&str]) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let screen = self.screen();
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
