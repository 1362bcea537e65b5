//! Slots: threads that run kernels, one task each at a time.
//!
//! Plain threads, because a kernel computes for minutes without ever yielding: on the async runtime it would stop the
//! heartbeats by which the broker knows that this worker lives. They take work from one queue, so that small tasks,
//! given a little ahead, need no word with the session in between; what has not begun can be called back.

use crate::{
    attempt::{AttemptKey, failure},
    materials::{Need, Prepared},
    panics,
    session::Event,
};
use crossbeam_channel::{Receiver, Sender, unbounded};
use dewar_proto::v1;
use dewar_task::{Registry, RunError, RunOutput};
use std::{
    io,
    panic::AssertUnwindSafe,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Stack of a slot. Kernels recurse little, but FFT plans and linear algebra keep tiles on it.
const STACK_BYTES: usize = 8 << 20;

/// Work given ahead of free slots: what they do in this time, so that none waits for the session between two tasks, and
/// an unexpectedly long one holds up next to nothing.
const AHEAD_TIME: Duration = Duration::from_millis(5);

/// Most tasks given ahead, however short they are.
const AHEAD_MAX: usize = 256;

/// Longer tasks all count as this long in the mean, so that a few short ones are enough to trust the next.
const RUN_COUNTED_MAX: Duration = Duration::from_millis(100);

/// All slots of a worker, as its session sees them.
pub(crate) struct Slots {
    threads: Threads,
    orders: Sender<Order>,
    slot_count: usize,
    memory_bytes: u64,
    /// Given and not ended.
    given_count: usize,
    given_slots: usize,
    given_memory_bytes: u64,
    /// Given tasks of more than one slot: while there are any, nothing is given ahead.
    given_wide_count: usize,
    /// Of the last tasks, the later ones counting more.
    run_mean: Duration,
}

/// What it takes to start one more thread.
struct Threads {
    waiting: Receiver<Order>,
    registry: Registry,
    nice: i32,
    events: mpsc::Sender<Event>,
}

enum Order {
    Run(Work),
    /// One thread ends: another that had been given up is back.
    Leave,
}

/// A task on its way to a slot.
pub(crate) struct Work {
    pub(crate) key: AttemptKey,
    /// What people call it.
    pub(crate) task: Arc<str>,
    pub(crate) prepared: Prepared,
}

/// What a kernel came to.
pub(crate) enum Ran {
    Output(RunOutput),
    Failed(v1::Failure),
    /// It heeded the stop flag.
    Cancelled,
}

/// The end of a try.
pub(crate) struct Finished {
    pub(crate) key: AttemptKey,
    pub(crate) need: Need,
    pub(crate) ran: Ran,
    pub(crate) run_time: Duration,
}

impl Slots {
    /// Starts the threads. They end when this is dropped and their kernels return.
    pub(crate) fn start(
        slot_count: u16,
        memory_bytes: u64,
        nice: i32,
        registry: &Registry,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        // Bounded by what may be given ahead.
        let (orders, waiting) = unbounded();
        let slots = Self {
            threads: Threads {
                waiting,
                registry: registry.clone(),
                nice,
                events: events.clone(),
            },
            orders,
            slot_count: slot_count.into(),
            memory_bytes: if memory_bytes == 0 {
                u64::MAX
            } else {
                memory_bytes
            },
            given_count: 0,
            given_slots: 0,
            given_memory_bytes: 0,
            given_wide_count: 0,
            run_mean: RUN_COUNTED_MAX,
        };
        for _ in 0..slot_count {
            slots.threads.start_one()?;
        }
        Ok(slots)
    }

    pub(crate) fn all_idle(&self) -> bool {
        self.given_count == 0
    }

    /// Slots at work.
    pub(crate) fn busy_count(&self) -> usize {
        self.given_slots.min(self.slot_count)
    }

    /// Whether a task may be given now: when so many slots are free, and so much memory, or a little ahead if it is
    /// likely to be short. One that needs more than there is gets all there is.
    pub(crate) fn has_room(&self, need: Need) -> bool {
        let need = self.granted(need);
        let has_memory = need.memory_bytes == 0
            || self.given_memory_bytes.saturating_add(need.memory_bytes) <= self.memory_bytes;
        let is_small = need.slot_count == 1 && need.memory_bytes == 0 && self.given_wide_count == 0;
        let ahead_max = if is_small { self.ahead_max() } else { 0 };
        has_memory && self.given_slots + need.slot_count <= self.slot_count + ahead_max
    }

    fn granted(&self, need: Need) -> Need {
        Need {
            slot_count: need.slot_count.min(self.slot_count),
            memory_bytes: need.memory_bytes.min(self.memory_bytes),
        }
    }

    fn ahead_max(&self) -> usize {
        let in_time = AHEAD_TIME.as_nanos() / self.run_mean.as_nanos().max(1);
        // One that is expected to fill the time alone is not short.
        usize::try_from(in_time).unwrap_or(AHEAD_MAX).min(AHEAD_MAX)
    }

    /// Gives a task to the next slot that is free. Callers ask [`Slots::has_room`] first.
    pub(crate) fn run(&mut self, work: Work) {
        let need = self.granted(work.prepared.need);
        self.given_count += 1;
        self.given_slots += need.slot_count;
        self.given_memory_bytes += need.memory_bytes;
        self.given_wide_count += usize::from(need.slot_count > 1);
        self.orders
            .send(Order::Run(work))
            .expect("the queue has a receiver here");
    }

    /// Takes back what no slot has begun, in order.
    pub(crate) fn recall(&mut self) -> Vec<Work> {
        let waiting = self.threads.waiting.clone();
        let mut recalled = Vec::new();
        for order in waiting.try_iter().take(AHEAD_MAX + self.slot_count) {
            match order {
                Order::Run(work) => {
                    self.release(work.prepared.need);
                    recalled.push(work);
                }
                Order::Leave => {
                    let _ = self.orders.send(Order::Leave);
                }
            }
        }
        recalled
    }

    /// A kernel returned.
    pub(crate) fn end(&mut self, need: Need, run_time: Duration) {
        self.release(need);
        self.run_mean = (self.run_mean * 15 + run_time.min(RUN_COUNTED_MAX)) / 16;
    }

    fn release(&mut self, need: Need) {
        let need = self.granted(need);
        self.given_count -= 1;
        self.given_slots -= need.slot_count;
        self.given_memory_bytes -= need.memory_bytes;
        self.given_wide_count -= usize::from(need.slot_count > 1);
    }

    /// Waits for a kernel no more. Its thread is lost for as long as it does not return.
    pub(crate) fn give_up(&mut self, need: Need) {
        self.release(need);
    }

    /// Starts a thread in place of one that was given up.
    pub(crate) fn replace(&mut self) -> io::Result<()> {
        self.threads.start_one()
    }

    /// A kernel that was given up and replaced has returned after all: there is a thread too many.
    pub(crate) fn dismiss_one(&mut self) {
        let _ = self.orders.send(Order::Leave);
    }
}

impl Threads {
    fn start_one(&self) -> io::Result<()> {
        let (waiting, registry) = (self.waiting.clone(), self.registry.clone());
        let (nice, events) = (self.nice, self.events.clone());
        thread::Builder::new()
            .name("slot".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                stand_back(nice);
                serve(&waiting, &registry, &events);
            })?;
        Ok(())
    }
}

fn serve(waiting: &Receiver<Order>, registry: &Registry, events: &mpsc::Sender<Event>) {
    while let Ok(Order::Run(work)) = waiting.recv() {
        let Work {
            key,
            task,
            prepared,
        } = work;
        // Whatever the kernel logs says of which task.
        let _of_task = tracing::info_span!("run", %task, attempt = %key).entered();
        let need = prepared.need;
        if let Some(limit) = &prepared.time_limit {
            limit.begin();
        }
        let started = Instant::now();
        let ran = run(registry, prepared);
        let finished = Finished {
            key,
            need,
            ran,
            run_time: started.elapsed(),
        };
        if events.blocking_send(Event::Ran(finished)).is_err() {
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

#[cfg(test)]
mod tests;
