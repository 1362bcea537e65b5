//! The connection to one broker.

use crate::{
    CallError, JobSelector, Link, Retry, TaskFilter, TaskPage,
    call::Caller,
    fleet::BrokerStatus,
    job::{Job, JobOptions, JobStatus},
    link::LinkSender,
};
use dewar_blobs::is_transient;
use dewar_proto::{Incompatible, Token, check_protocol, limits, transport, v1};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};
use v1::{admin_client::AdminClient, jobs_client::JobsClient};

/// How long one try at the first call may take, so that a machine that drops packets does not eat all the time.
const FIRST_TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// A customer's connection to a broker. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones of a client, and its jobs, have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) address: String,
    pub(crate) caller: Caller,
    /// What the broker spoke when it was reached.
    pub(crate) protocol: v1::ProtocolVersion,
    /// The broker is in this process, and so reads the same files.
    pub(crate) same_process: bool,
    #[cfg(feature = "embedded")]
    pub(crate) embedded: crate::embedded::Slot,
}

/// How to connect.
#[derive(Debug, Clone, Copy)]
pub struct ConnectOptions {
    /// How long the broker may take to answer for the first time. Once it did, it is waited for without end.
    pub reach_within: Duration,
    /// Waits between tries.
    pub retry: Retry,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            reach_within: Duration::from_secs(10),
            retry: Retry::default(),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error("broker address {address:?} is not HOST:PORT")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nobody answered there.
    #[error(
        "broker at {address} not reached within {waited_s} s: {reason}; is dewar-broker running there, and is the \
         address right? (--broker HOST:PORT or DEWAR_BROKER)"
    )]
    NotReached {
        /// Where.
        address: String,
        /// For how long it was tried.
        waited_s: u64,
        /// What the last try met.
        reason: String,
    },
    /// It is of another release.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// It answered, and refused.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Client {
    /// Connects to the broker at `HOST:PORT`.
    ///
    /// # Errors
    /// If it is not reached within ten seconds, does not accept the token, or speaks another protocol.
    pub async fn connect(address: &str, token: Token) -> Result<Self, ConnectError> {
        Self::connect_with(address, token, ConnectOptions::default()).await
    }

    /// [`Client::connect`] with other times.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(
        address: &str,
        token: Token,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let shared = Shared::connect(address, token, options, false).await?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Where the broker is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Whether the broker answers; changes wake the receiver.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.caller.link.subscribe()
    }

    /// Opens a job, or takes up one opened before under the same id.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn open_job(&self, options: JobOptions) -> Result<Job, CallError> {
        const CALL: &str = "opening a job";
        if let Some(what) = options.needs_minor_1() {
            self.shared.require_minor(1, what)?;
        }
        let id = options.id.unwrap_or_default();
        let request = options.into_wire(id);
        let answer = self
            .shared
            .caller
            .call(CALL, |channel| {
                let request = request.clone();
                async move { JobsClient::new(channel).create(request).await }
            })
            .await?;
        let status = JobStatus::from_wire(CALL, answer)?;
        Ok(Job::new(self.clone(), id, &status))
    }

    /// The jobs the broker knows.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn jobs(&self, unfinished_only: bool) -> Result<Vec<JobStatus>, CallError> {
        const CALL: &str = "listing jobs";
        let request = v1::ListJobsRequest { unfinished_only };
        let answer = self
            .shared
            .caller
            .call(CALL, |channel| async move {
                JobsClient::new(channel)
                    .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                    .list(request)
                    .await
            })
            .await?;
        let jobs = answer.jobs.into_iter();
        jobs.map(|job| JobStatus::from_wire(CALL, job)).collect()
    }

    /// How one job stands.
    ///
    /// # Errors
    /// If there is no such job.
    pub async fn job(&self, job: impl Into<JobSelector>) -> Result<JobStatus, CallError> {
        const CALL: &str = "asking for a job";
        let job = job.into();
        let answer = self
            .shared
            .caller
            .call(CALL, |channel| async move {
                let request = v1::GetJobRequest {
                    job: Some(job.into()),
                };
                JobsClient::new(channel).get(request).await
            })
            .await?;
        JobStatus::from_wire(CALL, answer)
    }

    /// Ends a job: its unfinished tasks get the outcome `cancelled`.
    ///
    /// # Errors
    /// If there is no such job, or it belongs to another.
    pub async fn cancel_job(&self, job: impl Into<JobSelector>) -> Result<JobStatus, CallError> {
        const CALL: &str = "cancelling a job";
        let job = job.into();
        let answer = self
            .shared
            .caller
            .call(CALL, |channel| async move {
                let request = v1::CancelJobRequest {
                    job: Some(job.into()),
                };
                JobsClient::new(channel).cancel(request).await
            })
            .await?;
        JobStatus::from_wire(CALL, answer)
    }

    /// One page of a job's tasks, in order of index.
    ///
    /// # Errors
    /// If there is no such job, or the broker cannot filter so.
    pub async fn tasks(
        &self,
        job: impl Into<JobSelector>,
        filter: TaskFilter,
    ) -> Result<TaskPage, CallError> {
        const CALL: &str = "listing tasks";
        if filter.worker_name.is_some() {
            self.shared
                .require_minor(5, "a list of one worker's tasks")?;
        }
        let request = filter.request(job.into());
        let answer = self
            .shared
            .caller
            .call(CALL, |channel| {
                let request = request.clone();
                async move {
                    JobsClient::new(channel)
                        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                        .list_tasks(request)
                        .await
                }
            })
            .await?;
        TaskPage::from_wire(CALL, answer)
    }
}

impl Shared {
    pub(crate) async fn connect(
        address: &str,
        token: Token,
        options: ConnectOptions,
        same_process: bool,
    ) -> Result<Self, ConnectError> {
        let is_host_and_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let channel = transport::channel(address, token)
            .ok()
            .filter(|_| is_host_and_port)
            .ok_or_else(|| ConnectError::Address {
                address: address.to_owned(),
            })?;
        let mut shared = Self {
            address: address.to_owned(),
            caller: Caller {
                channel,
                link: LinkSender::new(),
                retry: options.retry,
                gone: Arc::default(),
            },
            protocol: dewar_proto::PROTOCOL,
            same_process,
            #[cfg(feature = "embedded")]
            embedded: crate::embedded::Slot::default(),
        };
        let status = shared.first_status(options.reach_within).await?;
        check_protocol(Some(status.protocol), "the broker", "customer")?;
        shared.protocol = status.protocol;
        Ok(shared)
    }

    /// Nobody sends what the peer's minor version lacks.
    pub(crate) fn require_minor(&self, minor: u32, what: &'static str) -> Result<(), CallError> {
        let spoken = self.protocol;
        if spoken.minor >= minor {
            return Ok(());
        }
        Err(CallError::BrokerTooOld {
            what,
            needed: v1::ProtocolVersion {
                minor,
                ..dewar_proto::PROTOCOL
            },
            spoken,
        })
    }

    /// The first answer of all: here, and only here, an absent broker is an error.
    async fn first_status(&self, reach_within: Duration) -> Result<BrokerStatus, ConnectError> {
        const CALL: &str = "connecting";
        let ends_at = time::Instant::now() + reach_within;
        let mut waits = self.caller.retry.waits();
        loop {
            let mut admin = AdminClient::new(self.caller.channel.clone());
            let asked = time::timeout_at(
                ends_at.min(time::Instant::now() + FIRST_TRY_TIMEOUT),
                admin.status(v1::StatusRequest {}),
            );
            let reason = match asked.await {
                Ok(Ok(answer)) => {
                    return Ok(BrokerStatus::from_wire(CALL, answer.into_inner())?);
                }
                Ok(Err(status)) if !is_transient(&status) => {
                    return Err(CallError::new(CALL, &status).into());
                }
                Ok(Err(status)) => root_cause(&status),
                Err(_) => "no answer".to_owned(),
            };
            self.caller.link.away(&reason);
            if time::timeout_at(ends_at, waits.next()).await.is_err() {
                return Err(ConnectError::NotReached {
                    address: self.address.clone(),
                    waited_s: reach_within.as_secs(),
                    reason,
                });
            }
        }
    }
}

/// The innermost cause: "connection refused" says more than "transport error".
fn root_cause(status: &tonic::Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if std::ptr::addr_eq(cause, std::ptr::from_ref(status)) {
        status.message().to_owned()
    } else {
        cause.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_sent_that_the_brokers_minor_version_lacks() {
        let shared = |minor| Shared {
            address: String::new(),
            caller: Caller {
                channel: transport::channel("127.0.0.1:1", "me.0123".parse().unwrap()).unwrap(),
                link: LinkSender::new(),
                retry: Retry::default(),
                gone: Arc::default(),
            },
            protocol: v1::ProtocolVersion { major: 1, minor },
            same_process: false,
            #[cfg(feature = "embedded")]
            embedded: crate::embedded::Slot::default(),
        };
        let old = Client {
            shared: Arc::new(shared(0)),
        };
        let options = JobOptions {
            reuse: true,
            ..JobOptions::named("modern")
        };
        let refused = old.open_job(options).await.unwrap_err().to_string();
        assert!(
            refused.contains("reuse") && refused.contains("1.1") && refused.contains("1.0"),
            "{refused}"
        );
        assert!(shared(1).require_minor(1, "a rerun").is_ok());

        let job = JobSelector::Number(1);
        let refused = old.task(job, crate::TaskIndex(0)).await.unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("a single task in full needs a broker of protocol 1.5")
        );
        let filter = TaskFilter {
            worker_name: Some("w1".to_owned()),
            ..TaskFilter::default()
        };
        let refused = old.tasks(job, filter).await.unwrap_err();
        assert!(refused.to_string().contains("1.5"), "{refused}");
    }
}
