//! Slots: threads that run kernels, one task each at a time.
//!
//! Plain threads, because a kernel computes for minutes without ever yielding: on the async runtime it would stop the
//! heartbeats by which the broker knows that this worker lives.

use crate::{
    attempt::{AttemptKey, failure},
    materials::Prepared,
    panics,
    session::Event,
};
use dewar_proto::v1;
use dewar_task::{Registry, RunError, RunOutput};
use std::{io, panic::AssertUnwindSafe, sync::mpsc as std_mpsc, thread, time::Instant};
use tokio::sync::mpsc;

/// Stack of a slot. Kernels recurse little, but FFT plans and linear algebra keep tiles on it.
const STACK_BYTES: usize = 8 << 20;

/// All slots of a worker, as its session sees them.
pub(crate) struct Slots {
    senders: Vec<std_mpsc::Sender<Work>>,
    idle: Vec<usize>,
}

struct Work {
    key: AttemptKey,
    prepared: Prepared,
}

/// What a kernel came to.
pub(crate) enum Ran {
    Output(RunOutput),
    Failed(v1::Failure),
    /// It heeded the stop flag.
    Cancelled,
}

impl Slots {
    /// Starts the threads. They end when this is dropped and their kernels return.
    pub(crate) fn start(
        slot_count: u16,
        nice: i32,
        registry: &Registry,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        let mut senders = Vec::new();
        for slot in 0..usize::from(slot_count) {
            let (sender, receiver) = std_mpsc::channel();
            let (registry, events) = (registry.clone(), events.clone());
            thread::Builder::new()
                .name(format!("slot-{slot}"))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    stand_back(nice);
                    serve(slot, &receiver, &registry, &events);
                })?;
            senders.push(sender);
        }
        let idle = (0..senders.len()).rev().collect();
        Ok(Self { senders, idle })
    }

    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    pub(crate) fn all_idle(&self) -> bool {
        self.idle.len() == self.senders.len()
    }

    /// Gives an idle slot a task. Callers ask [`Slots::has_idle`] first.
    pub(crate) fn run(&mut self, key: AttemptKey, prepared: Prepared) {
        let slot = self.idle.pop().expect("a slot is idle: the caller asked");
        self.senders[slot]
            .send(Work { key, prepared })
            .expect("a slot's thread outlives its sender: it catches panics");
    }

    pub(crate) fn end(&mut self, slot: usize) {
        self.idle.push(slot);
    }

    /// Waits for no kernel any more: their threads end with the process, or when they return.
    pub(crate) fn abandon(&mut self) {
        self.senders.clear();
        self.idle.clear();
    }
}

fn serve(
    slot: usize,
    work: &std_mpsc::Receiver<Work>,
    registry: &Registry,
    events: &mpsc::Sender<Event>,
) {
    while let Ok(Work { key, prepared }) = work.recv() {
        let started = Instant::now();
        let ran = run(registry, prepared);
        let run_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let event = Event::Ran {
            key,
            slot,
            ran,
            run_ms,
        };
        if events.blocking_send(event).is_err() {
            return;
        }
    }
}

fn run(registry: &Registry, prepared: Prepared) -> Ran {
    // A kernel that panicked may leave its own state odd, but keeps none between tasks that we know of.
    let caught = panics::catch(AssertUnwindSafe(|| {
        registry.run(&prepared.kind, &prepared.parameters, &prepared.context)
    }));
    match caught {
        Ok(Ok(output)) => Ran::Output(output),
        Ok(Err(RunError::Cancelled)) => Ran::Cancelled,
        Ok(Err(RunError::BadInput(message))) => {
            Ran::Failed(failure(v1::FailureClass::BadInput, &message))
        }
        Ok(Err(RunError::Kernel(message))) => {
            Ran::Failed(failure(v1::FailureClass::KernelError, &message))
        }
        Err(panic) => {
            let message = format!("{} {panic}", prepared.kind);
            Ran::Failed(failure(v1::FailureClass::KernelError, &message))
        }
    }
}

/// On Linux, niceness belongs to the thread: kernels stand back, and heartbeats do not.
fn stand_back(nice: i32) {
    if nice != 0
        && let Err(error) = rustix::process::nice(nice)
    {
        tracing::warn!(nice, %error, "niceness not set");
    }
}
