//! What a task is to those who write one: its kind, the [`Kernel`] trait, its inputs and its context.
//!
//! Customers name a [`TaskKind`] to submit tasks with typed parameters; workers run the [`Kernel`] behind it.
//! Neither the wire nor the queue is known here.

mod context;
mod input;
mod instructions;
mod kernel;
mod kind;

pub use context::Context;
pub use input::{InputBytes, MissingInput};
pub use instructions::instruction_class;
pub use kernel::{Kernel, KernelInfo, Product, Registry, RunError, RunOutput};
pub use kind::{Kind, TaskKind};
