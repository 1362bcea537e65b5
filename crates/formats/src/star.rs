//! STAR files: data blocks of single values and loops, every value a piece of text.
//!
//! What RELION's labels mean is the business of [`crate::particles`]; here a column is a name.
//! Labels are kept without the leading underscore: `rlnImageName`.

mod document;
mod error;
mod parse;
mod table;
mod write;

pub use document::{Block, Document, Entry};
pub use error::{StarError, SyntaxProblem};
pub use table::Table;
