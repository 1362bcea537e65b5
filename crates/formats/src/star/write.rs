//! Document to text, in the dress RELION gives its files.

use std::io::{self, Write};

use super::{Block, Document, Entry, Table};

/// RELION recognises its 3.1 layout by this comment.
const VERSION_COMMENT: &str = "# version 30001";

impl Document {
    /// Writes the text. Values that would be misread bare are quoted; one that cannot be written
    /// in STAR at all (a line of it begins with `;`) is an error of kind `InvalidData`.
    pub fn write_to(&self, sink: &mut impl Write) -> io::Result<()> {
        for block in &self.blocks {
            write!(sink, "\n{VERSION_COMMENT}\n\n")?;
            write_block(sink, block)?;
        }
        Ok(())
    }
}

fn write_block(sink: &mut impl Write, block: &Block) -> io::Result<()> {
    check_word(&block.name)?;
    writeln!(sink, "data_{}\n", block.name)?;
    for entry in &block.entries {
        match entry {
            Entry::Single { label, value, .. } => {
                check_label(label)?;
                write!(sink, "_{label} ")?;
                write_value(sink, value)?;
                writeln!(sink)?;
            }
            Entry::Loop(table) => write_table(sink, table)?,
        }
    }
    writeln!(sink)
}

fn write_table(sink: &mut impl Write, table: &Table) -> io::Result<()> {
    writeln!(sink, "loop_")?;
    for (label, number) in table.labels().iter().zip(1..) {
        check_label(label)?;
        writeln!(sink, "_{label} #{number}")?;
    }
    for row in 0..table.row_count() {
        for (column, value) in table.row(row).enumerate() {
            if column > 0 {
                sink.write_all(b" ")?;
            }
            write_value(sink, value)?;
        }
        writeln!(sink)?;
    }
    // A blank line ends the loop for RELION.
    writeln!(sink)
}

fn write_value(sink: &mut impl Write, value: &str) -> io::Result<()> {
    if !needs_quoting(value) {
        return sink.write_all(value.as_bytes());
    }
    let is_one_line = !value.contains(['\n', '\r']);
    for quote in ['"', '\''] {
        if is_one_line && !ends_early(value, quote) {
            return write!(sink, "{quote}{value}{quote}");
        }
    }
    // Line ends within a text field are read back as \n alone.
    if value.contains("\n;") || value.contains('\r') || value.contains('\0') {
        return Err(invalid(format!(
            "{value:?} cannot be written as a STAR value"
        )));
    }
    write!(sink, "\n;{value}\n;")
}

fn needs_quoting(value: &str) -> bool {
    let lower = |prefix: &str| {
        value
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    value.is_empty()
        || value.contains(char::is_whitespace)
        || value.starts_with(['_', '#', '$', '"', '\'', ';', '[', ']'])
        || ["data_", "loop_", "save_", "stop_", "global_"]
            .into_iter()
            .any(lower)
}

/// Whether a reader would take a quotation mark inside the value for its end.
fn ends_early(value: &str, quote: char) -> bool {
    value.match_indices(quote).any(|(at, _)| {
        value[at + 1..]
            .chars()
            .next()
            .is_some_and(char::is_whitespace)
    })
}

fn check_label(label: &str) -> io::Result<()> {
    if label.is_empty() {
        return Err(invalid("a STAR label cannot be empty".to_owned()));
    }
    check_word(label)
}

fn check_word(word: &str) -> io::Result<()> {
    if word.contains(|c: char| c.is_whitespace() || c == '\0') {
        return Err(invalid(format!(
            "{word:?} cannot be a STAR label or block name"
        )));
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
