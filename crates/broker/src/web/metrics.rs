//! `/metrics`: what the meter counted, and beside it how all stands now, as Prometheus reads it.
//!
//! Names are a promise: `docs/metrics.md` has them all, and a test compares.

use super::{
    Missing, Shared, Site,
    overview::{Overview, unfinished_count},
    words::{job_state, since, worker_state},
};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text},
    metrics::{
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use std::{collections::HashMap, fmt, hash::Hash, sync::atomic::AtomicU64};

/// Jobs with series of their own: those that wait most. A series is kept by Prometheus for as long as anything.
const JOB_COUNT_MAX: usize = 50;

/// The job that stands for the others.
const OTHER: &str = "other";

type Label = [(&'static str, String); 1];
type Gauges<L> = Family<L, Gauge<f64, AtomicU64>>;

pub(super) async fn show(State(site): Shared) -> Result<Response, Missing> {
    let text = site.metrics().await?;
    Ok((
        [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
        text,
    )
        .into_response())
}

impl Site {
    async fn metrics(&self) -> Result<String, Missing> {
        let overview = self.overview().await?;
        let sources = &self.sources;
        let queues = queues(&overview);
        let waiting: Vec<_> = queues.keys().filter(|job| **job != 0).copied().collect();
        let meter = sources.engine.meter().clone();
        let ages = self.look(move |view| {
            let oldest = waiting.into_iter().filter_map(|job| {
                let oldest = meter.oldest_waiting_unix_ms(view.queue, dewar_queue::JobNumber(job));
                Some((job, oldest?))
            });
            oldest.collect::<HashMap<_, _>>()
        });
        let ages = ages.await?;
        let moved = sources.swarm.look(|tracker, _| tracker.moved()).await;
        let moved = moved.map_err(|_| Missing::Gone)?;

        let mut registry = Registry::default();
        sources.engine.meter().register(&mut registry);
        register_broker(&mut registry, &overview);
        register_queues(&mut registry, &queues, &ages);
        register_fleet(&mut registry, &overview);
        for (name, help, bytes) in [
            (
                "dewar_sent_bytes",
                "Bytes of blobs that the broker sent, to workers and customers",
                sources.traffic.sent_bytes(),
            ),
            (
                "dewar_received_bytes",
                "Bytes of blobs that the broker took, from workers and customers",
                sources.traffic.received_bytes(),
            ),
            (
                "dewar_corrupt_chunks",
                "Chunks that a worker gave another and were not what they should be",
                moved.corrupt_count,
            ),
        ] {
            registry.register(name, help, ConstCounter::new(bytes));
        }
        let fetched = Family::<Label, prometheus_client::metrics::counter::Counter>::default();
        for (source, bytes) in [
            ("broker", moved.from_broker_bytes),
            ("peers", moved.from_peers_bytes),
        ] {
            let label = [("source", source.to_owned())];
            fetched.get_or_create(&label).inc_by(bytes);
        }
        registry.register(
            "dewar_fetched_bytes",
            "Bytes of inputs that workers fetched, by source",
            fetched,
        );
        let mut text = String::new();
        // Strings take all that is written.
        let _: fmt::Result = prometheus_text::encode(&mut text, &registry);
        Ok(text)
    }
}

/// Tasks of one job, or of several.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    waiting: u64,
    running: u64,
}

/// What waits and runs by job: those that wait most by their number, the others under 0.
pub(super) fn queues(overview: &Overview) -> HashMap<u64, Depth> {
    let unfinished = overview.jobs.iter().filter(|job| unfinished_count(job) > 0);
    let mut unfinished: Vec<_> = unfinished.collect();
    unfinished.sort_by_key(|job| (std::cmp::Reverse(job.waiting_count), job.number));
    let mut queues = HashMap::new();
    for (rank, job) in unfinished.into_iter().enumerate() {
        let number = if rank < JOB_COUNT_MAX { job.number } else { 0 };
        let depth: &mut Depth = queues.entry(number).or_default();
        depth.waiting += job.waiting_count;
        depth.running += job.running_count;
    }
    queues
}

fn register_broker(registry: &mut Registry, overview: &Overview) {
    let status = &overview.status;
    let build = [("version", status.program_version.clone())];
    set(
        registry,
        "dewar_build_info",
        "The broker's release, as a label of the constant 1",
        [(build, 1.0)],
    );
    for (name, help, value) in [
        (
            "dewar_start_time_seconds",
            "When the broker started, in seconds since 1970",
            status.started_unix_ms as f64 / 1000.0,
        ),
        (
            "dewar_blob_store_bytes",
            "Bytes of blobs in the data folder",
            status.blob_bytes as f64,
        ),
        (
            "dewar_disk_free_bytes",
            "Room on the disk of the data folder",
            status.free_bytes as f64,
        ),
        (
            "dewar_refusing",
            "1 while submits and uploads are refused, as on a full disk",
            f64::from(u8::from(!status.refusing_reason.is_empty())),
        ),
    ] {
        registry.register(name, help, ConstGauge::new(value));
    }
    let states = ["open", "running", "blocked", "finished"];
    let jobs = overview.jobs.iter().map(job_state);
    let by_state = by_state(&states, jobs);
    set(registry, "dewar_jobs", "Jobs by state", by_state);
}

fn register_queues(
    registry: &mut Registry,
    queues: &HashMap<u64, Depth>,
    oldest_unix_ms: &HashMap<u64, u64>,
) {
    let label = |job: &u64| {
        let name = match job {
            0 => OTHER.to_owned(),
            number => format!("j{number}"),
        };
        [("job", name)]
    };
    let depths = |of: fn(&Depth) -> u64| {
        let queues = queues.iter();
        queues.map(move |(job, depth)| (label(job), of(depth) as f64))
    };
    set(
        registry,
        "dewar_waiting_tasks",
        "Tasks that wait, by unfinished job; those of the smallest together as job other",
        depths(|depth| depth.waiting),
    );
    set(
        registry,
        "dewar_running_tasks",
        "Tasks that run, likewise",
        depths(|depth| depth.running),
    );
    let ages = oldest_unix_ms.iter();
    set(
        registry,
        "dewar_oldest_waiting_seconds",
        "Time since the submission of the first task of a job that waits still",
        ages.map(|(job, unix_ms)| (label(job), since(*unix_ms).as_secs_f64())),
    );
}

fn register_fleet(registry: &mut Registry, overview: &Overview) {
    let workers = &overview.workers;
    let states = ["up", "held back", "draining", "away"];
    let by_state = by_state(&states, workers.iter().map(worker_state));
    set(registry, "dewar_workers", "Workers by state", by_state);
    let slots: u64 = workers
        .iter()
        .map(|worker| u64::from(worker.slot_count))
        .sum();
    let busy: u64 = workers
        .iter()
        .map(|worker| u64::from(worker.running_count))
        .sum();
    let held: u64 = workers.iter().map(|worker| worker.held_bytes).sum();
    let kept: u64 = workers.iter().map(|worker| worker.kept_bytes).sum();
    for (name, help, value) in [
        ("dewar_slots", "Slots of all workers", slots),
        ("dewar_running_tries", "Tries that run on workers", busy),
        (
            "dewar_worker_cache_bytes",
            "Bytes of inputs in the caches of workers that attend",
            held,
        ),
        (
            "dewar_worker_results_bytes",
            "Bytes of results that workers keep instead of the broker",
            kept,
        ),
    ] {
        registry.register(name, help, ConstGauge::new(value as f64));
    }
}

/// How many are in each state; 0 is said too.
fn by_state<'a>(
    states: &[&'static str],
    found: impl Iterator<Item = &'a str>,
) -> Vec<(Label, f64)> {
    let mut counts = vec![0.0; states.len()];
    for word in found {
        if let Some(index) = states.iter().position(|state| *state == word) {
            counts[index] += 1.0;
        }
    }
    let states = states.iter().map(|state| [("state", (*state).to_owned())]);
    states.zip(counts).collect()
}

fn set<L>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, f64)>,
) where
    L: EncodeLabelSet + fmt::Debug + Clone + Hash + Eq + Send + Sync + 'static,
{
    let gauges = Gauges::<L>::default();
    for (label, value) in values {
        gauges.get_or_create(&label).set(value);
    }
    registry.register(name, help, gauges);
}
