//! The whole of a STAR file: blocks, and in each its entries in order.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use super::{StarError, Table};
use crate::atomic::{self, WriteError};

/// A STAR file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The data blocks, in order.
    pub blocks: Vec<Block>,
}

/// One data block.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// What follows `data_`; may be empty.
    pub name: String,
    /// Single values and loops, in order.
    pub entries: Vec<Entry>,
}

/// One entry of a block.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A label with one value.
    Single {
        /// The label, without the leading underscore.
        label: String,
        /// Its value.
        value: String,
        /// The line it was read from, counted from 1; 0 if it was made here.
        line: u32,
    },
    /// A loop.
    Loop(Table),
}

impl Document {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, StarError> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|source| StarError::Read {
                path: path.to_owned(),
                source,
            })?;
        Self::parse(&bytes, path)
    }

    /// Takes a file's bytes apart; `path` serves messages only.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, StarError> {
        super::parse::parse(bytes, path)
    }

    /// Writes a file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        atomic::write(path, |file| self.write_to(file))
    }

    /// The first block of that name.
    pub fn block(&self, name: &str) -> Option<&Block> {
        self.blocks.iter().find(|block| block.name == name)
    }
}

impl Block {
    /// A block of that name with one loop.
    pub fn with_table(name: &str, table: Table) -> Self {
        Self {
            name: name.to_owned(),
            entries: vec![Entry::Loop(table)],
        }
    }

    /// The value of a label outside loops.
    pub fn value(&self, label: &str) -> Option<&str> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Single {
                label: known,
                value,
                ..
            } if known == label => Some(value.as_str()),
            _ => None,
        })
    }

    /// The first loop; without any loop, the single values as a table of one row, which is how
    /// some programs write tables that happen to have only one.
    pub fn table(&self) -> Option<Cow<'_, Table>> {
        let first = self.entries.iter().find_map(|entry| match entry {
            Entry::Loop(table) => Some(Cow::Borrowed(table)),
            Entry::Single { .. } => None,
        });
        first.or_else(|| self.singles_as_table().map(Cow::Owned))
    }

    fn singles_as_table(&self) -> Option<Table> {
        let singles = || {
            self.entries.iter().filter_map(|entry| match entry {
                Entry::Single { label, value, line } => Some((label, value, *line)),
                Entry::Loop(_) => None,
            })
        };
        let (_, _, first_line) = singles().next()?;
        let mut table = Table::default();
        for (label, ..) in singles() {
            if !table.add_label(label.clone()) {
                return None;
            }
        }
        for (_, value, _) in singles() {
            if !table.push_value(value) {
                return None;
            }
        }
        table.end_row(first_line);
        Some(table)
    }
}
