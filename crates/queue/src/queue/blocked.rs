//! Why a job's waiting tasks cannot run, said for people on every surface.

use super::Queue;
use crate::{Job, TaskId, Worker, WorkerId, ready::Need};
use std::collections::BTreeSet;

impl Queue {
    /// Why some of a job's waiting tasks cannot run now whatever else ends, if that is so.
    pub fn blocked_reason(&self, job: &Job) -> Option<String> {
        if let Some(reason) = self.comeback_reason(job) {
            return Some(reason);
        }
        if job.needs.is_empty() {
            return None;
        }
        if self.workers.is_empty() {
            return Some("no worker is connected".into());
        }
        let mut needs = job.needs.iter();
        let unmet = needs.find_map(|(need, _)| self.unmet_reason(need));
        let mut needs = job.needs.iter();
        unmet.or_else(|| needs.find_map(|(need, _)| self.shunned_reason(need, job)))
    }

    /// A worker has room, but some of the job's tasks failed on it and wait for another.
    fn shunned_reason(&self, need: &Need, job: &Job) -> Option<String> {
        let mut shunned = self.ready.shunned(need, job);
        let shunned = shunned.find(|worker| {
            let open: Vec<WorkerId> = self.ready.open(need).map(|(_, id)| id).take(2).collect();
            open == [*worker]
        })?;
        let others = self.ready.able(need).filter(|other| *other != shunned);
        let mut others = others.filter_map(|other| self.worker(other));
        let other = others.next()?;
        let reason = other.held_back_reason();
        Some(format!(
            "tasks that failed on {} wait for another worker, such as {}, which is {}",
            self.worker(shunned)?.hello.name,
            other.hello.name,
            reason.map_or_else(|| "busy".into(), |reason| format!("held back: {reason}"))
        ))
    }

    fn comeback_reason(&self, job: &Job) -> Option<String> {
        /// Names told; the rest are counted.
        const NAME_COUNT_MAX: usize = 3;
        let task = |index| TaskId {
            job: job.number,
            index,
        };
        // What workers had been given may have ended since.
        let awaited = self.awaited(task(0)..=task(u64::MAX));
        let awaited = awaited.filter(|(task, _)| {
            let task = job.task(task.index);
            task.is_some_and(|task| task.outcome().is_none())
        });
        let missing: BTreeSet<WorkerId> = awaited.map(|(_, worker)| worker).collect();
        let names = missing.iter().filter_map(|id| self.missing.get(id));
        let names = names.take(NAME_COUNT_MAX).map(|worker| &*worker.name);
        let names: Vec<&str> = names.collect();
        let more = match missing.len() - names.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        (!names.is_empty()).then(|| {
            format!(
                "the broker has restarted and gives {}{more} up to {} s to come back with what they had",
                names.join(", "),
                self.config.comeback_ms / 1000
            )
        })
    }

    fn unmet_reason(&self, need: &Need) -> Option<String> {
        let kind = &need.kind;
        let with_kind: Vec<&Worker> = self
            .workers
            .values()
            .filter(|worker| worker.has_kind(kind))
            .collect();
        if with_kind.is_empty() {
            return Some(format!(
                "no worker has the kind {}/{}{}",
                kind.name,
                kind.version,
                self.other_versions(need)
            ));
        }
        let capable = with_kind.iter().filter(|worker| worker.is_capable_of(need));
        let capable: Vec<&&Worker> = capable.collect();
        if capable.is_empty() {
            return Some(too_small_reason(need, &with_kind));
        }
        let mut reasons = capable.iter().map(|worker| worker.held_back_reason());
        let held_back = reasons.clone().all(|reason| reason.is_some());
        let reason = reasons.next().flatten().filter(|_| held_back)?;
        Some(match capable.len() {
            1 => format!("the only worker that could run them is held back: {reason}"),
            count => format!(
                "all {count} workers that could run them are held back, one of them: {reason}"
            ),
        })
    }

    fn other_versions(&self, need: &Need) -> String {
        let kinds = self.workers.values().flat_map(|worker| &worker.hello.kinds);
        let mut versions: Vec<u32> = kinds
            .filter(|kind| kind.name == need.kind.name)
            .map(|kind| kind.version)
            .collect();
        versions.sort_unstable();
        versions.dedup();
        match versions.as_slice() {
            [] => String::new(),
            versions => format!("; they have version {versions:?} of it"),
        }
    }
}

fn too_small_reason(need: &Need, workers: &[&Worker]) -> String {
    let slots = workers.iter().map(|worker| worker.hello.slot_count).max();
    let memory = workers.iter().map(|worker| worker.hello.memory_bytes).max();
    let mib = |bytes: u64| bytes >> 20;
    format!(
        "a task needs {} slots and {} MiB of memory; the largest workers with its kind have {} slots and {} MiB",
        need.resources.slot_count,
        mib(need.resources.memory_bytes),
        slots.unwrap_or(0),
        mib(memory.unwrap_or(0))
    )
}
