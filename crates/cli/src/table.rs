//! Tables of words and numbers that fit the terminal, with colours where it has them.

use crate::output;
use console::{Color, Style, Term, measure_text_width, truncate_str};

/// Space between columns.
const GAP: &str = "  ";

/// Words are cut to this width where they must be, but no further: less says nothing.
const TEXT_WIDTH_MIN: usize = 8;

/// Rows under headings.
///
/// Where the terminal is too narrow for all of it, spare columns are left out, the last first; then the widest words are
/// cut; then the ends of lines.
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
    /// Words for which there may be no room.
    SpareText(&'static str),
    /// Numbers for which there may be no room.
    SpareNumber(&'static str),
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
        let width_max = width_max.unwrap_or(usize::MAX);
        let places = self.fit(&widths, width_max);
        // Colours take no room on the screen, but are cut as if they did.
        let fits = total(&places) <= width_max;
        let mut text = String::new();
        for (row, cells) in lines.into_iter().enumerate() {
            let padded = places.iter().map(|(at, width)| {
                let column = &self.columns[*at];
                let cell = truncate_str(&cells[*at], *width, "…");
                let space = " ".repeat(width - measure_text_width(&cell));
                let cell = match row > 0 && fits {
                    true => painted(column.heading(), &cell),
                    false => cell.into_owned(),
                };
                if column.leans_right() {
                    space + &cell
                } else {
                    cell + &space
                }
            });
            let line = padded.collect::<Vec<_>>().join(GAP);
            let line = line.trim_end();
            match fits {
                true => text += line,
                false => text += &truncate_str(line, width_max, "…"),
            }
            text.push('\n');
        }
        text
    }

    /// Which columns are shown, and how wide each may be.
    fn fit(&self, widths: &[usize], width_max: usize) -> Vec<(usize, usize)> {
        let mut places: Vec<(usize, usize)> = widths.iter().copied().enumerate().collect();
        while total(&places) > width_max
            && let Some(spare) = places
                .iter()
                .rposition(|(at, _)| self.columns[*at].is_spare())
        {
            places.remove(spare);
        }
        while total(&places) > width_max
            && let Some((at, width)) = places
                .iter_mut()
                .filter(|(at, _)| !self.columns[*at].leans_right())
                .max_by_key(|(_, width)| *width)
            && *width > TEXT_WIDTH_MIN.max(self.columns[*at].heading().len())
        {
            *width -= 1;
        }
        places
    }
}

impl Column {
    fn heading(&self) -> &'static str {
        match self {
            Self::Text(heading)
            | Self::Number(heading)
            | Self::SpareText(heading)
            | Self::SpareNumber(heading) => heading,
        }
    }

    fn leans_right(&self) -> bool {
        matches!(self, Self::Number(_) | Self::SpareNumber(_))
    }

    fn is_spare(&self) -> bool {
        matches!(self, Self::SpareText(_) | Self::SpareNumber(_))
    }
}

/// What columns take together.
fn total(places: &[(usize, usize)]) -> usize {
    let gaps = GAP.len() * places.len().saturating_sub(1);
    places.iter().map(|(_, width)| width).sum::<usize>() + gaps
}

/// A cell in the colour of what it says, where standard output is a terminal and NO_COLOR is not set.
fn painted(heading: &str, cell: &str) -> String {
    match colour_of(heading, cell) {
        Some(colour) => Style::new().fg(colour).apply_to(cell).to_string(),
        None => cell.to_owned(),
    }
}

/// States stand out by what they ask for: red for what went wrong, yellow for what waits for somebody.
fn colour_of(heading: &str, cell: &str) -> Option<Color> {
    match (heading, cell) {
        ("STATE", "failed" | "away") => Some(Color::Red),
        ("STATE", "blocked" | "held back" | "cancelled" | "draining") => Some(Color::Yellow),
        ("STATE", "running" | "up" | "live") => Some(Color::Cyan),
        ("STATE", "succeeded" | "finished") => Some(Color::Green),
        ("FAILED", count) if !count.is_empty() && count != "0" => Some(Color::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(&[
            Column::Text("job"),
            Column::Number("waiting"),
            Column::SpareText("spare"),
            Column::Text("name"),
        ]);
        table.add(&[
            "j7".to_owned(),
            "12345678".to_owned(),
            "more".to_owned(),
            "ribosome\nrun".to_owned(),
        ]);
        table.add(&[
            "j10".to_owned(),
            "0".to_owned(),
            String::new(),
            "ångström".to_owned(),
        ]);
        table
    }

    #[test]
    fn words_lean_left_and_numbers_right() {
        let expected = "job   waiting  spare  name\nj7   12345678  more   ribosome run\nj10         0         ångström\n";
        assert_eq!(example().render_within(None), expected);
    }

    #[test]
    fn a_narrow_terminal_leaves_out_what_is_spare_then_cuts_words_then_lines() {
        let line = |width| {
            let text = example().render_within(Some(width));
            assert!(text.lines().all(|line| measure_text_width(line) <= width));
            text.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(line(34), "j7   12345678  more   ribosome run");
        assert_eq!(line(33), "j7   12345678  ribosome run");
        assert_eq!(line(24), "j7   12345678  ribosome…");
        assert_eq!(line(18), "j7   12345678  ri…");
    }

    #[test]
    fn what_went_wrong_is_red() {
        assert_eq!(colour_of("STATE", "failed"), Some(Color::Red));
        assert_eq!(colour_of("FAILED", "3"), Some(Color::Red));
        assert_eq!(colour_of("FAILED", "0"), None);
        assert_eq!(colour_of("NAME", "failed"), None);
    }
}
