//! Kinds of tasks to measure and to break with: they compute nothing, and what they answer can be checked.

use bytes::Bytes;
use dewar_task::{Context, Kernel, Product, Registry, RunError, TaskKind};
use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Bytes, as parameters or output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Blob {
    /// The bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: Bytes,
}

/// How long to do nothing, and what to give back then.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Nap {
    /// For so long.
    #[prost(uint64, tag = "1")]
    pub ms: u64,
    /// What comes back, as [`echo`] makes it.
    #[prost(bytes = "bytes", tag = "2")]
    pub bytes: Bytes,
}

/// Does nothing with its parameters and gives nothing.
#[derive(Debug)]
pub struct Noop;

impl TaskKind for Noop {
    const NAME: &'static str = "test.noop";
    const VERSION: u32 = 1;
    type Parameters = Blob;
    type Output = Blob;
}

impl Kernel for Noop {
    fn run(&self, _: Blob, _: &Context) -> Result<Product<Blob>, RunError> {
        Ok(Blob::default().into())
    }
}

/// Counts runs, over any number of deaths: each adds a byte to a file.
#[derive(Debug, Clone)]
pub struct Runs(Arc<File>);

impl Runs {
    /// Counts in this file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(file)))
    }

    fn count(&self) -> Result<(), RunError> {
        let counted = (&*self.0).write_all(b".");
        counted.map_err(|error| RunError::Kernel(error.to_string()))
    }
}

/// Gives back what it got, through [`echo`].
#[derive(Debug)]
pub struct Echo(Runs);

impl TaskKind for Echo {
    const NAME: &'static str = "test.echo";
    const VERSION: u32 = 1;
    type Parameters = Blob;
    type Output = Blob;
}

impl Kernel for Echo {
    fn run(&self, parameters: Blob, _: &Context) -> Result<Product<Blob>, RunError> {
        self.0.count()?;
        let bytes = echo(&parameters.bytes);
        Ok(Blob { bytes }.into())
    }
}

/// Sleeps, then gives back what it got, through [`echo`].
#[derive(Debug)]
pub struct Sleep(Runs);

impl TaskKind for Sleep {
    const NAME: &'static str = "test.sleep";
    const VERSION: u32 = 1;
    type Parameters = Nap;
    type Output = Blob;
}

impl Kernel for Sleep {
    fn run(&self, parameters: Nap, context: &Context) -> Result<Product<Blob>, RunError> {
        self.0.count()?;
        let ends_at = Instant::now() + Duration::from_millis(parameters.ms);
        loop {
            context.check()?;
            let left = ends_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let bytes = echo(&parameters.bytes);
                return Ok(Blob { bytes }.into());
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}

/// Every bit flipped: as large and as incompressible as what it was made of, and distinct from it.
#[must_use]
pub fn echo(bytes: &[u8]) -> Bytes {
    bytes.iter().map(|byte| !byte).collect()
}

/// All of them.
#[must_use]
pub fn registry(runs: &Runs) -> Registry {
    let (echo, sleep) = (Echo(runs.clone()), Sleep(runs.clone()));
    Registry::default().with(Noop).with(echo).with(sleep)
}
