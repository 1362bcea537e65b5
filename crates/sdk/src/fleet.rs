//! The broker itself and its workers, as people ask about them.

use crate::{CallError, Client};
use dewar_proto::{limits, v1};
use dewar_task::Kind;
use v1::admin_client::AdminClient;

/// How a broker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// The protocol it speaks.
    pub protocol: v1::ProtocolVersion,
    /// Its release, such as 0.1.0.
    pub program_version: String,
    /// The machine it runs on.
    pub host_name: String,
    /// When it started.
    pub started_unix_ms: u64,
    /// How often its data folder was opened by a broker.
    pub broker_start: u64,
    /// Its data folder, on its machine.
    pub data_dir: String,
    /// Jobs it knows.
    pub job_count: u64,
    /// Tasks waiting in all jobs.
    pub waiting_count: u64,
    /// Tasks running.
    pub running_count: u64,
    /// Workers in the fleet.
    pub worker_count: u64,
    /// Slots of all workers.
    pub slot_count: u64,
    /// Bytes of blobs in the data folder; imported files stay where they are and do not count.
    pub blob_bytes: u64,
    /// Room on the disk of the data folder; none if the broker does not say.
    pub free_bytes: Option<u64>,
    /// Why submits and uploads are refused now.
    pub refusing_reason: Option<String>,
    /// Bytes of blobs it sent since it started; 0 from a broker of minor 1.
    pub sent_blob_bytes: u64,
    /// Bytes of blobs that came to it since it started; 0 from a broker of a minor before 4.
    pub received_blob_bytes: u64,
    /// Its clock as it answered; none from a broker of a minor before 5.
    pub now_unix_ms: Option<u64>,
}

/// How a worker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The machine it runs on.
    pub host_name: String,
    /// How many tasks it runs at once.
    pub slot_count: u32,
    /// How many it runs now.
    pub running_count: u32,
    /// The kinds it offers.
    pub kinds: Vec<Kind>,
    /// Its site: the name given, else its subnet.
    pub site: String,
    /// Its release.
    pub program_version: String,
    /// It finishes what runs and takes nothing new.
    pub draining: bool,
    /// False while its connection is down and its lease still runs.
    pub connected: bool,
    /// Tasks it brought to success.
    pub succeeded_count: u64,
    /// Tries that failed on it.
    pub failed_count: u64,
    /// When it joined.
    pub joined_unix_ms: u64,
    /// Tries it was sent ahead, behind those that run.
    pub waiting_count: u32,
    /// Memory its tasks may use together; none if it does not say.
    pub memory_bytes: Option<u64>,
    /// Why it is given nothing or little now.
    pub held_back_reason: Option<String>,
    /// Where peers fetch chunks from it; none if they cannot. This and what follows is not said by a broker of minor 1.
    pub data_address: Option<String>,
    /// Bytes of chunks that it can serve.
    pub held_bytes: u64,
    /// What it fetched from the broker since it joined.
    pub fetched_from_broker_bytes: u64,
    /// What it fetched from other workers since it joined.
    pub fetched_from_peers_bytes: u64,
    /// Chunks others got from it that were not what they should be. After the first nobody fetches from it any more.
    pub corrupt_count: u64,
    /// Bytes of results that its folder keeps; none if it keeps none, as far as the broker says.
    pub kept_bytes: Option<u64>,
    /// Name of the token it attends with. This and what follows is not said by a broker of a minor before 5.
    pub owner: Option<String>,
    /// Where it says that peers reach it, while the broker does not, and what became of the broker's last try.
    pub unreached: Option<(String, String)>,
}

impl Client {
    /// How the broker stands.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn status(&self) -> Result<BrokerStatus, CallError> {
        const CALL: &str = "asking for the status";
        let caller = &self.shared.caller;
        let answer = caller
            .call(CALL, |channel| async move {
                AdminClient::new(channel).status(v1::StatusRequest {}).await
            })
            .await?;
        BrokerStatus::from_wire(CALL, answer)
    }

    /// The workers of the fleet.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>, CallError> {
        let caller = &self.shared.caller;
        let answer = caller
            .call("listing workers", |channel| async move {
                AdminClient::new(channel)
                    .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                    .list_workers(v1::ListWorkersRequest {})
                    .await
            })
            .await?;
        Ok(answer.workers.into_iter().map(Into::into).collect())
    }

    /// Lets workers, named by name or id, finish what they run and leave. Gives the names of those that were told.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn drain(&self, workers: &[String]) -> Result<Vec<String>, CallError> {
        self.send_drain(workers.to_vec(), false).await
    }

    /// [`Client::drain`] for every worker.
    ///
    /// # Errors
    /// What the broker refuses.
    pub async fn drain_all(&self) -> Result<Vec<String>, CallError> {
        self.send_drain(Vec::new(), true).await
    }

    async fn send_drain(&self, workers: Vec<String>, all: bool) -> Result<Vec<String>, CallError> {
        let request = v1::DrainRequest { workers, all };
        let caller = &self.shared.caller;
        let answer = caller
            .call("draining workers", |channel| {
                let request = request.clone();
                async move { AdminClient::new(channel).drain(request).await }
            })
            .await?;
        Ok(answer.workers)
    }
}

impl BrokerStatus {
    pub(crate) fn from_wire(
        call: &'static str,
        status: v1::StatusResponse,
    ) -> Result<Self, CallError> {
        let protocol = status.protocol.ok_or_else(|| CallError::Answer {
            call,
            problem: "protocol is missing".to_owned(),
        })?;
        Ok(Self {
            protocol,
            program_version: status.program_version,
            host_name: status.host_name,
            started_unix_ms: status.started_unix_ms,
            broker_start: status.broker_start,
            data_dir: status.data_dir,
            job_count: status.job_count,
            waiting_count: status.waiting_count,
            running_count: status.running_count,
            worker_count: status.worker_count,
            slot_count: status.slot_count,
            blob_bytes: status.blob_bytes,
            free_bytes: Some(status.free_bytes).filter(|bytes| *bytes > 0),
            refusing_reason: said(status.refusing_reason),
            sent_blob_bytes: status.sent_blob_bytes,
            received_blob_bytes: status.received_blob_bytes,
            now_unix_ms: Some(status.now_unix_ms).filter(|ms| *ms > 0),
        })
    }
}

impl From<v1::Worker> for WorkerStatus {
    fn from(worker: v1::Worker) -> Self {
        let kinds = worker.kinds.into_iter();
        Self {
            id: worker
                .worker_id
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            name: worker.name,
            host_name: worker.host_name,
            slot_count: worker.slot_count,
            running_count: worker.running_count,
            kinds: kinds
                .map(|kind| Kind {
                    name: kind.name,
                    version: kind.version,
                })
                .collect(),
            site: worker.site,
            program_version: worker.program_version,
            draining: worker.draining,
            connected: worker.connected,
            succeeded_count: worker.succeeded_count,
            failed_count: worker.failed_count,
            joined_unix_ms: worker.joined_unix_ms,
            waiting_count: worker.waiting_count,
            memory_bytes: Some(worker.memory_bytes).filter(|bytes| *bytes > 0),
            held_back_reason: said(worker.held_back_reason),
            data_address: said(worker.data_address),
            held_bytes: worker.held_bytes,
            fetched_from_broker_bytes: worker.fetched_from_broker_bytes,
            fetched_from_peers_bytes: worker.fetched_from_peers_bytes,
            corrupt_count: worker.corrupt_count,
            kept_bytes: worker.keeps_results.then_some(worker.kept_bytes),
            owner: said(worker.owner),
            unreached: said(worker.unreached_address)
                .map(|address| (address, worker.unreached_reason)),
        }
    }
}

/// On the wire, nothing said is an empty text.
fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
