//! Kernels: the code behind a kind, and the set of them a worker offers.

use crate::{Context, Kind, TaskKind};
use bytes::Bytes;
use prost::Message as _;
use std::{collections::BTreeMap, sync::Arc};

/// The code behind a kind. Runs on a worker's slot, one call at a time for each slot.
///
/// It asks [`Context::check`] at least every 100 ms.
pub trait Kernel: TaskKind + Send + Sync + 'static {
    /// Raised with every change of the code that changes what it gives for the same parameters and inputs: outcomes of
    /// another revision answer no new task.
    const REVISION: u32 = 1;

    /// A function of its parameters and inputs alone: the same again gives the same bytes, on any machine of the same
    /// instruction class, however many slots it has. Only then may an earlier outcome answer an equal task. A kernel
    /// that reads a clock, a random number, a file or the network says false.
    const DETERMINISTIC: bool = true;

    /// Computes one task.
    ///
    /// # Errors
    /// [`RunError::BadInput`] when no retry can help, [`RunError::Kernel`] when one may, and
    /// [`RunError::Cancelled`] passed on from the context.
    fn run(
        &self,
        parameters: Self::Parameters,
        context: &Context,
    ) -> Result<Product<Self::Output>, RunError>;
}

/// What a kernel gives: a message, and larger results as bytes of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Product<Output> {
    /// The output message of the kind.
    pub message: Output,
    /// Larger results; the outcome names them in this order.
    pub blobs: Vec<Bytes>,
}

impl<Output> From<Output> for Product<Output> {
    fn from(message: Output) -> Self {
        Self {
            message,
            blobs: Vec::new(),
        }
    }
}

/// Why a kernel gave no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The task cannot succeed anywhere; it is not tried again.
    #[error("{0}")]
    BadInput(String),
    /// Something went wrong here; another try may succeed.
    #[error("{0}")]
    Kernel(String),
    /// The broker told the worker to stop this try.
    #[error("cancelled")]
    Cancelled,
}

/// A kernel's output once encoded, ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutput {
    /// The encoded output message.
    pub message: Bytes,
    /// Larger results, in the kernel's order.
    pub blobs: Vec<Bytes>,
}

/// What a registry tells of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// What it computes.
    pub kind: Kind,
    /// [`Kernel::REVISION`].
    pub revision: u32,
    /// [`Kernel::DETERMINISTIC`].
    pub is_deterministic: bool,
}

/// The kernels a worker offers, by kind.
#[derive(Clone, Default)]
pub struct Registry {
    kernels: BTreeMap<Kind, Arc<dyn RunEncoded>>,
    self_tests: Vec<fn() -> Result<(), String>>,
}

impl Registry {
    /// Adds a kernel. A kind added twice keeps the later one.
    #[must_use]
    pub fn with<K: Kernel>(mut self, kernel: K) -> Self {
        self.kernels.insert(K::kind(), Arc::new(kernel));
        self
    }

    /// Adds a check of this machine, with known answers. An error says what came out wrong. A worker makes it at its
    /// start, within 100 ms, and does not join if it fails.
    #[must_use]
    pub fn with_self_test(mut self, check: fn() -> Result<(), String>) -> Self {
        self.self_tests.push(check);
        self
    }

    /// Makes all checks of this machine.
    ///
    /// # Errors
    /// What the first that failed says.
    pub fn self_test(&self) -> Result<(), String> {
        self.self_tests.iter().try_for_each(|check| check())
    }

    /// The kinds on offer, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kernels.keys()
    }

    /// What there is to know of each kind on offer, in order.
    pub fn kernels(&self) -> impl Iterator<Item = KernelInfo> {
        self.kernels.iter().map(|(kind, kernel)| KernelInfo {
            kind: kind.clone(),
            revision: kernel.revision(),
            is_deterministic: kernel.is_deterministic(),
        })
    }

    /// Runs the kernel of `kind` on encoded parameters.
    ///
    /// # Errors
    /// What the kernel says; [`RunError::BadInput`] for a kind not on offer or parameters that do not decode.
    pub fn run(
        &self,
        kind: &Kind,
        parameters: &[u8],
        context: &Context,
    ) -> Result<RunOutput, RunError> {
        match self.kernels.get(kind) {
            Some(kernel) => kernel.run_encoded(parameters, context),
            None => Err(RunError::BadInput(format!(
                "this worker has no kernel for {kind}"
            ))),
        }
    }
}

trait RunEncoded: Send + Sync {
    fn revision(&self) -> u32;
    fn is_deterministic(&self) -> bool;
    fn run_encoded(&self, parameters: &[u8], context: &Context) -> Result<RunOutput, RunError>;
}

impl<K: Kernel> RunEncoded for K {
    fn revision(&self) -> u32 {
        K::REVISION
    }

    fn is_deterministic(&self) -> bool {
        K::DETERMINISTIC
    }

    fn run_encoded(&self, parameters: &[u8], context: &Context) -> Result<RunOutput, RunError> {
        let parameters = K::Parameters::decode(parameters).map_err(|error| {
            RunError::BadInput(format!(
                "parameters of {} do not decode: {error}",
                K::kind()
            ))
        })?;
        let product = self.run(parameters, context)?;
        Ok(RunOutput {
            message: product.message.encode_to_vec().into(),
            blobs: product.blobs,
        })
    }
}
