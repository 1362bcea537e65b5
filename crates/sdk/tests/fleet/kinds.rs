//! Kinds of tasks to test with.

use bytes::Bytes;
use dewar_task::{Context, Kernel, Product, Registry, RunError, TaskKind};
use std::{fs, io::Write as _, path::Path, time::Duration};

#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoParameters {
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: Bytes,
    /// Size of a blob to make.
    #[prost(uint64, tag = "2")]
    pub blob_bytes: u64,
    /// Parts of the first input to read, as offset and length in turn.
    #[prost(uint64, repeated, tag = "3")]
    pub reads: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoOutput {
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub parts: Vec<Bytes>,
}

/// Gives back what it got.
pub struct Echo;

impl TaskKind for Echo {
    const NAME: &'static str = "test.echo";
    const VERSION: u32 = 1;
    type Parameters = EchoParameters;
    type Output = EchoOutput;
}

impl Kernel for Echo {
    fn run(
        &self,
        parameters: EchoParameters,
        context: &Context,
    ) -> Result<Product<EchoOutput>, RunError> {
        let parts = parameters.reads.chunks_exact(2);
        let parts = parts.map(|part| Ok(context.input(0)?.read(part[0], part[1])?));
        let message = EchoOutput {
            bytes: parameters.bytes,
            parts: parts.collect::<Result<_, RunError>>()?,
        };
        let size = parameters.blob_bytes as usize;
        Ok(Product {
            message,
            blobs: (size > 0).then(|| pattern(size)).into_iter().collect(),
        })
    }
}

/// Bytes that differ from chunk to chunk.
pub fn pattern(size: usize) -> Bytes {
    (0..size)
        .map(|n| (n % 251) as u8 ^ (n >> 20) as u8)
        .collect()
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Trouble {
    #[prost(string, tag = "1")]
    pub message: String,
}

/// Panics.
pub struct Panic;

impl TaskKind for Panic {
    const NAME: &'static str = "test.panic";
    const VERSION: u32 = 1;
    type Parameters = Trouble;
    type Output = Trouble;
}

impl Kernel for Panic {
    fn run(&self, parameters: Trouble, _: &Context) -> Result<Product<Trouble>, RunError> {
        panic!("{}", parameters.message)
    }
}

/// Makes the file `FOLDER/begun`, and works until `FOLDER/go` is there. When stopped, it leaves `FOLDER/stopped`.
pub struct Await;

impl TaskKind for Await {
    const NAME: &'static str = "test.await";
    const VERSION: u32 = 1;
    /// The folder.
    type Parameters = Trouble;
    type Output = Trouble;
}

impl Kernel for Await {
    fn run(&self, parameters: Trouble, context: &Context) -> Result<Product<Trouble>, RunError> {
        let folder = Path::new(&parameters.message);
        let mark = |name: &str| {
            fs::write(folder.join(name), "").map_err(|error| RunError::Kernel(error.to_string()))
        };
        mark("begun")?;
        while !folder.join("go").exists() {
            if let Err(stopped) = context.check() {
                mark("stopped")?;
                return Err(stopped);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(parameters.into())
    }
}

/// As [`Await`], with files of its own (`begun-large`, `go-large`), and a product of 3 MB.
pub struct AwaitLarge;

impl TaskKind for AwaitLarge {
    const NAME: &'static str = "test.await-large";
    const VERSION: u32 = 1;
    /// The folder.
    type Parameters = Trouble;
    type Output = Trouble;
}

impl Kernel for AwaitLarge {
    fn run(&self, parameters: Trouble, context: &Context) -> Result<Product<Trouble>, RunError> {
        let folder = Path::new(&parameters.message);
        fs::write(folder.join("begun-large"), "")
            .map_err(|error| RunError::Kernel(error.to_string()))?;
        while !folder.join("go-large").exists() {
            context.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Product {
            message: parameters,
            blobs: vec![pattern(LARGE_BYTES)],
        })
    }
}

/// What [`AwaitLarge`] gives.
pub const LARGE_BYTES: usize = 3_000_000;

/// Makes the file `FOLDER/deaf`, and heeds no stop flag until `FOLDER/go-deaf` is there.
pub struct Deaf;

impl TaskKind for Deaf {
    const NAME: &'static str = "test.deaf";
    const VERSION: u32 = 1;
    /// The folder.
    type Parameters = Trouble;
    type Output = Trouble;
}

impl Kernel for Deaf {
    fn run(&self, parameters: Trouble, _: &Context) -> Result<Product<Trouble>, RunError> {
        let folder = Path::new(&parameters.message);
        fs::write(folder.join("deaf"), "").map_err(|error| RunError::Kernel(error.to_string()))?;
        while !folder.join("go-deaf").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(parameters.into())
    }
}

/// Tells of the thread it runs on.
pub struct Where;

#[derive(Clone, PartialEq, prost::Message)]
pub struct WhereOutput {
    #[prost(int32, tag = "1")]
    pub niceness: i32,
    #[prost(uint64, tag = "2")]
    pub slot_count: u64,
}

impl TaskKind for Where {
    const NAME: &'static str = "test.where";
    const VERSION: u32 = 1;
    type Parameters = ();
    type Output = WhereOutput;
}

impl Kernel for Where {
    fn run(&self, (): (), context: &Context) -> Result<Product<WhereOutput>, RunError> {
        let failed = |error: std::io::Error| RunError::Kernel(error.to_string());
        let stat = fs::read_to_string("/proc/thread-self/stat").map_err(failed)?;
        // The 19th field; the second is a name in brackets, which may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let niceness = fields.split_whitespace().nth(16);
        let output = WhereOutput {
            niceness: niceness.and_then(|field| field.parse().ok()).unwrap_or(-99),
            slot_count: context.slot_count() as u64,
        };
        Ok(output.into())
    }
}

/// Adds a letter to a file each time it runs, so that runs can be counted.
pub struct Count;

#[derive(Clone, PartialEq, prost::Message)]
pub struct CountParameters {
    /// The file.
    #[prost(string, tag = "1")]
    pub file: String,
    /// It fails unless this file is there; empty if it never does.
    #[prost(string, tag = "2")]
    pub needs: String,
}

impl TaskKind for Count {
    const NAME: &'static str = "test.count";
    const VERSION: u32 = 1;
    type Parameters = CountParameters;
    type Output = Trouble;
}

impl Kernel for Count {
    fn run(&self, parameters: CountParameters, _: &Context) -> Result<Product<Trouble>, RunError> {
        let CountParameters { file, needs } = parameters;
        let mut runs = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .map_err(|error| RunError::Kernel(error.to_string()))?;
        runs.write_all(b"r")
            .map_err(|error| RunError::Kernel(error.to_string()))?;
        if needs.is_empty() || Path::new(&needs).exists() {
            Ok(Trouble { message: file }.into())
        } else {
            Err(RunError::BadInput(format!("{needs} is not there")))
        }
    }
}

/// How often it ran.
pub fn runs(file: &Path) -> usize {
    fs::read(file).map_or(0, |runs| runs.len())
}

/// Tells no number as its progress, waits until it was heard, and gives blobs.
pub struct Odd;

#[derive(Clone, PartialEq, prost::Message)]
pub struct OddParameters {
    /// How long it runs after it told its progress.
    #[prost(uint64, tag = "1")]
    pub run_ms: u64,
    #[prost(uint64, tag = "2")]
    pub blob_count: u64,
}

impl TaskKind for Odd {
    const NAME: &'static str = "test.odd";
    const VERSION: u32 = 1;
    type Parameters = OddParameters;
    type Output = Trouble;
}

impl Kernel for Odd {
    fn run(
        &self,
        parameters: OddParameters,
        context: &Context,
    ) -> Result<Product<Trouble>, RunError> {
        context.set_progress(f32::NAN);
        std::thread::sleep(Duration::from_millis(parameters.run_ms));
        Ok(Product {
            message: Trouble::default(),
            blobs: (0..parameters.blob_count)
                .map(|_| Bytes::from_static(b"x"))
                .collect(),
        })
    }
}

pub fn registry() -> Registry {
    Registry::default()
        .with(Echo)
        .with(Panic)
        .with(Await)
        .with(AwaitLarge)
        .with(Deaf)
        .with(Where)
        .with(Count)
        .with(Odd)
}
