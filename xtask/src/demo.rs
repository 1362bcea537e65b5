//! The main job, for real: a data set, a broker, two workers, a refinement, a murder, and the figures.

use crate::{root, target_dir};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dewar_testkit::{
    BrokerOptions, Guarded, Programs, WorkerOptions,
    refinement::{json, running_tasks},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// What to refine; by default, particles simulated from the built-in phantom.
#[derive(Args)]
pub struct Options {
    /// Simulate the particles from this map (MRC) or atomic model (PDB) instead of the built-in phantom.
    #[arg(long, value_name = "FILE", conflicts_with = "particles")]
    map: Option<PathBuf>,
    /// Pixel size in Angstrom, where --map or --reference does not say.
    #[arg(long, value_name = "ANGSTROM")]
    pixel_size: Option<f64>,
    /// Refine these particles instead of simulated ones.
    #[arg(long, value_name = "FILE.star", requires = "reference")]
    particles: Option<PathBuf>,
    /// Starting map for --particles.
    #[arg(long, value_name = "FILE", requires = "particles")]
    reference: Option<PathBuf>,
    /// Point group of the structure.
    #[arg(long, default_value = "C1", value_name = "GROUP")]
    symmetry: String,
    /// Particles to simulate.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    count: usize,
    /// Where to put everything; emptied first.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the demo.
pub fn run(options: &Options) -> Result<()> {
    let programs = build_for_release()?;
    let started = Instant::now();
    let out = options
        .out
        .clone()
        .unwrap_or_else(|| target_dir().join("demo"));
    // Shorter to read where cargo was called from the project's own folder.
    let out = std::env::current_dir()
        .ok()
        .and_then(|here| out.strip_prefix(here).ok().map(Path::to_owned))
        .unwrap_or(out);
    make_empty(&out)?;

    let data = Data::prepare(options, &programs, &out)?;
    // Broker and cache are scratch; only the refinement's own folder stays.
    let scratch = tempfile::tempdir()?;
    let broker = programs.start_broker(&BrokerOptions {
        data_dir: scratch.path().join("broker"),
        exports: vec![fs::canonicalize(&data.folder)?],
        listen: "127.0.0.1:0".to_owned(),
    })?;
    say(&format!(
        "broker at {}, its data in {}",
        broker.address,
        scratch.path().display()
    ));
    let worker = |name: &str| {
        let cache_dir = scratch.path().join("cache");
        programs.start_worker(
            &broker,
            &WorkerOptions {
                name: name.to_owned(),
                slot_count: 1,
                cache_dir,
            },
        )
    };
    let first = worker("worker-1")?;
    let second = worker("worker-2")?;

    let refined = out.join("refined");
    let refinement_started = Instant::now();
    let mut refinement = Guarded::start(
        "dewar refine",
        programs
            .dewar()
            .arg("refine")
            .arg(&data.particles)
            .arg("--reference")
            .arg(&data.reference)
            .arg("--out")
            .arg(&refined)
            .args([
                "--symmetry",
                &options.symmetry,
                "--parallel",
                &format!("dc:{}", broker.address),
            ])
            .arg("--token-file")
            .arg(&broker.token_file)
            .args(
                data.pixel_size
                    .iter()
                    .flat_map(|size| ["--pixel-size".to_owned(), size.to_string()]),
            ),
    )?;
    // Half-way: in the third of about five rounds. None converges before it.
    let half_way = refined.join("it002");
    let mut doomed = Some(first);
    let mut replacement = None;
    let status = loop {
        if let Some(status) = refinement.child().try_wait()? {
            break status;
        }
        if half_way.exists() && doomed.is_some() && running_tasks(&programs, &broker)? > 0 {
            let victim = doomed.take().expect("checked above");
            victim.kill()?;
            say("killed worker-1 with SIGKILL; starting worker-3 in its place");
            replacement = Some(worker("worker-3")?);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(status.success(), "dewar refine failed: {status}");
    let refinement_s = refinement_started.elapsed().as_secs_f64();
    ensure!(
        doomed.is_none(),
        "the refinement ended before a worker could be killed"
    );

    for worker in [second].into_iter().chain(replacement) {
        worker.stop()?;
    }
    broker.stop()?;
    report(&programs, &data, &refined, &options.symmetry)?;
    say(&format!(
        "refinement {refinement_s:.0} s, everything {:.0} s; outputs in {}",
        started.elapsed().as_secs_f64(),
        refined.display()
    ));
    Ok(())
}

fn build_for_release() -> Result<Programs> {
    say("building for release");
    dewar_testkit::run(Command::new(env!("CARGO")).current_dir(root()).args([
        "build",
        "--release",
        "--package",
        "dewar-cli",
        "--package",
        "dewar-broker",
        "--package",
        "dewar-worker",
    ]))?;
    Programs::in_folder(target_dir().join("release"))
}

/// What is refined, and what is known of the truth.
struct Data {
    /// Exported to the workers by the broker.
    folder: PathBuf,
    particles: PathBuf,
    reference: PathBuf,
    pixel_size: Option<f64>,
    truth: Option<Truth>,
}

struct Truth {
    particles: PathBuf,
    map: PathBuf,
}

impl Data {
    fn prepare(options: &Options, programs: &Programs, out: &Path) -> Result<Self> {
        if let (Some(particles), Some(reference)) = (&options.particles, &options.reference) {
            let particles = fs::canonicalize(particles)
                .with_context(|| format!("could not open {}", particles.display()))?;
            let folder = particles
                .parent()
                .context("a file lies in a folder")?
                .to_owned();
            return Ok(Self {
                folder,
                particles,
                reference: reference.clone(),
                pixel_size: options.pixel_size,
                truth: None,
            });
        }
        let folder = out.join("data");
        say(&format!("simulating {} particles", options.count));
        dewar_testkit::run(
            programs
                .dewar()
                .arg("simulate")
                .args(&options.map)
                .arg("--out")
                .arg(&folder)
                .args(["--particles", &options.count.to_string()])
                .args([
                    "--snr",
                    "0.1",
                    "--box",
                    "64",
                    "--seed",
                    "1",
                    "--symmetry",
                    &options.symmetry,
                ])
                .args(
                    options
                        .pixel_size
                        .iter()
                        .flat_map(|size| ["--pixel-size".to_owned(), size.to_string()]),
                ),
        )?;
        Ok(Self {
            particles: folder.join("particles.star"),
            reference: folder.join("truth.mrc"),
            pixel_size: None,
            truth: Some(Truth {
                particles: folder.join("truth.star"),
                map: folder.join("truth.mrc"),
            }),
            folder,
        })
    }
}

fn report(programs: &Programs, data: &Data, refined: &Path, symmetry: &str) -> Result<()> {
    let record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(refined.join("refine.json"))?)?;
    let Some(resolution) = record["resolution_angstrom"].as_f64() else {
        bail!("refine.json names no resolution");
    };
    say(&format!(
        "resolution (half-map FSC 0.143, unmasked): {resolution:.2} A"
    ));
    let Some(truth) = &data.truth else {
        return Ok(());
    };
    let map = refined.join("map.mrc");
    let fsc = json(
        programs
            .dewar()
            .arg("fsc")
            .args([&map, &truth.map])
            .arg("--json"),
    )?;
    let half = fsc["resolution_0_5_angstrom"]
        .as_f64()
        .context("dewar fsc gives the FSC 0.5 crossing")?;
    say(&format!(
        "resolution against the truth (FSC 0.5): {half:.2} A"
    ));
    print!(
        "{}",
        dewar_testkit::output(
            programs
                .dewar()
                .arg("compare")
                .arg(refined.join("particles.star"))
                .arg(&truth.particles)
                .args(["--symmetry", symmetry]),
        )?
    );
    Ok(())
}

/// Makes `folder` exist and be empty; refuses to empty one this demo did not make.
fn make_empty(folder: &Path) -> Result<()> {
    let mark = folder.join(".dewar-demo");
    if folder.exists() {
        let is_empty = fs::read_dir(folder)?.next().is_none();
        ensure!(
            is_empty || mark.exists(),
            "{} is not empty and not of an earlier demo",
            folder.display()
        );
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(mark, "made by cargo xtask demo\n")?;
    Ok(())
}

fn say(line: &str) {
    println!("demo: {line}");
}
