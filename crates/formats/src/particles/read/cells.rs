//! Single values of a table as numbers, and what is said of those that are none.

use super::{Reader, text};
use crate::particles::ProblemKind;
use crate::star::Table;

const POSITIVE: &str = "a positive number";
const NUMBER: &str = "a number";
const NUMBERS: &str = "numbers in brackets, such as [0.1,-2]";
const GROUP: &str = "a whole number from 1";

impl Reader<'_> {
    /// Whether the columns are there; reports those that are not, together.
    pub(super) fn require(&mut self, table: &Table, block: &str, columns: &[&'static str]) -> bool {
        let missing: Vec<_> = columns
            .iter()
            .copied()
            .filter(|column| table.column(column).is_none())
            .collect();
        if missing.is_empty() {
            return true;
        }
        let kind = ProblemKind::MissingColumns {
            block: block.to_owned(),
            columns: missing,
        };
        self.report(None, kind);
        false
    }

    pub(super) fn number(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
    ) -> Option<f64> {
        self.checked(table, row, column, NUMBER, |_| true)
    }

    pub(super) fn number_or(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
        otherwise: f64,
    ) -> Option<f64> {
        if table.column(column).is_none() {
            Some(otherwise)
        } else {
            self.number(table, row, column)
        }
    }

    pub(super) fn positive(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
    ) -> Option<f64> {
        self.checked(table, row, column, POSITIVE, |number| number > 0.0)
    }

    /// Some programs write whole numbers as 1.000000.
    pub(super) fn whole(&mut self, table: &Table, row: usize, column: &'static str) -> Option<u32> {
        let is_whole = |n: f64| n >= 1.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0;
        self.checked(table, row, column, GROUP, is_whole)
            .map(|number| number as u32)
    }

    /// A vector as RELION writes it, `[a,b,c]`, of at most so many numbers that are not 0; of zeros where there is no such
    /// column.
    pub(super) fn vector<const COUNT: usize>(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
    ) -> Option<[f64; COUNT]> {
        let mut vector = [0.0; COUNT];
        let Some(value) = text(table, row, column) else {
            return Some(vector);
        };
        let inside = value.trim_matches(['[', ']']);
        let words = inside.split(',').filter(|word| !word.is_empty());
        let numbers: Option<Vec<f64>> = words
            .map(|word| word.parse().ok().filter(|number: &f64| number.is_finite()))
            .collect();
        let Some(numbers) = numbers else {
            self.bad_value(table, row, column, NUMBERS);
            return None;
        };
        let beyond = numbers.iter().skip(COUNT);
        if beyond.copied().any(|number| number != 0.0) {
            let kind = ProblemKind::Aberrations {
                column,
                count: COUNT,
            };
            self.report(table.line(row), kind);
            return None;
        }
        for (place, number) in vector.iter_mut().zip(&numbers) {
            *place = *number;
        }
        Some(vector)
    }

    pub(super) fn checked(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
        expected: &'static str,
        accept: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        let number = text(table, row, column).and_then(|value| value.parse::<f64>().ok());
        let accepted = number.filter(|number| number.is_finite() && accept(*number));
        if accepted.is_none() {
            self.bad_value(table, row, column, expected);
        }
        accepted
    }

    pub(super) fn bad_value(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
        expected: &'static str,
    ) {
        let value = text(table, row, column)
            .unwrap_or_default()
            .chars()
            .take(40)
            .collect();
        self.report(
            table.line(row),
            ProblemKind::BadValue {
                column,
                value,
                expected,
            },
        );
    }
}
