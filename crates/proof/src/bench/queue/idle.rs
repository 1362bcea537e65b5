//! Thousands of workers with nothing to do: what keeping them costs the broker.

use super::{
    Bench,
    machine::{computed, resident_mb},
    report::Target,
};
use crate::lab::{Lab, token};
use anyhow::{Context, Result, bail};
use dewar_proto::{
    PROTOCOL, Token,
    transport::channel,
    v1::{self, broker_message, fleet_client::FleetClient, worker_message},
};
use std::time::{Duration, Instant};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;

/// How long the broker is watched: four heartbeats of every worker.
const WATCHED: Duration = Duration::from_secs(20);

impl Bench {
    pub(super) async fn idle(&mut self) -> Result<()> {
        let lab = Lab::open(&self.dir)?;
        let count = self.count(2000);
        let token = token(&lab.broker.token_file)?;
        let mut workers = JoinSet::new();
        let (attending, mut attended) = mpsc::channel(1);
        for n in 0..count {
            let (address, token) = (lab.broker.address.clone(), token.clone());
            workers.spawn(attend(address, token, n, attending.clone()));
            // One at a time: this measures idle workers, not their arrival.
            tokio::select! {
                _ = attended.recv() => {}
                Some(ended) = workers.join_next() => ended??,
            }
        }
        let pid = lab.broker.pid();
        let (before, started) = (computed(pid)?, Instant::now());
        tokio::select! {
            () = sleep(WATCHED) => {}
            Some(ended) = workers.join_next() => {
                ended??;
                bail!("a worker's session ended");
            }
        }
        let share = (computed(pid)? - before).as_secs_f64() / started.elapsed().as_secs_f64();
        self.report.add(
            format!("{count} idle workers: broker's share of one core"),
            100.0 * share,
            "%",
            Some(Target::AtMost(5.0)),
        );
        self.report.add(
            format!("{count} idle workers: broker's resident memory"),
            resident_mb(pid)?,
            "MB",
            Some(Target::AtMost(150.0)),
        );
        Ok(())
    }
}

/// A worker made of its messages alone, on a connection of its own. Ends with its session.
async fn attend(address: String, token: Token, n: u64, attending: mpsc::Sender<()>) -> Result<()> {
    let (sender, messages) = mpsc::channel(4);
    sender
        .send(say(worker_message::Message::Hello(hello(n))))
        .await?;
    let mut client = FleetClient::new(channel(&address, token)?);
    let mut stream = client
        .attend(ReceiverStream::new(messages))
        .await?
        .into_inner();
    let welcome = stream.message().await?.and_then(|message| message.message);
    let Some(broker_message::Message::Welcome(welcome)) = welcome else {
        bail!("heard {welcome:?} before welcome");
    };
    attending.send(()).await?;
    let mut beats = interval(Duration::from_millis(welcome.heartbeat_ms.into()));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick() => {
                let beat = worker_message::Message::Heartbeat(v1::Heartbeat::default());
                sender.send(say(beat)).await?;
            }
            heard = stream.message() => {
                heard?.context("the broker ended the session")?;
            }
        }
    }
}

fn hello(n: u64) -> v1::Hello {
    let mut worker_id = vec![0; 16];
    worker_id[..8].copy_from_slice(&n.to_le_bytes());
    v1::Hello {
        protocol: Some(PROTOCOL),
        worker_id,
        name: format!("idle-{n}"),
        host_name: "bench".to_owned(),
        slot_count: 16,
        kinds: vec![v1::Kind {
            name: "test.noop".to_owned(),
            version: 1,
        }],
        ..Default::default()
    }
}

fn say(message: worker_message::Message) -> v1::WorkerMessage {
    v1::WorkerMessage {
        message: Some(message),
    }
}
