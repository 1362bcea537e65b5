//! The parts that need a slow link: one copy, and how much more a swarm costs.

use super::{
    Bench,
    bad_disk::BadDisk,
    network::{LINK_BYTES_PER_S, Network},
    swarm::{Listed, Plan, Swarm, name},
};
use crate::bench::report::Target;
use anyhow::{Result, ensure};
use dewar_blobs::BlobRef;
use dewar_proto::{
    AuthorizedChannel, limits,
    v1::{ByteRange, ReadRequest, blobs_client::BlobsClient},
};
use std::time::{Duration, Instant};

/// Bytes of the file that all want.
const FILE_BYTES: u64 = 100_000_000;

/// A swarm that takes longer than so many copies one after another, and this, is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

impl Bench {
    /// The time one copy takes through the link, read without checks; what else is measured is compared with it.
    pub(super) async fn one_copy(&mut self) -> Result<f64> {
        if let Some(seconds) = self.one_copy_s {
            return Ok(seconds);
        }
        let bytes = self.count(FILE_BYTES);
        let network = Some(Network::create(0)?);
        let swarm = Swarm::begin(self.plan(network)).await?;
        let started = Instant::now();
        read_unchecked(swarm.channel(), swarm.blob).await?;
        let seconds = started.elapsed().as_secs_f64();
        self.report.add(
            format!("one copy of {} MB through 100 Mbit/s", bytes / 1_000_000),
            seconds,
            "s",
            None,
        );
        self.report.add(
            "one copy, of the time its bytes alone take",
            seconds * LINK_BYTES_PER_S / bytes as f64,
            "x",
            None,
        );
        self.one_copy_s = Some(seconds);
        Ok(seconds)
    }

    /// All in one site, all at once.
    pub(super) async fn one_site(&mut self) -> Result<()> {
        let one_copy = self.one_copy().await?;
        let what = format!("{} workers, one site", self.workers);
        let taken = self.share(&what, &["a"], 1.05).await?;
        self.report.add(
            format!("{what}: last one complete, of one copy"),
            taken / one_copy,
            "x",
            Some(Target::AtMost(1.2)),
        );
        Ok(())
    }

    /// Half of them in each of two sites.
    pub(super) async fn two_sites(&mut self) -> Result<()> {
        let one_copy = self.one_copy().await?;
        let what = format!("{} workers, two sites", self.workers);
        let taken = self.share(&what, &["a", "b"], 2.1).await?;
        self.report.add(
            format!("{what}: last one complete, of one copy"),
            taken / one_copy,
            "x",
            None,
        );
        Ok(())
    }

    /// Cold caches, everybody asks for the file at once. The seconds until the last has it.
    async fn share(&mut self, what: &str, sites: &[&str], copies_max: f64) -> Result<f64> {
        let mut swarm = self.swarm(sites).await?;
        let all: Vec<usize> = (0..self.workers).collect();
        let sent_before = sent(&swarm)?;
        let started = Instant::now();
        let _precache = swarm.precache().await?;
        let listed = swarm.until_complete(self.patience(), &all).await?;
        let taken = started.elapsed().as_secs_f64();
        let sent = sent(&swarm)? - sent_before;
        let size = swarm.blob.size_bytes as f64;
        self.report.add(
            format!("{what}: bytes from the broker, of the file"),
            sum(&listed, |one| one.fetched_from_broker_bytes) / size,
            "x",
            Some(Target::AtMost(copies_max)),
        );
        self.report.add(
            format!("{what}: the same, on the wire with headers"),
            sent as f64 / size,
            "x",
            None,
        );
        self.check(what, &mut swarm, &all)?;
        Ok(taken)
    }

    /// One is killed half-way, and one has a disk that spoils a chunk in ten.
    pub(super) async fn trouble(&mut self) -> Result<()> {
        const KILLED: usize = 0;
        const BAD: usize = 1;
        self.one_copy().await?;
        let what = "one killed, one with a bad disk";
        let mut swarm = self.swarm(&["a"]).await?;
        let disk = BadDisk::spoil(&swarm, &name(BAD));
        let size = swarm.blob.size_bytes;
        let _precache = swarm.precache().await?;
        let half_way = |listed: &Listed| listed[&name(KILLED)].held_bytes > size / 4;
        swarm
            .until(self.patience(), "the first quarter", half_way)
            .await?;
        swarm.kill(KILLED)?;
        let rest: Vec<usize> = (2..self.workers).collect();
        let listed = swarm.until_complete(self.patience(), &rest).await?;
        let spoiled = disk.stop();
        self.report.add(
            format!("{what}: bytes from the broker, of the file"),
            sum(&listed, |one| one.fetched_from_broker_bytes) / size as f64,
            "x",
            None,
        );
        self.report.add(
            format!("{what}: chunks it spoiled"),
            spoiled as f64,
            "",
            None,
        );
        self.report.add(
            format!("{what}: corrupt chunks laid to it"),
            f64::from(u32::try_from(listed[&name(BAD)].corrupt_count)?),
            "",
            Some(Target::AtLeast(1.0)),
        );
        let innocent = listed.values().filter(|one| one.name != name(BAD));
        self.report.add(
            format!("{what}: corrupt chunks laid to others"),
            innocent.map(|one| one.corrupt_count as f64).sum(),
            "",
            Some(Target::AtMost(0.0)),
        );
        self.check(what, &mut swarm, &rest)
    }

    /// Looks at every chunk in the caches of these workers.
    fn check(&mut self, what: &str, swarm: &mut Swarm, of: &[usize]) -> Result<()> {
        swarm.stop_workers()?;
        let mut right_count = 0;
        for n in of {
            let is_right = swarm.right_chunks(&name(*n))? == swarm.chunks.chunk_count();
            right_count += usize::from(is_right);
        }
        self.report.add(
            format!("{what}: caches whole and right, of {}", of.len()),
            right_count as f64,
            "",
            Some(Target::AtLeast(of.len() as f64)),
        );
        Ok(())
    }

    /// Workers that are up, spread over sites.
    async fn swarm(&self, sites: &[&str]) -> Result<Swarm> {
        let network = Network::create(self.workers)?;
        let mut swarm = Swarm::begin(self.plan(Some(network))).await?;
        for n in 0..self.workers {
            let site = sites[n % sites.len()];
            swarm.add_worker(&name(n), &["--site", site])?;
        }
        swarm.until_reached().await?;
        Ok(swarm)
    }

    pub(super) fn plan(&self, network: Option<Network>) -> Plan<'_> {
        Plan {
            dir: &self.dir,
            file_bytes: self.count(FILE_BYTES) as usize,
            network,
        }
    }

    pub(super) fn patience(&self) -> Duration {
        let one_copy = self.one_copy_s.unwrap_or_default();
        Duration::from_secs_f64(one_copy * self.workers as f64) + PATIENCE
    }
}

fn sent(swarm: &Swarm) -> Result<u64> {
    swarm.network.as_ref().map_or(Ok(0), Network::sent_bytes)
}

pub(super) fn sum(listed: &Listed, of: impl Fn(&dewar_proto::v1::Worker) -> u64) -> f64 {
    listed.values().map(of).sum::<u64>() as f64
}

/// All of a blob in one stream, thrown away.
pub(super) async fn read_unchecked(channel: AuthorizedChannel, blob: BlobRef) -> Result<()> {
    let mut client = BlobsClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let request = ReadRequest {
        digest: blob.digest.0.to_vec(),
        range: Some(ByteRange {
            offset_bytes: 0,
            length_bytes: blob.size_bytes,
        }),
    };
    let mut stream = client.read(request).await?.into_inner();
    let mut read_bytes = 0;
    while let Some(message) = stream.message().await? {
        read_bytes += message.data.len() as u64;
    }
    ensure!(
        read_bytes == blob.size_bytes,
        "{read_bytes} bytes came of {}",
        blob.size_bytes
    );
    Ok(())
}
