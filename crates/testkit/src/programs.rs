//! `dewar`, `dewar-broker` and `dewar-worker` as built.

use crate::process::Guarded;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder with all three programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    /// Where what each program prints goes; none for the caller's own.
    logs: Option<PathBuf>,
    /// The network namespace they run in; none for the caller's own.
    namespace: Option<String>,
    /// Further flags of the daemons.
    flags: Vec<String>,
}

/// How to start a broker.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Its data folder.
    pub data_dir: PathBuf,
    /// Folders it serves files from in place.
    pub exports: Vec<PathBuf>,
    /// Where it listens; port 0 for any free one.
    pub listen: String,
}

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Shown by `dewar workers`.
    pub name: String,
    /// Tasks at a time.
    pub slot_count: usize,
    /// Its cache; several may share one.
    pub cache_dir: PathBuf,
}

/// A running broker.
pub struct Broker {
    process: Guarded,
    /// Where it listens.
    pub address: String,
    /// The file with its token.
    pub token_file: PathBuf,
}

impl Programs {
    /// The programs in `folder`.
    ///
    /// # Errors
    /// If one is missing.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Result<Self> {
        let programs = Self {
            folder: folder.into(),
            logs: None,
            namespace: None,
            flags: Vec::new(),
        };
        for name in ["dewar", "dewar-broker", "dewar-worker"] {
            let path = programs.folder.join(name);
            ensure!(
                path.exists(),
                "{} is missing; run: cargo build --workspace --bins",
                path.display()
            );
        }
        Ok(programs)
    }

    /// The programs built together with the running test.
    ///
    /// # Errors
    /// If one is missing.
    pub fn beside_test() -> Result<Self> {
        let test = std::env::current_exe()?;
        // target/PROFILE/deps/TEST
        let folder = test
            .parent()
            .and_then(Path::parent)
            .context("tests lie in target/PROFILE/deps")?;
        Self::in_folder(folder)
    }

    /// The same programs, each of which adds what it prints to a file in this folder.
    #[must_use]
    pub fn with_logs_in(self, folder: impl Into<PathBuf>) -> Self {
        Self {
            logs: Some(folder.into()),
            ..self
        }
    }

    /// The command `dewar`, with nothing of the caller's own settings.
    pub fn dewar(&self) -> Command {
        self.command("dewar")
    }

    /// Starts a broker and waits until it serves.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_broker(&self, options: &BrokerOptions) -> Result<Broker> {
        let mut command = self.command("dewar-broker");
        command
            .args(["--listen", &options.listen])
            .arg("--data-dir")
            .arg(&options.data_dir)
            .stdout(Stdio::piped());
        for export in &options.exports {
            command.arg("--export").arg(export);
        }
        command.args(&self.flags);
        let mut process = Guarded::start("dewar-broker", &mut command)?;
        let stdout = process.child().stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .trim()
            .rsplit(' ')
            .next()
            .filter(|word| word.contains(':'));
        let address = address
            .with_context(|| format!("dewar-broker printed '{}'", line.trim()))?
            .to_owned();
        Ok(Broker {
            process,
            address,
            token_file: options.data_dir.join("token"),
        })
    }

    /// Starts a worker of `broker`.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_worker(&self, broker: &Broker, options: &WorkerOptions) -> Result<Guarded> {
        self.start_worker_program("dewar-worker", &broker.address, &broker.token_file, options)
    }

    /// Starts a program with the flags of `dewar-worker`, for the broker at `address`.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_worker_program(
        &self,
        program: &str,
        address: &str,
        token_file: &Path,
        options: &WorkerOptions,
    ) -> Result<Guarded> {
        let mut command = self.command(program);
        command
            .args(["--broker", address, "--name", &options.name])
            .args(["--slots", &options.slot_count.to_string()])
            .arg("--token-file")
            .arg(token_file)
            .arg("--cache-dir")
            .arg(&options.cache_dir)
            .args(&self.flags);
        Guarded::start(&options.name, &mut command)
    }

    /// The same, run inside a network namespace, which needs root.
    #[must_use]
    pub fn in_namespace(self, name: &str) -> Self {
        Self {
            namespace: Some(name.to_owned()),
            ..self
        }
    }

    /// The same, with these flags more for each daemon that is started.
    #[must_use]
    pub fn with_flags(self, flags: &[&str]) -> Self {
        Self {
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..self
        }
    }

    fn command(&self, name: &str) -> Command {
        let program = self.folder.join(name);
        let mut command = match &self.namespace {
            None => Command::new(program),
            // It becomes the program, under its own process id.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        for (variable, _) in std::env::vars_os() {
            let is_setting = variable
                .to_str()
                .is_some_and(|name| name.starts_with("DEWAR_"));
            if is_setting {
                command.env_remove(variable);
            }
        }
        command.env("RUST_LOG", "warn");
        if let Some(logs) = &self.logs {
            let log = File::options()
                .create(true)
                .append(true)
                .open(logs.join(format!("{name}.log")));
            // A folder that takes no logs is no reason to run without the programs.
            if let Ok((log, same)) = log.and_then(|log| Ok((log.try_clone()?, log))) {
                command.stdout(log).stderr(same);
            }
        }
        command
    }
}

impl Broker {
    /// The flags by which a verb of `dewar` finds it.
    pub fn flags(&self) -> [&std::ffi::OsStr; 4] {
        [
            "--broker".as_ref(),
            self.address.as_ref(),
            "--token-file".as_ref(),
            self.token_file.as_ref(),
        ]
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it still runs; an error if it has failed.
    ///
    /// # Errors
    /// If it has failed.
    pub fn is_running(&mut self) -> Result<bool> {
        self.process.is_running()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// If it is gone already.
    pub fn kill(self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// If it does not, or ends badly.
    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }
}
