//! `dewar postprocess`: from two half-maps to a resolution and a map to look at.

mod report;

use super::post::Post;
use crate::{failure::Failure, map_file, output, progress::Bar};
use clap::Args;
use dewar_compute::postprocess::Params;
use dewar_refine::postprocess::{self, Found, Places, PostFilesError, PostSettings, Step};
use std::path::PathBuf;

/// Resolution and sharpened map of two half-maps.
///
/// The FSC is measured inside a soft mask, made from the maps unless one is given, and corrected for what the mask adds to
/// it. The mean of the half-maps is weighted by the FSC, sharpened by a fitted B-factor and low-passed at the resolution.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar postprocess half1.mrc half2.mrc --out post\n  \
    dewar postprocess half1.mrc half2.mrc --out post --mask mask.mrc --b-factor -80 --json\n\n\
    Writes map_sharpened.mrc (not masked; left out if the half-maps share nothing), mask.mrc, fsc.star, \
    postprocess.json, the FSC and the Guinier plot in pictures/, and local_resolution.mrc (in A, 0 outside of the mask) if \
    asked.\n\
    Resolutions are where the corrected curve first falls below 0.143 and 0.5, linear between shells; twice the pixel \
    size if it never does.\n\
    JSON keys: box_size_px, pixel_size_angstrom, resolution_0_143_angstrom and resolution_0_5_angstrom (null where the \
    half-maps share nothing), b_factor_angstrom2 (used), guinier (slope_angstrom2, intercept, correlation; null where \
    none was fitted), local_resolution (p10_angstrom, median_angstrom, p90_angstrom of the mask's inside; null if not \
    asked), mask (given or automatic), randomised_from_angstrom, seed, warnings, program_version, files"
)]
pub struct Options {
    /// An unfiltered half-map (MRC).
    #[arg(value_name = "HALF1")]
    first: PathBuf,
    /// The other one.
    #[arg(value_name = "HALF2")]
    second: PathBuf,
    /// Folder for the files; must hold none of them yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pixel size, where the headers have none or a wrong one.
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    pixel_size: Option<f64>,
    #[command(flatten)]
    post: Post,
    /// What the random phases grow from.
    #[arg(long, value_name = "K", default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let places = Places::in_folder(&options.out);
    places.check_free().map_err(failed)?;
    let (first, second) = (
        map_file::read(&options.first)?,
        map_file::read(&options.second)?,
    );
    let mask = options
        .post
        .mask
        .as_deref()
        .map(map_file::read)
        .transpose()?;
    let pixel_size_angstrom = map_file::common_pixel_size(
        options.pixel_size,
        [&first, &second].into_iter().chain(&mask),
    )
    .map_err(|failure| failure.concerning(options.names()))?;
    let settings = options.settings();
    let params = Params {
        pixel_size_angstrom,
        mask: mask.map(|mask| mask.volume),
        b_factor_angstrom2: settings.b_factor_angstrom2,
        mtf: settings.read_mtf(pixel_size_angstrom).map_err(failed)?,
        seed: settings.seed,
    };
    let halves = [&first.volume, &second.volume];
    let found = postprocessed(halves, params, options.post.local_resolution)
        .map_err(|failure| failure.concerning(options.names()))?;
    options.conclude(&places, &settings, &found, pixel_size_angstrom)
}

fn postprocessed(
    halves: [&dewar_compute::volume::Volume; 2],
    params: Params,
    with_local: bool,
) -> Result<Found, Failure> {
    let bars = [
        Bar::new("post-processing", "steps"),
        Bar::new("local resolution", "points"),
    ];
    let mut progress = |step, done, total| match step {
        Step::Map => bars[0].set(done, total),
        Step::Local => {
            bars[0].finish();
            bars[1].set(done, total);
        }
    };
    let found = postprocess::run(halves, params, with_local, &mut progress);
    bars.iter().for_each(Bar::finish);
    found.map_err(Failure::input)
}

fn failed(error: PostFilesError) -> Failure {
    if error.is_input() {
        Failure::input(error)
    } else {
        Failure::work(error)
    }
}

impl Options {
    /// Writes and tells what was found.
    fn conclude(
        &self,
        places: &Places,
        settings: &PostSettings,
        found: &Found,
        pixel_size_angstrom: f64,
    ) -> Result<(), Failure> {
        let record = postprocess::record(settings, places, found, pixel_size_angstrom);
        places
            .write(found, pixel_size_angstrom, &record)
            .map_err(failed)?;
        self.draw(found, pixel_size_angstrom);
        let warnings = found.map.warnings.iter();
        warnings.for_each(|warning| eprintln!("warning: {warning}"));
        if self.json {
            return output::print_json(&record);
        }
        output::print(&report::told(places, found, pixel_size_angstrom))
    }

    /// Pictures are no reason to fail: the figures are written.
    fn draw(&self, found: &Found, pixel_size_angstrom: f64) {
        let drawn = postprocess::write_pictures(&self.out, found, pixel_size_angstrom);
        let problems = drawn.unwrap_or_else(|error| vec![error.to_string()]);
        problems
            .iter()
            .for_each(|problem| eprintln!("warning: {problem}"));
    }

    fn settings(&self) -> PostSettings {
        let mut settings = PostSettings {
            seed: self.seed,
            ..PostSettings::default()
        };
        self.post.change(&mut settings);
        settings
    }

    fn names(&self) -> String {
        let mask = self.post.mask.as_ref();
        format!(
            "{} and {}{}",
            self.first.display(),
            self.second.display(),
            mask.map_or(String::new(), |mask| format!(", mask {}", mask.display()))
        )
    }
}
