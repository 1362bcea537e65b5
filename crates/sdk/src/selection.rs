//! Which tasks to cancel or to run again: some of a job, a whole job, an owner's jobs, or all.

use crate::{CallError, Client, JobSelector, MalformedJob, TaskIndex};
use dewar_proto::v1;
use std::str::FromStr;
use v1::{jobs_client::JobsClient, task_selector::By};

/// Which tasks of which jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskSelection {
    /// Some of one job.
    Tasks(JobSelector, Vec<TaskIndex>),
    /// All of one job.
    Job(JobSelector),
    /// All of an owner's jobs.
    Owner(String),
    /// All of all jobs.
    All,
}

/// How much a call changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selected {
    /// Jobs of which it changed a task.
    pub job_count: u64,
    /// Tasks it changed.
    pub task_count: u64,
}

impl Client {
    /// Ends unfinished tasks: their outcome is `cancelled`. Whole jobs are closed as well.
    ///
    /// # Errors
    /// If there is no such job or task.
    pub async fn cancel_tasks(&self, tasks: &TaskSelection) -> Result<Selected, CallError> {
        const CALL: &str = "cancelling tasks";
        self.shared.require_minor(1, CALL)?;
        let caller = &self.shared.caller;
        let answer = caller
            .call(CALL, |channel| async move {
                let request = v1::CancelTasksRequest {
                    tasks: Some(tasks.into()),
                };
                JobsClient::new(channel).cancel_tasks(request).await
            })
            .await?;
        Ok(Selected {
            job_count: answer.job_count,
            task_count: answer.task_count,
        })
    }

    /// Runs tasks that have ended once more, in a new generation with an outcome of its own: those that failed or were
    /// cancelled, and those that succeeded as well if `succeeded` is set. Tasks selected one by one are rerun either way.
    ///
    /// # Errors
    /// If there is no such job or task, or an input was given up meanwhile.
    pub async fn rerun(
        &self,
        tasks: &TaskSelection,
        succeeded: bool,
    ) -> Result<Selected, CallError> {
        const CALL: &str = "running tasks again";
        self.shared.require_minor(1, CALL)?;
        let caller = &self.shared.caller;
        let answer = caller
            .call(CALL, |channel| async move {
                let request = v1::RerunRequest {
                    tasks: Some(tasks.into()),
                    succeeded,
                };
                JobsClient::new(channel).rerun(request).await
            })
            .await?;
        Ok(Selected {
            job_count: answer.job_count,
            task_count: answer.task_count,
        })
    }
}

impl From<JobSelector> for TaskSelection {
    fn from(job: JobSelector) -> Self {
        Self::Job(job)
    }
}

impl FromStr for TaskSelection {
    type Err = MalformedJob;

    /// Reads a job, such as `j7`, or a task, such as `j7.42`.
    fn from_str(text: &str) -> Result<Self, MalformedJob> {
        match text.rsplit_once('.') {
            None => text.parse().map(Self::Job),
            Some((job, index)) => {
                let index = index.parse().map_err(|_| MalformedJob::new(text))?;
                let job = job.parse().map_err(|_| MalformedJob::new(text))?;
                Ok(Self::Tasks(job, vec![TaskIndex(index)]))
            }
        }
    }
}

impl From<&TaskSelection> for v1::TaskSelector {
    fn from(tasks: &TaskSelection) -> Self {
        let (by, task_indices) = match tasks {
            TaskSelection::Tasks(job, indices) => {
                let indices = indices.iter().map(|index| index.0);
                (By::Job((*job).into()), indices.collect())
            }
            TaskSelection::Job(job) => (By::Job((*job).into()), Vec::new()),
            TaskSelection::Owner(owner) => (By::Owner(owner.clone()), Vec::new()),
            TaskSelection::All => (By::All(true), Vec::new()),
        };
        Self {
            by: Some(by),
            task_indices,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_tasks_are_read() {
        let job = JobSelector::Number(7);
        assert_eq!("j7".parse(), Ok(TaskSelection::Job(job)));
        assert_eq!(
            "j7.42".parse(),
            Ok(TaskSelection::Tasks(job, vec![TaskIndex(42)]))
        );
        for wrong in ["", "j7.", ".3", "j7.x", "j7.-1", "j7.1.2"] {
            assert!(wrong.parse::<TaskSelection>().is_err(), "{wrong:?}");
        }
    }
}
