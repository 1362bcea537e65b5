//! Tables of words and numbers, cut to the terminal's width.

use crate::output;
use console::{Term, measure_text_width, truncate_str};

/// Space between columns.
const GAP: &str = "  ";

/// Rows under headings. Put the column that may grow long last: it is what a narrow terminal cuts.
pub struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
}

/// A heading, and to which side its cells lean.
pub enum Column {
    /// Words lean left.
    Text(&'static str),
    /// Numbers lean right.
    Number(&'static str),
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row: a cell for each column.
    pub fn add(&mut self, cells: &[String]) {
        debug_assert_eq!(
            cells.len(),
            self.columns.len(),
            "cells of {}",
            self.columns[0].heading()
        );
        self.rows
            .push(cells.iter().map(|cell| output::printable(cell)).collect());
    }

    /// The table as lines; no wider than the terminal, if standard output is one.
    pub fn render(&self) -> String {
        let terminal = Term::stdout();
        let width = terminal.is_term().then(|| terminal.size().1.into());
        self.render_within(width)
    }

    fn render_within(&self, width_max: Option<usize>) -> String {
        let headings: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.heading().to_owned())
            .collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                lines
                    .iter()
                    .map(|cells| measure_text_width(&cells[at]))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for cells in lines {
            let padded =
                self.columns
                    .iter()
                    .zip(cells)
                    .zip(&widths)
                    .map(|((column, cell), width)| {
                        let space = " ".repeat(width - measure_text_width(cell));
                        match column {
                            Column::Text(_) => cell.clone() + &space,
                            Column::Number(_) => space + cell,
                        }
                    });
            let line = padded.collect::<Vec<_>>().join(GAP);
            text += &truncate_str(line.trim_end(), width_max.unwrap_or(usize::MAX), "…");
            text.push('\n');
        }
        text
    }
}

impl Column {
    fn heading(&self) -> &'static str {
        match self {
            Self::Text(heading) | Self::Number(heading) => heading,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(&[
            Column::Text("job"),
            Column::Number("waiting"),
            Column::Text("name"),
        ]);
        table.add(&[
            "j7".to_owned(),
            "12345678".to_owned(),
            "ribosome\nrun".to_owned(),
        ]);
        table.add(&["j10".to_owned(), "0".to_owned(), "ångström".to_owned()]);
        table
    }

    #[test]
    fn words_lean_left_and_numbers_right() {
        let expected =
            "job   waiting  name\nj7   12345678  ribosome run\nj10         0  ångström\n";
        assert_eq!(example().render_within(None), expected);
    }

    #[test]
    fn a_narrow_terminal_cuts_lines() {
        let text = example().render_within(Some(20));
        assert_eq!(text.lines().nth(1), Some("j7   12345678  ribo…"));
        assert!(text.lines().all(|line| measure_text_width(line) <= 20));
    }
}
