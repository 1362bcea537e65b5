//! The verbs, one file each.

mod cancel;
mod classify2d;
mod compare;
mod config;
mod doctor;
mod drain;
mod fsc;
mod info;
mod jobs;
mod post;
mod postprocess;
mod precache;
mod refine;
mod rerun;
mod selection;
mod simulate;
mod status;
mod tasks;
mod top;
mod web;
mod worker_script;
mod workers;

use crate::failure::Failure;
use clap::{Parser, Subcommand};

/// Refines cryo-EM structures on a lab's own machines.
#[derive(Parser)]
#[command(
    name = "dewar",
    version,
    arg_required_else_help = true,
    after_help = "Every verb has its own --help with an example. Flags can also be set in the environment (DEWAR_BROKER and \
        others) and in a file (--config). --json prints JSON for machines.\n\n\
        Exit codes: 0 done, 1 the work failed, 2 the command line or an input was wrong, 3 the broker was not reached"
)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Refine(refine::Options),
    Classify2d(classify2d::Options),
    Simulate(simulate::Options),
    Postprocess(postprocess::Options),
    Fsc(fsc::Options),
    Compare(compare::Options),
    Info(info::Options),
    Status(status::Options),
    Jobs(jobs::Options),
    Tasks(tasks::Options),
    Top(top::Options),
    Web(web::Options),
    Workers(workers::Options),
    Cancel(cancel::Options),
    Rerun(rerun::Options),
    Drain(drain::Options),
    Precache(precache::Options),
    Doctor(doctor::Options),
    Config(config::Options),
    WorkerScript(worker_script::Options),
}

/// Does what the command line asks.
///
/// # Errors
/// With the line to print and the exit code.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Refine(options) => refine::run(&options),
        Verb::Classify2d(options) => classify2d::run(&options),
        Verb::Simulate(options) => simulate::run(&options),
        Verb::Postprocess(options) => postprocess::run(&options),
        Verb::Fsc(options) => fsc::run(&options),
        Verb::Compare(options) => compare::run(&options),
        Verb::Info(options) => info::run(&options),
        Verb::Status(options) => status::run(&options),
        Verb::Jobs(options) => jobs::run(&options),
        Verb::Tasks(options) => tasks::run(&options),
        Verb::Top(options) => top::run(&options),
        Verb::Web(options) => web::run(&options),
        Verb::Workers(options) => workers::run(&options),
        Verb::Cancel(options) => cancel::run(&options),
        Verb::Rerun(options) => rerun::run(&options),
        Verb::Drain(options) => drain::run(&options),
        Verb::Precache(options) => precache::run(&options),
        Verb::Doctor(options) => doctor::run(&options),
        Verb::Config(options) => config::run(&options),
        Verb::WorkerScript(options) => worker_script::run(&options),
    }
}

/// A number above zero, for clap.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number above 0".to_owned()),
    }
}

/// Any finite number, for clap.
fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a number".to_owned()),
    }
}

/// A count, for clap.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a whole number from 1".to_owned()),
    }
}
