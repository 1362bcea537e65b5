//! How a verb ends badly: the line people read, the next step, and the exit code scripts read.

use std::{error::Error, fmt};

/// Why a verb did not do its work.
#[derive(Debug)]
pub struct Failure {
    class: Class,
    line: String,
    next_step: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Class {
    Work,
    Input,
    BrokerNotReached,
}

impl Failure {
    /// The work itself failed: exit code 1.
    pub fn work(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Class::Work, error)
    }

    /// The command line or an input file was wrong: exit code 2.
    pub fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Class::Input, error)
    }

    /// The broker was not reached: exit code 3.
    pub fn not_reached(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Class::BrokerNotReached, error)
    }

    /// Adds what to try.
    #[must_use]
    pub fn try_next(mut self, step: impl Into<String>) -> Self {
        self.next_step = Some(step.into());
        self
    }

    /// Names what it is about, where the error itself does not.
    #[must_use]
    pub fn concerning(mut self, subject: impl fmt::Display) -> Self {
        self.line = format!("{subject}: {}", self.line);
        self
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self.class {
            Class::Work => 1,
            Class::Input => 2,
            Class::BrokerNotReached => 3,
        }
    }

    fn new(class: Class, error: impl Into<anyhow::Error>) -> Self {
        Self {
            class,
            line: one_line(error.into().as_ref()),
            next_step: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)?;
        match &self.next_step {
            Some(step) => write!(f, " (try: {step})"),
            None => Ok(()),
        }
    }
}

/// The error and its causes, each once: libraries that already repeat a cause in their text are not quoted twice.
fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn says_everything_once_on_one_line_with_the_next_step() {
        let error = Err::<(), _>(std::io::Error::other("no space\nleft"))
            .context("cannot write map.mrc")
            .unwrap_err();
        let failure = Failure::work(error).try_next("df -h");
        assert_eq!(
            failure.to_string(),
            "cannot write map.mrc: no space left (try: df -h)"
        );
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(Failure::input(anyhow::anyhow!("a")).exit_code(), 2);
        assert_eq!(Failure::not_reached(anyhow::anyhow!("a")).exit_code(), 3);
    }
}
