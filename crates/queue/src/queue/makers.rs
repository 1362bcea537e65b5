//! Which results workers that take tasks could have made: what may be answered instead of being computed anew.

use crate::{Kind, Made, WorkerHello};
use std::collections::HashMap;

/// For each kind, what deterministic kernels there are on which machines, and on how many workers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Makers(HashMap<Kind, HashMap<Made, usize>>);

impl Makers {
    pub(super) fn add(&mut self, hello: &WorkerHello) {
        for (kind, made) in deterministic(hello) {
            let of_kind = self.0.entry(kind.clone()).or_default();
            *of_kind.entry(made).or_default() += 1;
        }
    }

    /// Undoes one [`Self::add`].
    pub(super) fn remove(&mut self, hello: &WorkerHello) {
        for (kind, made) in deterministic(hello) {
            let Some(of_kind) = self.0.get_mut(kind) else {
                continue;
            };
            if let Some(count) = of_kind.get_mut(&made) {
                *count -= 1;
                if *count == 0 {
                    of_kind.remove(&made);
                }
            }
            if of_kind.is_empty() {
                self.0.remove(kind);
            }
        }
    }

    pub(super) fn of(&self, kind: &Kind) -> impl Iterator<Item = &Made> {
        self.0.get(kind).into_iter().flat_map(HashMap::keys)
    }
}

fn deterministic(hello: &WorkerHello) -> impl Iterator<Item = (&Kind, Made)> {
    let kernels = hello.kernels.iter().filter(|kernel| kernel.deterministic);
    kernels.map(|kernel| {
        let made = Made {
            revision: kernel.revision,
            instruction_class: hello.instruction_class.clone(),
        };
        (&kernel.kind, made)
    })
}
