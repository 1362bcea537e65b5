//! What a kernel may ask while it runs.

use crate::{InputBytes, RunError};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

/// One try at a task, as its kernel sees it.
///
/// The worker keeps a clone: it raises the stop flag and reads the progress from there.
#[derive(Debug, Clone, Default)]
pub struct Context {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inputs: Vec<InputBytes>,
    slot_count: usize,
    stopped: AtomicBool,
    /// Progress as the bits of an `f32`.
    progress: AtomicU32,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            slot_count: 1,
            stopped: AtomicBool::new(false),
            progress: AtomicU32::new(0),
        }
    }
}

impl Context {
    /// A context over the task's inputs, in the order the customer named them.
    pub fn new(inputs: Vec<InputBytes>) -> Self {
        Self::with_slots(inputs, 1)
    }

    /// A context of a task that has several slots.
    pub fn with_slots(inputs: Vec<InputBytes>, slot_count: usize) -> Self {
        let shared = Shared {
            inputs,
            slot_count,
            ..Shared::default()
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// How many slots the task has: it may keep so many threads busy, the one that it is called on among them.
    pub fn slot_count(&self) -> usize {
        self.shared.slot_count
    }

    /// The input at `index`.
    ///
    /// # Errors
    /// [`RunError::BadInput`] if the task has fewer.
    pub fn input(&self, index: usize) -> Result<&InputBytes, RunError> {
        self.shared.inputs.get(index).ok_or_else(|| {
            RunError::BadInput(format!(
                "input {index} is missing; the task has {}",
                self.shared.inputs.len()
            ))
        })
    }

    /// How many inputs there are.
    pub fn input_count(&self) -> usize {
        self.shared.inputs.len()
    }

    /// Whether to go on. Kernels ask at least every 100 ms and pass the error on.
    ///
    /// # Errors
    /// [`RunError::Cancelled`] once the try was stopped.
    pub fn check(&self) -> Result<(), RunError> {
        if self.shared.stopped.load(Ordering::Relaxed) {
            Err(RunError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Tells how far the kernel is, from 0 to 1. What is no number counts as 0.
    pub fn set_progress(&self, fraction: f32) {
        // A share of nothing, 0/0, is easily computed, and a clamp lets it pass.
        let fraction = if fraction.is_nan() { 0.0 } else { fraction };
        self.shared
            .progress
            .store(fraction.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// What the kernel last told.
    pub fn progress(&self) -> f32 {
        f32::from_bits(self.shared.progress.load(Ordering::Relaxed))
    }

    /// Asks the kernel to stop at its next check.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

impl From<crate::MissingInput> for RunError {
    fn from(missing: crate::MissingInput) -> Self {
        Self::BadInput(missing.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_number_from_0_to_1() {
        let context = Context::default();
        for (told, kept) in [
            (0.5, 0.5),
            (f32::NAN, 0.0),
            (-1.0, 0.0),
            (f32::INFINITY, 1.0),
        ] {
            context.set_progress(told);
            assert_eq!(context.progress().to_bits(), f32::to_bits(kept), "{told}");
        }
    }
}
