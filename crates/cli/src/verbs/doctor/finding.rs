//! What a check came to.

use crate::output;
use console::Style;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Work goes on, but not as well as it might.
    Warning,
    Failed,
    /// Another one failed without which it cannot be made.
    Skipped,
}

/// One check: what was tried, what came, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    pub tried: String,
    pub came: String,
    pub cure: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, tried: impl Into<String>, came: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            tried: tried.into(),
            came: came.into(),
            cure: None,
        }
    }

    /// It works, but not as well as it might.
    pub fn warning(
        check: &'static str,
        tried: impl Into<String>,
        came: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warning,
            cure: Some(cure.into()),
            ..Self::ok(check, tried, came)
        }
    }

    /// It does not work.
    pub fn failed(
        check: &'static str,
        tried: impl Into<String>,
        came: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Failed,
            ..Self::warning(check, tried, came, cure)
        }
    }

    /// It could not be made.
    pub fn skipped(check: &'static str, because: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Skipped,
            ..Self::ok(check, "nothing", because)
        }
    }

    /// An aligned line or two for people.
    pub fn to_text(&self) -> String {
        let word = Style::new();
        let word = match self.verdict {
            Verdict::Ok => word.green(),
            Verdict::Warning => word.yellow(),
            Verdict::Failed => word.red().bold(),
            Verdict::Skipped => word.dim(),
        };
        // Padded before it is painted: colours have no width.
        let padded = format!("{:<8}", self.verdict.name());
        let mut text = format!("{} {:<14} ", word.apply_to(padded), self.check);
        let said = match self.verdict {
            Verdict::Skipped => self.came.clone(),
            _ => format!("{}: {}", self.tried, self.came),
        };
        let _ = writeln!(text, "{}", output::printable(&said));
        if let Some(cure) = &self.cure {
            let _ = writeln!(text, "{:23} cure: {}", "", output::printable(cure));
        }
        text
    }

    pub fn to_json(&self) -> Value {
        json!({
            "check": self.check,
            "verdict": self.verdict.name(),
            "tried": self.tried,
            "came": self.came,
            "cure": self.cure,
        })
    }
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}
