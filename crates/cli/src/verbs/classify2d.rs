//! `dewar classify2d`: particles sorted into 2-D classes, and the particles of chosen classes.

use super::at_least_one;
use crate::{computing::Where, failure::Failure, output};
use clap::{Args, Subcommand};
use dewar_refine::{
    RefineError,
    classify2d::{self, SelectError, Settings, Summary},
};
use serde_json::json;
use std::{path::PathBuf, time::Duration};

/// Sorts particles into 2-D classes: what they look like, how many of each, and which are junk.
///
/// Each particle is compared with every class average at all in-plane angles and shifts, with its CTF and the noise of its
/// optics group, and counts in each by how likely it is. Rounds go on until classes no longer change. The same command goes
/// on from the last finished round of an interrupted run, and the result does not depend on how many computers took part.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  dewar classify2d particles.star --classes 50 --out classes\n  \
    dewar classify2d select classes --classes 1,4,7 --out good.star\n  \
    dewar classify2d particles.star --classes 100 --out classes --diameter 180 --parallel dc:titan:9990\n  \
    dewar classify2d --continue classes --iterations 40 --parallel dc:titan:9990\n\n\
    Writes classes.mrcs (the averages, the class with the most particles first), gallery.png (the same to look at, each \
    with its number, its particles and its resolution), classes.star, particles.star (rlnClassNumber, in-plane angle and \
    shift) and classify2d.json.\nCtrl-C cancels the job and keeps the last finished round.\n\
    JSON keys: classes (number, particle_count, fraction, resolution_angstrom), iterations, converged, seconds, averages, gallery, \
    particles, record"
)]
pub struct Options {
    #[command(subcommand)]
    then: Option<Then>,
    /// The particles (STAR, of RELION 3.0 to 5).
    #[arg(value_name = "PARTICLES", required_unless_present = "going_on")]
    particles: Option<PathBuf>,
    /// How many classes.
    #[arg(long, value_name = "K", default_value_t = Settings::default().class_count, value_parser = at_least_one)]
    classes: usize,
    /// Folder for everything that comes of it.
    #[arg(long, value_name = "DIR", required_unless_present = "going_on")]
    out: Option<PathBuf>,
    /// Go on with the classification in this folder as it was stated, with more rounds or on other workers; of other flags
    /// only --iterations and those that say where to compute may be given.
    #[arg(id = "going_on", long = "continue", value_name = "DIR", conflicts_with_all = [
        "particles", "classes", "out", "diameter", "max_shift", "limit", "tau", "seed", "project",
    ])]
    going_on: Option<PathBuf>,
    /// Diameter of the circle that holds the particle [default: four fifths of the box].
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    diameter: Option<f64>,
    /// Rounds at most [default: 25, or as many as were allowed before].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    iterations: Option<usize>,
    /// How far particles may lie off the centre of their images.
    #[arg(long, value_name = "ANGSTROM", default_value_t = Settings::default().shift_max_angstrom, value_parser = super::positive)]
    max_shift: f64,
    /// Compare no finer detail than this [default: as fine as the averages resolve].
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    limit: Option<f64>,
    /// How far averages are trusted beyond what their own power says; more shows finer detail, and more noise.
    #[arg(long, value_name = "T", default_value_t = Settings::default().tau_factor, value_parser = super::positive)]
    tau: f64,
    /// Decides where particles begin.
    #[arg(long, value_name = "N", default_value_t = Settings::default().seed)]
    seed: u64,
    /// Folder from which image names in the STAR file count.
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Then {
    Select(SelectOptions),
}

/// Writes the particles of chosen classes as a particle file of their own.
#[derive(Args)]
#[command(
    after_help = "Example:\n  dewar classify2d select classes --classes 1,4,7 --out good.star\n\n\
    JSON keys: particles, particle_count, of"
)]
struct SelectOptions {
    /// The output folder of `dewar classify2d`.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The classes, as gallery.png numbers them.
    #[arg(long, value_name = "K,...", value_delimiter = ',', required = true, value_parser = at_least_one)]
    classes: Vec<usize>,
    /// The particle file to write.
    #[arg(long, value_name = "STAR")]
    out: PathBuf,
    /// Folder from which image names in the STAR file count.
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    if let Some(Then::Select(options)) = &options.then {
        return options.run();
    }
    let stated = options.stated()?;
    let stacks = || classify2d::check(&stated).map_err(|error| failed(error, &stated));
    let classified =
        options
            .place
            .compute(&stated.out, stacks, async |client, observer, interrupt| {
                classify2d::classify(client, &stated, observer, interrupt.came()).await
            })?;
    let summary = classified.map_err(|error| failed(error, &stated))?;
    if options.json {
        output::print_json(&to_json(&summary))
    } else {
        output::print(&to_text(&summary))
    }
}

impl Options {
    /// What is to be sorted: what the flags say, or the folder to go on with.
    fn stated(&self) -> Result<classify2d::Options, Failure> {
        let mut stated = match &self.going_on {
            Some(folder) => classify2d::Options::of_folder(folder).map_err(Failure::input)?,
            None => self.stated_anew(),
        };
        if let Some(iterations) = self.iterations {
            stated.settings.iterations = iterations;
        }
        Ok(stated)
    }

    fn stated_anew(&self) -> classify2d::Options {
        classify2d::Options {
            // Both are required where no other verb follows.
            particles: self.particles.clone().unwrap_or_default(),
            out: self.out.clone().unwrap_or_default(),
            project_dir: self.project.clone(),
            settings: Settings {
                class_count: self.classes,
                mask_diameter_angstrom: self.diameter,
                shift_max_angstrom: self.max_shift,
                limit_angstrom: self.limit,
                tau_factor: self.tau,
                seed: self.seed,
                ..Settings::default()
            },
        }
    }
}

impl SelectOptions {
    fn run(&self) -> Result<(), Failure> {
        let selected = classify2d::select(
            &self.folder,
            &self.classes,
            &self.out,
            self.project.as_deref(),
        );
        let selected = selected.map_err(|error| match error {
            SelectError::Particles(error) if !error.is_input() => Failure::work(error),
            error => Failure::input(error),
        })?;
        if self.json {
            return output::print_json(&json!({
                "particles": selected.particles,
                "particle_count": selected.particle_count,
                "of": selected.of,
            }));
        }
        output::print(&format!(
            "{} of {} particles  {}\n",
            selected.particle_count,
            selected.of,
            selected.particles.display()
        ))
    }
}

fn failed(error: RefineError, stated: &classify2d::Options) -> Failure {
    match error {
        // Workers know particles by their numbers only.
        error @ RefineError::Task(_) if error.is_input() => {
            Failure::input(error).concerning(stated.particles.display())
        }
        error if error.is_input() => Failure::input(error),
        RefineError::Cancelled => Failure::work(error),
        error => Failure::work(error).try_next(format!(
            "the same command goes on from the last finished round in {}",
            stated.out.display()
        )),
    }
}

fn to_text(summary: &Summary) -> String {
    let mut text = String::from("class  particles  resolution\n");
    for class in summary
        .classes
        .iter()
        .filter(|class| class.particle_count > 0)
    {
        let resolution = class
            .resolution_angstrom
            .map_or("-".to_owned(), |angstrom| format!("{angstrom:.1} A"));
        text += &format!(
            "{:>5}  {:>9}  {resolution:>10}\n",
            class.number, class.particle_count
        );
    }
    let empty = summary
        .classes
        .iter()
        .filter(|class| class.particle_count == 0)
        .count();
    match empty {
        0 => {}
        1 => text += "1 class is empty\n",
        _ => text += &format!("{empty} classes are empty\n"),
    }
    let why = if summary.converged {
        "classes no longer changed"
    } else {
        "as many as allowed"
    };
    text + &format!(
        "rounds     {}, {why}\ntook       {}\naverages   {}\ngallery    {}\nparticles  {}\n",
        summary.iterations,
        crate::clock::duration(Duration::from_secs_f64(summary.seconds.max(0.0))),
        summary.averages.display(),
        summary.gallery.display(),
        summary.particles.display(),
    )
}

fn to_json(summary: &Summary) -> serde_json::Value {
    json!({
        "classes": summary.classes,
        "iterations": summary.iterations,
        "converged": summary.converged,
        "seconds": summary.seconds,
        "averages": summary.averages,
        "gallery": summary.gallery,
        "particles": summary.particles,
        "record": summary.record,
    })
}
