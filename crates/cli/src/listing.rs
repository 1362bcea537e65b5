//! Lists as verbs print them: a table for people, an array of objects for machines.

use crate::{
    broker,
    failure::Failure,
    output,
    table::{Column, Table},
};
use dewar_sdk::{CallError, Client};
use dewar_settings::ConnectArgs;
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

/// Asks the broker for a list, and prints it.
///
/// # Errors
/// If the broker is not reached or refuses.
pub fn ask_and_print<T: Listed, Answer>(
    connect: &ConnectArgs,
    json: bool,
    question: impl FnOnce(Client) -> Answer,
) -> Result<(), Failure>
where
    Answer: Future<Output = Result<Vec<T>, CallError>>,
{
    let list = broker::ask(connect, question)?;
    if json {
        output::print_json(&json!({ T::PLURAL: to_json(&list) }))
    } else {
        output::print(&to_text(&list))
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
