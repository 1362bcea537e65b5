//! Lists as verbs print them: a table for people, an array of objects for machines.

use crate::{
    showing::Shown,
    table::{Column, Table},
};
use serde_json::{Value, json};

/// A thing of which there are lists.
pub trait Listed {
    /// What several of them are called, here and in JSON.
    const PLURAL: &'static str;

    /// The headings of the table.
    const COLUMNS: &'static [Column];

    /// One cell for each column.
    fn cells(&self) -> Vec<String>;

    /// The same and more, for machines.
    fn to_json(&self) -> Value;
}

/// A list, for people and for machines.
pub fn shown<T: Listed>(list: &[T]) -> Shown {
    Shown {
        text: to_text(list),
        json: json!({ T::PLURAL: to_json(list) }),
        notes: Vec::new(),
    }
}

/// An array of objects.
pub fn to_json<T: Listed>(list: &[T]) -> Value {
    list.iter().map(T::to_json).collect()
}

/// A table, or a word that there is nothing to list.
pub fn to_text<T: Listed>(list: &[T]) -> String {
    if list.is_empty() {
        return format!("no {}\n", T::PLURAL);
    }
    let mut table = Table::new(T::COLUMNS);
    list.iter().for_each(|item| table.add(&item.cells()));
    table.render()
}
