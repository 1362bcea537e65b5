//! What goes to standard output: text for people, JSON for machines.

use crate::failure::Failure;
use anyhow::Context as _;
use serde_json::Value;
use std::io::{self, ErrorKind, Write as _};

/// Prints text as it is.
///
/// # Errors
/// If standard output takes no more. A reader that has seen enough, such as `head`, is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error)
            .context("cannot write to standard output")
            .map_err(Failure::work),
        _ => Ok(()),
    }
}

/// Prints indented JSON.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Text from elsewhere, made fit for a terminal: a job's name must not move the cursor.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
    }
}
