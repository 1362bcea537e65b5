//! `cargo xtask bench`, `chaos` and `sim`, as a program of its own: it must be as optimised as what it drives.

use anyhow::Result;
use clap::{Parser, Subcommand};
use dewar_proof::{bench, chaos, sim};

/// Measures Dewar, and tries to break it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measures, and prints a table with targets.
    #[command(subcommand)]
    Bench(Bench),
    /// Kills, stops and cuts off real programs at random under load; exits with 1 if a promise was broken.
    Chaos(chaos::Options),
    /// Hours of faults around the real queue and engine, in virtual time.
    Sim(sim::Options),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The queue: submits, no-op tasks, latency, large parameters, depth, idle workers.
    Queue(bench::queue::Options),
    /// Data: a swarm behind a slow link, a shared cache, one stream, a stack that is not copied.
    Data(bench::data::Options),
    /// The search for poses: its accuracy, and its time beside the processor's peak.
    Search(bench::search::Options),
    /// Refinements and 2-D classes beside RELION's on the same particles.
    Relion(bench::relion::Options),
}

fn main() -> Result<()> {
    // As the daemons do, since some of what they do is measured in this process.
    dewar_settings::keep_transfer_memory();
    match Arguments::parse().verb {
        Verb::Bench(Bench::Queue(options)) => bench::queue::run(&options),
        Verb::Bench(Bench::Data(options)) => bench::data::run(&options),
        Verb::Bench(Bench::Search(options)) => bench::search::run(&options),
        Verb::Bench(Bench::Relion(options)) => bench::relion::run(&options),
        Verb::Chaos(options) => chaos::run(&options),
        Verb::Sim(options) => sim::run(&options),
    }
}
