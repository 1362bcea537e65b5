//! A job: what tasks are submitted to.

use crate::{CallError, Client, JobId, Outcomes};
use dewar_blobs::Digest;
use dewar_proto::v1;
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;
use v1::jobs_client::JobsClient;

/// How to open a job.
#[derive(Debug, Clone, Default)]
pub struct JobOptions {
    /// For people.
    pub name: String,
    /// -100 to 100; larger goes first among one owner's jobs.
    pub priority: i32,
    /// A name of the customer's own, to take the job up again after a crash; without it, a new one is made.
    pub id: Option<JobId>,
    /// How long the job, its outcomes and its blobs are kept once it is finished; without it, as the broker does.
    pub keep: Option<Duration>,
    /// The job is cancelled when nobody has watched its outcomes for so long; without it, it runs on.
    pub absence_max: Option<Duration>,
    /// Tasks that were computed before, by a kernel that gives the same again, are answered from the earlier outcome.
    pub reuse: bool,
}

impl JobOptions {
    /// A new job of ordinary priority.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// What of it the first brokers did not know.
    pub(crate) fn needs_minor_1(&self) -> Option<&'static str> {
        [
            (self.keep.is_some(), "a keep time"),
            (self.absence_max.is_some(), "a limit on absence"),
            (self.reuse, "reuse of earlier outcomes"),
        ]
        .into_iter()
        .find_map(|(is_set, what)| is_set.then_some(what))
    }

    pub(crate) fn into_wire(self, id: JobId) -> v1::CreateJobRequest {
        v1::CreateJobRequest {
            job_id: id.to_wire(),
            name: self.name,
            priority: self.priority,
            protocol: Some(dewar_proto::PROTOCOL),
            keep_ms: self.keep.map_or(0, whole_ms),
            absence_ms_max: self.absence_max.map_or(0, whole_ms),
            reuse: self.reuse,
        }
    }
}

/// A time under a millisecond is a time still, and not the wire's 0 for none.
pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// An open job. Clones are the same job.
#[derive(Debug, Clone)]
pub struct Job {
    pub(crate) client: Client,
    id: JobId,
    number: u64,
    pub(crate) submitted: Arc<Mutex<Submitted>>,
}

/// What was submitted so far. Held locked while tasks are sent: indices have no gaps, so they go in order.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) next_index: u64,
    /// More may have been accepted than we heard of: the broker is to be asked before an index is given out.
    pub(crate) unsure: bool,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// The name its customer chose.
    pub id: JobId,
    /// The broker's running number: 7 is shown as `j7`.
    pub number: u64,
    /// For people.
    pub name: String,
    /// Name of the token that opened it.
    pub owner: String,
    /// Larger goes first among one owner's jobs.
    pub priority: i32,
    /// When it was opened.
    pub created_unix_ms: u64,
    /// No more tasks will come.
    pub closed: bool,
    /// Tasks no worker has.
    pub waiting_count: u64,
    /// Tasks with a try under way.
    pub running_count: u64,
    /// Tasks with an output.
    pub succeeded_count: u64,
    /// Tasks that failed for good.
    pub failed_count: u64,
    /// Tasks that were cancelled.
    pub cancelled_count: u64,
    /// Why waiting tasks cannot run now.
    pub blocked_reason: Option<String>,
    /// How long it is kept once it is finished; 0 if the broker does not say.
    pub keep_ms: u64,
    /// It is cancelled when nobody has watched it for so long.
    pub absence_ms_max: Option<u64>,
    /// Tasks that were computed before are answered from the earlier outcome.
    pub reuse: bool,
    /// Sequence number of its last outcome: more than its ended tasks, once some were rerun.
    pub last_sequence: u64,
}

impl JobStatus {
    /// Tasks submitted so far.
    #[must_use]
    pub fn task_count(&self) -> u64 {
        self.unfinished_count() + self.outcome_count()
    }

    /// Tasks that have their outcome.
    #[must_use]
    pub fn outcome_count(&self) -> u64 {
        self.succeeded_count + self.failed_count + self.cancelled_count
    }

    /// Tasks that wait or run.
    #[must_use]
    pub fn unfinished_count(&self) -> u64 {
        self.waiting_count + self.running_count
    }

    pub(crate) fn from_wire(call: &'static str, job: v1::Job) -> Result<Self, CallError> {
        let id = JobId::from_wire(&job.job_id).ok_or_else(|| CallError::Answer {
            call,
            problem: format!("job_id has {} bytes", job.job_id.len()),
        })?;
        let mut status = Self {
            id,
            number: job.number,
            name: job.name,
            owner: job.owner,
            priority: job.priority,
            created_unix_ms: job.created_unix_ms,
            closed: job.closed,
            waiting_count: job.waiting_count,
            running_count: job.running_count,
            succeeded_count: job.succeeded_count,
            failed_count: job.failed_count,
            cancelled_count: job.cancelled_count,
            blocked_reason: Some(job.blocked_reason).filter(|reason| !reason.is_empty()),
            keep_ms: job.keep_ms,
            absence_ms_max: Some(job.absence_ms_max).filter(|ms| *ms > 0),
            reuse: job.reuse,
            last_sequence: job.last_sequence,
        };
        // Brokers that do not say know no reruns either.
        status.last_sequence = status.last_sequence.max(status.outcome_count());
        Ok(status)
    }
}

impl Job {
    pub(crate) fn new(client: Client, id: JobId, status: &JobStatus) -> Self {
        Self {
            client,
            id,
            number: status.number,
            submitted: Arc::new(Mutex::new(Submitted {
                next_index: status.task_count(),
                unsure: false,
            })),
        }
    }

    /// Its name on every broker.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Its number on this broker: 7 is shown as `j7`.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The connection it goes over.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How many tasks were submitted, also before the job was taken up again. After a submit that failed the broker is
    /// asked; if it does not answer either, this is how many are known of.
    pub async fn task_count(&self) -> u64 {
        let mut submitted = self.submitted.lock().await;
        // The next submit asks again, and says what is wrong.
        let _ = self.settle(&mut submitted).await;
        submitted.next_index
    }

    /// How it stands.
    ///
    /// # Errors
    /// If the broker has forgotten it.
    pub async fn status(&self) -> Result<JobStatus, CallError> {
        self.client.job(self.id).await
    }

    /// Its outcomes, past ones first.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes_after(0)
    }

    /// Its outcomes with a larger sequence number than this.
    #[must_use]
    pub fn outcomes_after(&self, sequence: u64) -> Outcomes {
        Outcomes::new(self.clone(), sequence)
    }

    /// Says that no more tasks will come: the stream of outcomes ends with the last of them.
    ///
    /// # Errors
    /// If the broker has forgotten the job.
    pub async fn close(&self) -> Result<JobStatus, CallError> {
        const CALL: &str = "closing a job";
        let caller = &self.client.shared.caller;
        let answer = caller
            .call(CALL, |channel| async move {
                let request = v1::CloseJobRequest {
                    job_id: self.id.to_wire(),
                };
                JobsClient::new(channel).close(request).await
            })
            .await?;
        JobStatus::from_wire(CALL, answer)
    }

    /// Ends it: unfinished tasks get the outcome `cancelled`.
    ///
    /// # Errors
    /// If the broker has forgotten it.
    pub async fn cancel(&self) -> Result<JobStatus, CallError> {
        self.client.cancel_job(self.id).await
    }

    /// Gives the broker a page about the job to show to whoever looks: HTML that needs no other file and no script, at most
    /// 6 MiB of it. It replaces the one before.
    ///
    /// # Errors
    /// If the page is too large, or the broker has forgotten the job, has no room, or is of an earlier release.
    pub async fn publish(&self, html: impl Into<Vec<u8>>) -> Result<(), CallError> {
        const CALL: &str = "publishing a page";
        let shared = &self.client.shared;
        shared.require_minor(5, CALL)?;
        let html: &Vec<u8> = &html.into();
        let answer = shared.caller.call(CALL, |channel| async move {
            let request = v1::PublishRequest {
                job_id: self.id.to_wire(),
                html: html.clone(),
            };
            JobsClient::new(channel).publish(request).await
        });
        answer.await.map(drop)
    }

    /// Gives up blobs that are needed no more, uploads and outputs alike.
    ///
    /// # Errors
    /// If the broker has forgotten the job.
    pub async fn release(&self, digests: &[Digest]) -> Result<(), CallError> {
        let caller = &self.client.shared.caller;
        for digests in digests.chunks(RELEASE_DIGESTS_MAX) {
            caller
                .call("releasing blobs", |channel| async move {
                    let request = v1::ReleaseRequest {
                        job_id: self.id.to_wire(),
                        digests: digests.iter().map(|digest| digest.0.to_vec()).collect(),
                    };
                    JobsClient::new(channel).release(request).await
                })
                .await?;
        }
        Ok(())
    }
}

/// Digests in one release: some 30 kB, so that no call holds the broker up.
const RELEASE_DIGESTS_MAX: usize = 1000;
