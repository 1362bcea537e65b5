//! A broker on a port of its own, and raw clients to talk to it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use dewar_broker::{Broker, Config, Patience, Running};
use dewar_proto::{
    AuthorizedChannel, PROTOCOL, Token,
    transport::channel,
    v1::{
        self, admin_client::AdminClient, broker_message, fleet_client::FleetClient,
        jobs_client::JobsClient, worker_message,
    },
};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub const JOB: [u8; 16] = [7; 16];

/// Longest any test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn start(data_dir: &Path) -> Running {
    let patience = Patience {
        heartbeat: Duration::from_millis(100),
        lease: Duration::from_secs(20),
        reconnect: Duration::from_millis(200),
        comeback: Duration::from_millis(500),
    };
    let config = Config {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        patience,
        ..Config::new(data_dir)
    };
    Broker::start(config).await.unwrap()
}

pub fn connect(broker: &Running) -> AuthorizedChannel {
    connect_to(&broker.address().to_string(), broker.token())
}

pub fn connect_to(address: &str, token: &str) -> AuthorizedChannel {
    channel(address, token.parse::<Token>().unwrap()).unwrap()
}

pub fn jobs(broker: &Running) -> JobsClient<AuthorizedChannel> {
    JobsClient::new(connect(broker))
}

pub fn admin(broker: &Running) -> AdminClient<AuthorizedChannel> {
    AdminClient::new(connect(broker))
}

pub fn create() -> v1::CreateJobRequest {
    v1::CreateJobRequest {
        job_id: JOB.into(),
        name: "test".into(),
        priority: 0,
        protocol: Some(PROTOCOL),
        ..Default::default()
    }
}

pub fn spec(parameters: Vec<u8>) -> v1::TaskSpec {
    v1::TaskSpec {
        kind: Some(v1::Kind {
            name: "test".into(),
            version: 1,
        }),
        parameters: Some(inline(parameters)),
        ..Default::default()
    }
}

pub fn inline(bytes: Vec<u8>) -> v1::Payload {
    v1::Payload {
        place: Some(v1::payload::Place::Inline(bytes.into())),
    }
}

pub fn submit(first_index: u64, tasks: Vec<v1::TaskSpec>) -> v1::SubmitRequest {
    v1::SubmitRequest {
        job_id: JOB.into(),
        first_index,
        tasks,
    }
}

pub fn selector() -> Option<v1::JobSelector> {
    Some(v1::JobSelector {
        by: Some(v1::job_selector::By::Number(1)),
    })
}

/// The real daemon, in a process of its own.
pub struct Daemon {
    pub process: Child,
    pub address: String,
}

impl Daemon {
    pub async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[]).await
    }

    pub async fn start_with(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dewar-broker"))
            .args(["--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.expect("it starts in time").unwrap().expect("a line");
        let address = line.strip_prefix("dewar-broker listening on ").unwrap();
        Self {
            process,
            address: address.to_owned(),
        }
    }

    pub fn client(&self, data_dir: &Path) -> JobsClient<AuthorizedChannel> {
        let token = std::fs::read_to_string(data_dir.join("token")).unwrap();
        JobsClient::new(connect_to(&self.address, &token))
    }
}

/// A worker made of its messages alone.
pub struct FakeWorker {
    pub sender: mpsc::Sender<v1::WorkerMessage>,
    pub receiver: Streaming<v1::BrokerMessage>,
}

impl FakeWorker {
    pub async fn attend(broker: &Running, n: u8, held: Vec<v1::HeldAttempt>) -> Self {
        let hello = Self::hello(n, held);
        Self::attend_as(connect(broker), hello).await.unwrap()
    }

    pub fn hello(n: u8, held: Vec<v1::HeldAttempt>) -> v1::Hello {
        v1::Hello {
            protocol: Some(PROTOCOL),
            worker_id: vec![n; 16],
            name: format!("w{n}"),
            slot_count: 1,
            kinds: vec![v1::Kind {
                name: "test".into(),
                version: 1,
            }],
            held,
            ..Default::default()
        }
    }

    pub async fn attend_as(channel: AuthorizedChannel, hello: v1::Hello) -> Result<Self, Status> {
        let (sender, messages) = mpsc::channel(16);
        let message = worker_message::Message::Hello(hello);
        sender.send(wrap(message)).await.unwrap();
        let mut client = FleetClient::new(channel);
        let response = client.attend(ReceiverStream::new(messages)).await?;
        let mut worker = Self {
            sender,
            receiver: response.into_inner(),
        };
        match worker.hear().await {
            broker_message::Message::Welcome(welcome) => {
                assert_eq!(welcome.protocol, Some(PROTOCOL));
            }
            other => panic!("heard {other:?} before welcome"),
        }
        Ok(worker)
    }

    pub async fn say(&self, message: worker_message::Message) {
        self.sender.send(wrap(message)).await.unwrap();
    }

    pub async fn hear(&mut self) -> broker_message::Message {
        let message = tokio::time::timeout(PATIENCE, self.receiver.message()).await;
        message
            .expect("the broker says something in time")
            .unwrap()
            .expect("the session goes on")
            .message
            .unwrap()
    }

    /// The next assignment. Fake workers have one slot, so there are at most two at a time.
    pub async fn assignments(&mut self) -> Vec<v1::Assignment> {
        match self.hear().await {
            broker_message::Message::Assignments(assignments) => assignments.assignments,
            other => panic!("heard {other:?} instead of assignments"),
        }
    }

    pub async fn succeed(&mut self, assignment: &v1::Assignment, output: Vec<u8>) {
        self.say(worker_message::Message::Report(v1::Report {
            task: assignment.task.clone(),
            attempt: assignment.attempt,
            result: Some(v1::report::Result::Succeeded(v1::Output {
                message: Some(inline(output)),
                blobs: Vec::new(),
            })),
            run_ms: 12,
            fetch_ms: 0,
        }))
        .await;
    }

    pub async fn wait_for_receipt(&mut self) {
        while !matches!(
            self.hear().await,
            broker_message::Message::ReportReceived(_)
        ) {}
    }
}

pub fn held(assignment: &v1::Assignment) -> v1::HeldAttempt {
    v1::HeldAttempt {
        task: assignment.task.clone(),
        attempt: assignment.attempt,
    }
}

fn wrap(message: worker_message::Message) -> v1::WorkerMessage {
    v1::WorkerMessage {
        message: Some(message),
    }
}
