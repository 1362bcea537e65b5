//! Rows and columns of text, packed so that a million particles fit comfortably in memory.

/// A loop: named columns and rows of values.
///
/// All values live in one string, which costs four bytes a value beyond its text. Two tables are
/// equal when labels and values are, wherever in a file they stood.
#[derive(Debug, Clone, Default)]
pub struct Table {
    labels: Vec<String>,
    text: String,
    /// Where each value ends in `text`, row by row; always a multiple of the column count.
    ends: Vec<u32>,
    /// The line of each row in the file it came from; 0 for rows made here.
    lines: Vec<u32>,
}

impl Table {
    /// An empty table with these columns.
    ///
    /// # Panics
    /// If a label appears twice: that is for the caller to see to.
    pub fn new<L: Into<String>>(labels: impl IntoIterator<Item = L>) -> Self {
        let mut table = Table::default();
        for label in labels {
            assert!(table.add_label(label.into()), "each label names one column");
        }
        table
    }

    /// The columns' names, without the leading underscore.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Where a column stands.
    pub fn column(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|known| known == label)
    }

    /// The number of rows.
    pub fn row_count(&self) -> usize {
        self.lines.len()
    }

    /// The values of a row, in the order of the columns.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> impl ExactSizeIterator<Item = &str> + '_ {
        assert!(row < self.row_count(), "row {row} of {}", self.row_count());
        (0..self.labels.len()).map(move |column| self.value(row, column))
    }

    /// One value.
    ///
    /// # Panics
    /// If there is no such row or column.
    pub fn value(&self, row: usize, column: usize) -> &str {
        assert!(
            column < self.labels.len(),
            "column {column} of {}",
            self.labels.len()
        );
        let index = row * self.labels.len() + column;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start as usize..self.ends[index] as usize]
    }

    /// The line of a row in the file it was read from, counted from 1.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn line(&self, row: usize) -> Option<u32> {
        Some(self.lines[row]).filter(|line| *line > 0)
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If there are not as many values as columns, or the table outgrows 4 GiB of text.
    pub fn push_row<V: AsRef<str>>(&mut self, values: impl IntoIterator<Item = V>) {
        let before = self.ends.len();
        for value in values {
            assert!(
                self.push_value(value.as_ref()),
                "a table holds at most 4 GiB of text"
            );
        }
        assert_eq!(
            self.ends.len() - before,
            self.labels.len(),
            "one value a column"
        );
        self.lines.push(0);
    }

    /// Adds a column's name while there are no rows; false if the name is taken.
    pub(super) fn add_label(&mut self, label: String) -> bool {
        debug_assert!(self.ends.is_empty(), "columns come before rows");
        if self.labels.contains(&label) {
            return false;
        }
        self.labels.push(label);
        true
    }

    /// Adds one value of a row begun; false if the text would outgrow its positions.
    pub(super) fn push_value(&mut self, value: &str) -> bool {
        let Ok(end) = u32::try_from(self.text.len() + value.len()) else {
            return false;
        };
        self.text.push_str(value);
        self.ends.push(end);
        true
    }

    /// How many values the row begun has.
    pub(super) fn unfinished_len(&self) -> usize {
        self.ends.len() - self.lines.len() * self.labels.len()
    }

    /// Ends the row begun, which must have all its values.
    pub(super) fn end_row(&mut self, line: u32) {
        debug_assert_eq!(self.unfinished_len(), self.labels.len());
        self.lines.push(line);
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels && self.ends == other.ends && self.text == other.text
    }
}
