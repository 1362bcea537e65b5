//! What can be wrong with a STAR file, by line.

use std::io;
use std::path::PathBuf;

/// A STAR file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StarError {
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file has no content but blanks and comments.
    #[error("{}: the file is empty; expected a STAR file with a data_ block", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The text breaks STAR's rules.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u32,
        /// Which rule.
        problem: SyntaxProblem,
    },
}

/// Which of STAR's rules a line breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxProblem {
    /// Bytes that are not text.
    #[error("not a text file (expected UTF-8)")]
    NotText,
    /// More text than positions are kept for.
    #[error("the file is longer than 4 GiB of text")]
    TooLong,
    /// Something before the first block.
    #[error("expected a data_ block before {found:?}")]
    OutsideBlock {
        /// What stands there.
        found: String,
    },
    /// A quotation that does not end on its line.
    #[error("a quotation mark has no partner on its line")]
    OpenQuote,
    /// A text field that does not end.
    #[error("a text field (a line that begins with ;) has no end")]
    OpenText,
    /// A value with no column or label.
    #[error("value {found:?} belongs to no label or loop")]
    StrayValue {
        /// The value.
        found: String,
    },
    /// A loop without columns.
    #[error("a loop_ has no columns")]
    NoColumns,
    /// One column or value named twice.
    #[error("label _{label} appears twice")]
    RepeatedLabel {
        /// The label.
        label: String,
    },
    /// A label without its value.
    #[error("label _{label} has no value")]
    NoValue {
        /// The label.
        label: String,
    },
    /// A row with too few or too many values.
    #[error("the row has {found} values; expected {expected}, one a column")]
    RowLength {
        /// How many values.
        found: usize,
        /// How many columns.
        expected: usize,
    },
}
