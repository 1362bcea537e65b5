//! Which tasks a verb is about: jobs and tasks by name, an owner's, or all.

use crate::{confirm::confirm, failure::Failure};
use clap::Args;
use dewar_sdk::{JobSelector, TaskIndex, TaskSelection};

/// The part of a command line that says which.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct SelectionArgs {
    /// Jobs, such as j7, or single tasks of them, such as j7.42.
    #[arg(value_name = "JOB[.TASK]")]
    named: Vec<TaskSelection>,
    /// Every job of this owner: the name of the token that opened it.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Every job.
    #[arg(long)]
    all: bool,
}

impl SelectionArgs {
    /// What is meant, with the tasks of one job together.
    pub fn selections(&self) -> Vec<TaskSelection> {
        if self.all {
            return vec![TaskSelection::All];
        }
        if let Some(owner) = &self.owner {
            return vec![TaskSelection::Owner(owner.clone())];
        }
        let mut selections: Vec<TaskSelection> = Vec::new();
        for named in &self.named {
            match named {
                TaskSelection::Tasks(job, indices) => {
                    match selections
                        .iter_mut()
                        .find_map(|known| tasks_of(known, *job))
                    {
                        Some(known) => known.extend(indices),
                        None => selections.push(named.clone()),
                    }
                }
                whole => selections.push(whole.clone()),
            }
        }
        selections
    }

    /// Asks before something is done to more than was named one by one.
    ///
    /// # Errors
    /// If the answer is no.
    pub fn confirm(&self, is_sure: bool, question: impl FnOnce() -> String) -> Result<(), Failure> {
        if is_sure || !self.named.is_empty() {
            return Ok(());
        }
        confirm(&question())
    }
}

fn tasks_of(selection: &mut TaskSelection, wanted: JobSelector) -> Option<&mut Vec<TaskIndex>> {
    match selection {
        TaskSelection::Tasks(job, indices) if *job == wanted => Some(indices),
        _ => None,
    }
}

/// A selection as people read it: the subject of an error or a question.
pub fn subject(selection: &TaskSelection) -> String {
    match selection {
        TaskSelection::Tasks(job, indices) => {
            let names = indices.iter().map(|index| format!("{job}.{index}"));
            names.collect::<Vec<_>>().join(", ")
        }
        TaskSelection::Job(job) => job.to_string(),
        TaskSelection::Owner(owner) => format!("jobs of {owner}"),
        TaskSelection::All => "all jobs".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_one_job_come_together() {
        let named = ["j7.1", "j8", "j7.3"];
        let arguments = SelectionArgs {
            named: named.map(|name| name.parse().unwrap()).to_vec(),
            owner: None,
            all: false,
        };
        let selections = arguments.selections();
        let subjects: Vec<String> = selections.iter().map(subject).collect();
        assert_eq!(subjects, ["j7.1, j7.3", "j8"]);
    }
}
