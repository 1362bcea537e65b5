//! Runs `dewar` away from the settings of whoever runs the tests.

use serde_json::Value;
use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The command, without anything of the caller's own.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dewar"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("DEWAR_") {
            command.env_remove(variable);
        }
    }
    let nowhere = concat!(env!("CARGO_TARGET_TMPDIR"), "/nobody");
    for variable in [
        "HOME",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
    ] {
        command.env(variable, nowhere);
    }
    command.env_remove("STATE_DIRECTORY").stdin(Stdio::null());
    command
}

/// Runs `dewar` with these words.
pub fn dewar<Word: AsRef<OsStr>>(words: impl IntoIterator<Item = Word>) -> Ran {
    ran(command().args(words))
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().expect("the command starts");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is text"),
        stderr: String::from_utf8(output.stderr).expect("stderr is text"),
    }
}

impl Ran {
    /// It did what it was asked, and narrates at most.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It failed with this code and one line that holds these words, in order.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        let error = self.stderr.lines().last().unwrap_or_default();
        assert!(error.starts_with("error: "), "{self:?}");
        let mut rest = error;
        for word in words {
            let at = rest
                .find(word)
                .unwrap_or_else(|| panic!("no {word:?} in {rest:?} of {error:?}"));
            rest = &rest[at + word.len()..];
        }
        self
    }

    /// Its output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The keys of an object, to compare with what its help promises.
#[track_caller]
pub fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

/// A path as a word.
pub fn word(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}
