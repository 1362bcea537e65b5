//! `dewar refine`: from particles and a starting map to poses and maps.

use super::{at_least_one, post::Post};
use crate::{computing::Where, failure::Failure, output};
use anyhow::anyhow;
use clap::Args;
use dewar_compute::symmetry::PointGroup;
use dewar_refine::{RefineError, Settings, Summary, check, postprocess::PostSettings, refine};
use serde_json::json;
use std::{path::PathBuf, time::Duration};

/// Refines a structure: finds each particle's pose, and the map they make together.
///
/// The halves of the data are kept apart throughout; rounds go on until nothing improves. The same command goes on from
/// the last finished round of an interrupted run, and the result does not depend on how many computers took part.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar refine particles.star --reference initial.mrc --out refined --symmetry D7\n  \
    dewar refine particles.star --reference initial.mrc --out refined --parallel dc:titan:9990\n  \
    dewar refine --continue refined --iterations 20 --parallel dc:titan:9990\n\n\
    Writes map.mrc, half1.mrc, half2.mrc, particles.star, model.star and refine.json; of post-processing \
    map_sharpened.mrc, mask.mrc, fsc.star, postprocess.json and, if asked, local_resolution.mrc; and a folder for each \
    round. report.html, from the first round on, shows how far it is and what came of it; its pictures are in pictures/ too.\nCtrl-C cancels the job and keeps finished rounds.\n\
    JSON keys: resolution_angstrom (unmasked), resolution_masked_angstrom (inside the mask, corrected for it; null if \
    the half-maps share nothing), b_factor_angstrom2, coverage (unseen, evenness), has_own_detail (false: no finer than \
    the starting map), warnings, iterations, converged, seconds, map, map_sharpened, particles, record"
)]
pub struct Options {
    /// The particles (STAR, of RELION 3.0 to 5).
    #[arg(value_name = "PARTICLES", required_unless_present = "going_on")]
    particles: Option<PathBuf>,
    /// The starting map (MRC).
    #[arg(long, value_name = "MAP", required_unless_present = "going_on")]
    reference: Option<PathBuf>,
    /// Folder for everything that comes of it.
    #[arg(long, value_name = "DIR", required_unless_present = "going_on")]
    out: Option<PathBuf>,
    /// Go on with the refinement in this folder as it was stated, with more rounds or on other workers; of other flags only
    /// --iterations, those of post-processing and those that say where to compute may be given.
    #[arg(id = "going_on", long = "continue", value_name = "DIR", conflicts_with_all = [
        "particles", "reference", "out", "symmetry", "diameter", "low_pass", "max_shift", "seed", "project", "pixel_size",
    ])]
    going_on: Option<PathBuf>,
    /// Point group of the structure; the map's axes as RELION has them.
    #[arg(long, value_name = "GROUP", default_value = "C1")]
    symmetry: PointGroup,
    /// Diameter of the circle that holds the particle [default: that of the starting map].
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    diameter: Option<f64>,
    /// Resolution to which the starting map is filtered first.
    #[arg(long, value_name = "ANGSTROM", default_value_t = Settings::default().low_pass_angstrom, value_parser = super::positive)]
    low_pass: f64,
    /// Rounds at most [default: 12, or as many as were allowed before].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    iterations: Option<usize>,
    /// How far particles may lie off the centre of their images.
    #[arg(long, value_name = "ANGSTROM", default_value_t = Settings::default().shift_max_angstrom, value_parser = super::positive)]
    max_shift: f64,
    /// Decides the half-sets where the particle file has none.
    #[arg(long, value_name = "K", default_value_t = Settings::default().seed)]
    seed: u64,
    /// Folder from which image names in the STAR file count.
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Pixel size of the starting map, where its header has none or a wrong one.
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    pixel_size: Option<f64>,
    /// Weigh a particle's poses by RELION's convention. Its weights are too sure of themselves: they take all Fourier pixels
    /// of a masked image for independent.
    #[arg(long)]
    relion_weights: bool,
    /// Go on where images look inverted or unnormalised.
    #[arg(long)]
    accept_images: bool,
    #[command(flatten, next_help_heading = "Post-processing of the final half-maps")]
    post: Post,
    #[command(flatten)]
    place: Where,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Problems of the inputs that are told: enough to see of what kinds they are.
const PROBLEMS_TOLD_MAX: usize = 20;

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let stated = options.stated()?;
    let stacks = || check(&stated).map_err(|error| failed(&stated, error));
    let refined =
        options
            .place
            .compute(&stated.out, stacks, async |client, observer, interrupt| {
                refine(client, &stated, observer, interrupt.came()).await
            })?;
    let summary = refined.map_err(|error| failed(&stated, error))?;
    for warning in warnings(&summary) {
        eprintln!("warning: {warning}");
    }
    if options.json {
        output::print_json(&to_json(&summary))
    } else {
        output::print(&to_text(&summary))
    }
}

impl Options {
    /// What is to be refined: what the flags say, or the folder to go on with.
    fn stated(&self) -> Result<dewar_refine::Options, Failure> {
        let mut stated = match &self.going_on {
            Some(folder) => {
                dewar_refine::Options::of_folder(folder).map_err(|error| input_failure(&error))?
            }
            None => self.stated_anew(),
        };
        if let Some(iterations_max) = self.iterations {
            stated.settings.iterations_max = iterations_max;
        }
        stated.accept_images |= self.accept_images;
        self.post.change(&mut stated.postprocess);
        Ok(stated)
    }

    fn stated_anew(&self) -> dewar_refine::Options {
        const GIVEN: &str = "the command line is refused without it";
        dewar_refine::Options {
            particles: self.particles.clone().expect(GIVEN),
            reference: self.reference.clone().expect(GIVEN),
            out: self.out.clone().expect(GIVEN),
            project_dir: self.project.clone(),
            settings: Settings {
                symmetry: self.symmetry.to_string(),
                mask_diameter_angstrom: self.diameter,
                low_pass_angstrom: self.low_pass,
                shift_max_angstrom: self.max_shift,
                seed: self.seed,
                reference_pixel_size_angstrom: self.pixel_size,
                relion_weights: self.relion_weights,
                ..Settings::default()
            },
            accept_images: false,
            postprocess: PostSettings {
                seed: self.seed,
                ..PostSettings::default()
            },
        }
    }
}

fn failed(stated: &dewar_refine::Options, error: RefineError) -> Failure {
    match error {
        // Workers know particles by their numbers only.
        error @ RefineError::Task(_) if error.is_input() => {
            Failure::input(error).concerning(stated.particles.display())
        }
        error if error.is_input() => input_failure(&error),
        RefineError::Cancelled => Failure::work(error),
        error => Failure::work(error).try_next(format!(
            "the same command goes on from the last finished round in {}",
            stated.out.display()
        )),
    }
}

/// All that is wrong, a line each; the last is the failure itself.
fn input_failure(error: &RefineError) -> Failure {
    let mut problems = error.problems();
    let last = problems.pop().unwrap_or_else(|| error.to_string());
    if problems.len() > PROBLEMS_TOLD_MAX {
        let left_out = problems.len() - PROBLEMS_TOLD_MAX;
        problems.truncate(PROBLEMS_TOLD_MAX);
        problems.push(format!("{left_out} more problems"));
    }
    for problem in problems {
        eprintln!("error: {problem}");
    }
    Failure::input(anyhow!(last))
}

fn to_text(summary: &Summary) -> String {
    let post = &summary.postprocessed;
    let masked = match post.resolution_0_143_angstrom {
        Some(angstrom) => format!("{angstrom:.2} A (FSC 0.143 inside the mask, corrected for it)"),
        None => "none: the half-maps share nothing".to_owned(),
    };
    let unmasked = summary.resolution_angstrom;
    let why = if summary.converged {
        "nothing improved any more"
    } else {
        "as many as allowed"
    };
    let took = Duration::from_secs_f64(summary.seconds.max(0.0));
    let sharpened = summary.map_sharpened.as_ref().map_or(String::new(), |map| {
        format!(
            "sharpened   {} (B-factor {:.0} A^2)\n",
            map.display(),
            post.b_factor_angstrom2
        )
    });
    let local = post.local_median_angstrom.map_or(String::new(), |median| {
        format!("local       median {median:.2} A\n")
    });
    format!(
        "resolution  {masked}\nunmasked    {unmasked:.2} A\n{local}{}rounds      {}, {why}\ntook        {}\nmap         {}\n\
        {sharpened}particles   {}\n",
        coverage(summary),
        summary.iterations,
        crate::clock::duration(took),
        summary.map.display(),
        summary.particles.display(),
    )
}

fn coverage(summary: &Summary) -> String {
    summary.coverage.map_or(String::new(), |found| {
        format!(
            "coverage    {:.2} of an even one, {:.0} % of directions unseen\n",
            found.evenness,
            100.0 * found.unseen
        )
    })
}

/// What the user should know of how it ended.
fn warnings(summary: &Summary) -> Vec<String> {
    let given = (!summary.has_own_detail).then(|| {
        "the half-maps agree no finer than the starting map and its mask made them: nothing shows that the particles hold \
         this structure (start from a finer --low-pass only if you trust the map)"
            .to_owned()
    });
    let post = summary.postprocessed.warnings.iter().cloned();
    given.into_iter().chain(post).collect()
}

fn to_json(summary: &Summary) -> serde_json::Value {
    json!({
        "resolution_angstrom": summary.resolution_angstrom,
        "resolution_masked_angstrom": summary.postprocessed.resolution_0_143_angstrom,
        "b_factor_angstrom2": summary.postprocessed.b_factor_angstrom2,
        "coverage": summary.coverage.map(|found| json!({ "unseen": found.unseen, "evenness": found.evenness })),
        "has_own_detail": summary.has_own_detail,
        "warnings": warnings(summary),
        "iterations": summary.iterations,
        "converged": summary.converged,
        "seconds": summary.seconds,
        "map": summary.map,
        "map_sharpened": summary.map_sharpened,
        "particles": summary.particles,
        "record": summary.record,
    })
}
