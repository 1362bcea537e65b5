//! Which tasks to cancel or to run again: some of a job, a whole job, an owner's jobs, or all.

use crate::{CallError, Client, JobSelector, JobStatus, MalformedJob, TaskIndex};
use dewar_proto::{limits, v1};
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// Jobs of which it changed a task.
    pub job_count: u64,
    /// Tasks it changed.
    pub task_count: u64,
    /// What could not be rerun and why, for people, a line for each job. Brokers of before this was said skip nothing.
    pub skipped: Vec<String>,
}

const CANCEL: &str = "cancelling tasks";

impl Client {
    /// Ends unfinished tasks: their outcome is `cancelled`. Whole jobs are closed as well.
    ///
    /// # Errors
    /// If there is no such job or task.
    pub async fn cancel_tasks(&self, tasks: &TaskSelection) -> Result<Selected, CallError> {
        let answer = self.send_cancel(tasks).await?;
        Ok(Selected {
            job_count: answer.job_count,
            task_count: answer.task_count,
            skipped: Vec::new(),
        })
    }

    /// Ends the unfinished jobs of an owner, or all, and gives them as they stand then: the first 4096, should there be
    /// more. At once: either all are ended or none is, unless the broker is of a minor protocol before 3, to which they are
    /// named one by one.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn cancel_jobs(&self, jobs: &TaskSelection) -> Result<Vec<JobStatus>, CallError> {
        if self.shared.require_minor(3, CANCEL).is_ok() {
            let ended = self.send_cancel(jobs).await?.jobs.into_iter();
            return ended.map(|job| JobStatus::from_wire(CANCEL, job)).collect();
        }
        let mut ended = Vec::new();
        for job in self.unfinished_jobs(jobs).await? {
            ended.push(self.cancel_job(job.id).await?);
        }
        Ok(ended)
    }

    /// The unfinished jobs of a selection.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn unfinished_jobs(
        &self,
        selection: &TaskSelection,
    ) -> Result<Vec<JobStatus>, CallError> {
        let mut jobs = self.jobs(true).await?;
        jobs.retain(|job| match selection {
            TaskSelection::Tasks(selector, _) | TaskSelection::Job(selector) => match selector {
                JobSelector::Id(id) => job.id == *id,
                JobSelector::Number(number) => job.number == *number,
            },
            TaskSelection::Owner(owner) => job.owner == *owner,
            TaskSelection::All => true,
        });
        Ok(jobs)
    }

    async fn send_cancel(
        &self,
        tasks: &TaskSelection,
    ) -> Result<v1::CancelTasksResponse, CallError> {
        self.shared.require_minor(1, CANCEL)?;
        let caller = &self.shared.caller;
        let call = caller.call(CANCEL, |channel| async move {
            let request = v1::CancelTasksRequest {
                tasks: Some(tasks.into()),
            };
            JobsClient::new(channel)
                .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                .cancel_tasks(request)
                .await
        });
        call.await
    }

    /// Runs tasks that have ended once more, in a new generation with an outcome of its own: those that failed or were
    /// cancelled, and those that succeeded as well if `succeeded` is set. Tasks selected one by one are rerun either way.
    /// Of a job, an owner or all, what cannot be rerun is skipped.
    ///
    /// # Errors
    /// If there is no such job or task, or nothing can be rerun: an input was given up meanwhile, or there is no room.
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
            skipped: answer.skipped,
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

    /// Cancels all jobs at a real broker, said to be of some minor protocol.
    async fn cancel_all(minor: u32) {
        let folder = tempfile::tempdir().unwrap();
        let config = dewar_broker::Config {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            ..dewar_broker::Config::new(folder.path())
        };
        let broker = dewar_broker::Broker::start(config).await.unwrap();
        let (address, token) = (
            broker.address().to_string(),
            broker.token().parse().unwrap(),
        );
        let mut client = Client::connect(&address, token).await.unwrap();
        let shared = std::sync::Arc::get_mut(&mut client.shared).unwrap();
        shared.protocol.minor = minor;
        for name in ["one", "two"] {
            let options = crate::JobOptions::named(name);
            client.open_job(options).await.unwrap();
        }
        let unfinished = client.unfinished_jobs(&TaskSelection::All).await.unwrap();
        assert_eq!(unfinished.len(), 2);
        let nobody = TaskSelection::Owner("nobody".to_owned());
        assert_eq!(client.cancel_jobs(&nobody).await.unwrap(), []);
        let ended = client.cancel_jobs(&TaskSelection::All).await.unwrap();
        let names: Vec<_> = ended.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(ended.iter().all(|job| job.closed));
        assert_eq!(client.cancel_jobs(&TaskSelection::All).await.unwrap(), []);
        broker.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn many_jobs_are_cancelled_and_named_by_brokers_old_and_new() {
        for minor in [2, 3] {
            cancel_all(minor).await;
        }
    }
}
