//! What was measured, with target and verdict beside each figure.

use super::machine::Machine;
use serde_json::{Value, json};
use std::{fmt, path::Path};

/// Everything one run measured.
pub struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// Or why there is none.
    figure: Result<f64, String>,
    unit: &'static str,
    target: Option<Target>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            machine: Machine::look(dir),
            rows: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        name: impl Into<String>,
        measured: f64,
        unit: &'static str,
        target: Option<Target>,
    ) {
        self.push(Row {
            name: name.into(),
            figure: Ok(measured),
            unit,
            target,
        });
    }

    /// A figure that cannot be had here, and why.
    pub(super) fn skip(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.push(Row {
            name: name.into(),
            figure: Err(reason.into()),
            unit: "",
            target: None,
        });
    }

    fn push(&mut self, row: Row) {
        eprintln!("bench: {}", row.line());
        self.rows.push(row);
    }

    /// Names of figures that miss their targets.
    pub fn missed(&self) -> impl Iterator<Item = &str> {
        let missed = self.rows.iter().filter(|row| row.is_met() == Some(false));
        missed.map(|row| row.name.as_str())
    }

    pub(super) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(Row::to_json);
        json!({ "machine": self.machine.to_json(), "rows": rows.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        self.rows
            .iter()
            .try_for_each(|row| writeln!(f, "{}", row.line()))
    }
}

impl Row {
    fn line(&self) -> String {
        let measured = match &self.figure {
            Ok(measured) => figure(*measured),
            Err(reason) => return format!("{:64} skipped: {reason}", self.name),
        };
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(at_least)) => format!("at least {}", figure(at_least)),
            Some(Target::AtMost(at_most)) => format!("at most {}", figure(at_most)),
        };
        let verdict = match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        let line = format!(
            "{:64} {measured:>10} {:8} {target:20} {verdict}",
            self.name, self.unit
        );
        line.trim_end().to_owned()
    }

    fn is_met(&self) -> Option<bool> {
        let (measured, target) = self.figure.as_ref().ok().zip(self.target)?;
        Some(match target {
            Target::AtLeast(at_least) => *measured >= at_least,
            Target::AtMost(at_most) => *measured <= at_most,
        })
    }

    fn to_json(&self) -> Value {
        let (at_least, at_most) = match self.target {
            None => (None, None),
            Some(Target::AtLeast(at_least)) => (Some(at_least), None),
            Some(Target::AtMost(at_most)) => (None, Some(at_most)),
        };
        json!({
            "name": self.name,
            "measured": self.figure.as_ref().ok(),
            "skipped": self.figure.as_ref().err(),
            "unit": self.unit,
            "at_least": at_least,
            "at_most": at_most,
            "met": self.is_met(),
        })
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_on_its_own_side_and_at_the_limit() {
        for (target, measured, expected) in [
            (Target::AtLeast(10.0), 10.0, true),
            (Target::AtLeast(10.0), 9.9, false),
            (Target::AtMost(10.0), 10.0, true),
            (Target::AtMost(10.0), 10.1, false),
        ] {
            let row = Row {
                name: "row".to_owned(),
                figure: Ok(measured),
                unit: "ms",
                target: Some(target),
            };
            assert_eq!(row.is_met(), Some(expected), "{target:?} {measured}");
            assert_eq!(row.line().ends_with("MISSED"), !expected);
            assert_eq!(row.to_json()["met"], expected);
        }
    }
}
