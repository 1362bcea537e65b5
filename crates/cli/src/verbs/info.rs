//! `dewar info`: what is in a map, stack or particle file, checked whole.

use crate::{failure::Failure, output, progress};
use anyhow::anyhow;
use clap::Args;
use dewar_formats::inspect::{self, Contents, MrcFacts, ParticleFacts, Report};
use serde_json::{Value, json};
use std::{fmt::Write as _, path::PathBuf};

/// Reads each file whole and says what it is and what is wrong with it.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar info map.mrc\n  dewar info --json particles.star | jq .count\n\n\
    Exit code 2 if any file cannot be used.\n\
    JSON keys of all: path, kind (map, stack, particles), min, max, mean, std, problems, untold_problem_count, warnings\n\
    of maps and stacks: size (nx, ny, nz), mode, big_endian, pixel_size_angstrom\n\
    of particles: count, box_size_px, pixel_size_angstrom, optics_groups, stacks, micrographs, has_poses, half_set_counts"
)]
pub struct Options {
    /// Maps and stacks (MRC), particle files (STAR, or .cs of cryoSPARC).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder from which image names in STAR files count.
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Print JSON: an object for one file, an array for several.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut reports = Vec::new();
    let mut failures = Vec::new();
    for file in &options.files {
        let bar = progress::Bar::new("reading", "sections");
        let report = inspect::inspect(file, options.project.as_deref(), &mut |progress| {
            bar.set(
                progress.done_sections as u64,
                progress.total_sections as u64,
            );
        });
        bar.finish();
        match report {
            Ok(report) => reports.push(report),
            Err(error) => failures.push(Failure::input(error)),
        }
    }
    if options.json {
        let mut values: Vec<Value> = reports.iter().map(to_json).collect();
        let value = if options.files.len() == 1 {
            values.pop().unwrap_or(Value::Null)
        } else {
            Value::Array(values)
        };
        if !value.is_null() {
            output::print_json(&value)?;
        }
    } else {
        output::print(&reports.iter().map(to_text).collect::<String>())?;
    }
    // Every unreadable file is named; the last decides the exit code like any other.
    if let Some(last) = failures.pop() {
        failures
            .iter()
            .for_each(|failure| eprintln!("error: {failure}"));
        return Err(last);
    }
    match reports
        .iter()
        .map(|report| report.problems.len() + report.untold_problem_count)
        .sum()
    {
        0 => Ok(()),
        1 => Err(Failure::input(anyhow!("1 problem found"))),
        count => Err(Failure::input(anyhow!("{count} problems found"))),
    }
}

fn to_text(report: &Report) -> String {
    let mut text = format!("{}\n", report.path.display());
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<16}{}", output::printable(&value));
    };
    row("kind", report.contents.kind().to_owned());
    match &report.contents {
        Contents::Map(facts) | Contents::Stack(facts) => {
            let [nx, ny, nz] = facts.size;
            row("size", format!("{nx} x {ny} x {nz}"));
            row(
                "mode",
                format!(
                    "{}{}",
                    facts.mode,
                    if facts.big_endian { ", big-endian" } else { "" }
                ),
            );
            row(
                "pixel size",
                angstrom(facts.pixel_size_angstrom.map(f64::from)),
            );
        }
        Contents::Particles(facts) => {
            row("particles", facts.count.to_string());
            row(
                "box",
                facts
                    .box_size_px
                    .map_or("unknown".to_owned(), |size| format!("{size} px")),
            );
            row("pixel size", angstrom(facts.pixel_size_angstrom));
            row("optics groups", facts.optics_groups.to_string());
            row("stacks", facts.stacks.len().to_string());
            row("micrographs", facts.micrographs.to_string());
            row(
                "poses",
                if facts.has_poses { "yes" } else { "no" }.to_owned(),
            );
            let [first, second] = facts.half_set_counts;
            row(
                "half-sets",
                if first + second == 0 {
                    "none".to_owned()
                } else {
                    format!("{first} + {second}")
                },
            );
        }
    }
    let values = &report.statistics;
    row(
        "values",
        format!(
            "{:.6} to {:.6}, mean {:.6}, std {:.6}",
            values.min(),
            values.max(),
            values.mean(),
            values.std()
        ),
    );
    let mut lines = |name: &str, lines: &[String]| {
        for line in lines {
            let _ = writeln!(text, "  {name}: {}", output::printable(line));
        }
    };
    lines("warning", &report.warnings);
    lines("problem", &report.problems);
    if report.untold_problem_count > 0 {
        let _ = writeln!(text, "  and {} problems more", report.untold_problem_count);
    }
    text
}

fn angstrom(size: Option<f64>) -> String {
    size.map_or("unknown".to_owned(), |size| format!("{size:.4} A"))
}

fn to_json(report: &Report) -> Value {
    let mut value = match &report.contents {
        Contents::Map(facts) | Contents::Stack(facts) => mrc_to_json(facts),
        Contents::Particles(facts) => particles_to_json(facts),
    };
    let values = &report.statistics;
    value["path"] = json!(report.path);
    value["kind"] = json!(report.contents.kind());
    value["min"] = json!(values.min());
    value["max"] = json!(values.max());
    value["mean"] = json!(values.mean());
    value["std"] = json!(values.std());
    value["problems"] = json!(report.problems);
    value["untold_problem_count"] = json!(report.untold_problem_count);
    value["warnings"] = json!(report.warnings);
    value
}

fn mrc_to_json(facts: &MrcFacts) -> Value {
    json!({
        "kind": null,
        "size": facts.size,
        "mode": facts.mode,
        "big_endian": facts.big_endian,
        "pixel_size_angstrom": facts.pixel_size_angstrom,
    })
}

fn particles_to_json(facts: &ParticleFacts) -> Value {
    json!({
        "kind": null,
        "count": facts.count,
        "box_size_px": facts.box_size_px,
        "pixel_size_angstrom": facts.pixel_size_angstrom,
        "optics_groups": facts.optics_groups,
        "stacks": facts.stacks,
        "micrographs": facts.micrographs,
        "has_poses": facts.has_poses,
        "half_set_counts": facts.half_set_counts,
    })
}
