//! The processes that chaos strikes: one broker, several workers, each with a network of its own.

use super::namespace::Namespace;
use anyhow::{Context, Result};
use dewar_testkit::{Broker, BrokerOptions, Guarded, Mode, Programs, Proxy, Signal, WorkerOptions};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// Broker and workers.
pub(super) struct Fleet {
    programs: Programs,
    broker: Option<Broker>,
    options: BrokerOptions,
    pub(super) token_file: PathBuf,
    pub(super) workers: Vec<Member>,
}

/// A worker, up or down.
pub(super) struct Member {
    program: &'static str,
    options: WorkerOptions,
    process: Option<Guarded>,
    proxy: Proxy,
    /// Where it runs, if not beside the broker. Declared after the process, which must be gone first.
    namespace: Option<Namespace>,
}

impl Fleet {
    /// Starts a broker.
    pub(super) fn start(programs: Programs, folder: &Path, exports: Vec<PathBuf>) -> Result<Self> {
        let options = BrokerOptions {
            data_dir: folder.join("broker"),
            exports,
            listen: "127.0.0.1:0".to_owned(),
        };
        let broker = programs.start_broker(&options)?;
        Ok(Self {
            // Wherever it listens now, it listens for ever.
            options: BrokerOptions {
                listen: broker.address.clone(),
                ..options
            },
            token_file: broker.token_file.clone(),
            broker: Some(broker),
            programs,
            workers: Vec::new(),
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.options.listen
    }

    /// Adds a worker.
    pub(super) async fn add(
        &mut self,
        program: &'static str,
        name: String,
        slot_count: usize,
        folder: &Path,
        namespace: Option<Namespace>,
    ) -> Result<()> {
        let options = WorkerOptions {
            cache_dir: folder.join(format!("cache-{name}")),
            name,
            slot_count,
        };
        let host = namespace
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, |space| space.host);
        self.workers.push(Member {
            program,
            options,
            process: None,
            proxy: Proxy::start(host, Ipv4Addr::LOCALHOST, self.address().parse()?).await?,
            namespace,
        });
        self.start_worker(self.workers.len() - 1)
    }

    pub(super) fn broker_is_up(&self) -> bool {
        self.broker.is_some()
    }

    pub(super) fn kill_broker(&mut self) -> Result<()> {
        self.broker.take().map_or(Ok(()), Broker::kill)
    }

    pub(super) fn start_broker(&mut self) -> Result<()> {
        if self.broker.is_none() {
            let started = self.programs.start_broker(&self.options);
            self.broker = Some(started.context("the broker does not start again")?);
        }
        Ok(())
    }

    pub(super) fn signal_broker(&self, signal: Signal) -> Result<()> {
        self.broker.as_ref().map_or(Ok(()), |b| b.signal(signal))
    }

    pub(super) fn kill_worker(&mut self, index: usize) -> Result<()> {
        self.workers[index]
            .process
            .take()
            .map_or(Ok(()), Guarded::kill)
    }

    pub(super) fn start_worker(&mut self, index: usize) -> Result<()> {
        let member = &mut self.workers[index];
        if member.process.is_none() {
            let programs = match &member.namespace {
                Some(namespace) => self.programs.clone().in_namespace(&namespace.name),
                None => self.programs.clone(),
            };
            member.process = Some(programs.start_worker_program(
                member.program,
                &member.proxy.address.to_string(),
                &self.token_file,
                &member.options,
            )?);
        }
        Ok(())
    }

    pub(super) fn signal_worker(&self, index: usize, signal: Signal) -> Result<()> {
        let process = self.workers[index].process.as_ref();
        process.map_or(Ok(()), |process| process.signal(signal))
    }

    pub(super) fn set_network(&self, index: usize, mode: Mode) -> Result<()> {
        let member = &self.workers[index];
        match (&member.namespace, mode) {
            (Some(namespace), Mode::Cut | Mode::Held) => namespace.plug(false),
            (Some(namespace), _) => {
                member.proxy.set(mode);
                namespace.plug(true)
            }
            (None, mode) => {
                member.proxy.set(mode);
                Ok(())
            }
        }
    }

    /// Nothing ends unless it is killed.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(broker) = &mut self.broker {
            anyhow::ensure!(broker.is_running()?, "the broker ended by itself");
        }
        for Member {
            process, options, ..
        } in &mut self.workers
        {
            if let Some(process) = process {
                let name = &options.name;
                anyhow::ensure!(process.is_running()?, "{name} ended by itself");
            }
        }
        Ok(())
    }
}
