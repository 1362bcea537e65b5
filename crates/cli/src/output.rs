//! What goes to standard output: text for people, JSON for machines.

use crate::failure::Failure;
use anyhow::Context as _;
use serde_json::Value;
use std::io::{self, ErrorKind, Write as _};

/// Whether anybody reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// As far as is known.
    There,
    /// It has seen enough, as `head` does.
    Left,
}

/// Prints text as it is.
///
/// # Errors
/// If standard output takes no more. A reader that has seen enough, such as `head`, is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    print_to_reader(text).map(drop)
}

/// [`print()`], for those that would print for ever.
///
/// # Errors
/// If standard output takes no more.
pub fn print_to_reader(text: &str) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Left),
        Err(error) => Err(error)
            .context("cannot write to standard output")
            .map_err(Failure::work),
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
