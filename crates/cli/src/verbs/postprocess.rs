//! `dewar postprocess`: from two half-maps to a resolution and a map to look at.

mod files;
mod local;
mod report;

use crate::{failure::Failure, map_file, output, progress::Bar};
use anyhow::anyhow;
use clap::Args;
use dewar_compute::postprocess::{self, Params, PostProcessed, STEP_COUNT};
use local::Local;
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
    postprocess.json, and local_resolution.mrc (in A, 0 outside of the mask) if asked.\n\
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
    /// Soft mask around the particle, values from 0 to 1 [default: made from the half-maps].
    #[arg(long, value_name = "MAP")]
    mask: Option<PathBuf>,
    /// Pixel size, where the headers have none or a wrong one.
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    pixel_size: Option<f64>,
    /// B-factor in A^2 to sharpen by, negative; 0 for none [default: fitted from 10 A on].
    #[arg(long, value_name = "ANGSTROM2", allow_negative_numbers = true)]
    b_factor: Option<f64>,
    /// The detector's modulation transfer (STAR: rlnResolutionInversePixel, rlnMtfValue), to divide out.
    #[arg(long, value_name = "STAR")]
    mtf: Option<PathBuf>,
    /// Pixel size of the micrographs, where the maps' is another.
    #[arg(long, value_name = "ANGSTROM", requires = "mtf", value_parser = super::positive)]
    mtf_pixel_size: Option<f64>,
    /// Measure the resolution at every place too, in a ball of 25 A with soft edges of 25 A; takes all cores for a while.
    #[arg(long)]
    local_resolution: bool,
    /// What the random phases grow from.
    #[arg(long, value_name = "K", default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let places = files::Places::in_folder(&options.out);
    places.check_free()?;
    let (first, second) = (
        map_file::read(&options.first)?,
        map_file::read(&options.second)?,
    );
    let mask = options.mask.as_deref().map(map_file::read).transpose()?;
    let pixel_size_angstrom = map_file::common_pixel_size(
        options.pixel_size,
        [&first, &second].into_iter().chain(&mask),
    )
    .map_err(|failure| failure.concerning(options.names()))?;
    let params = Params {
        pixel_size_angstrom,
        mask: mask.map(|mask| mask.volume),
        b_factor_angstrom2: options.finite_b_factor()?,
        mtf: options.mtf(pixel_size_angstrom)?,
        seed: options.seed,
    };
    let bar = Bar::new("post-processing", "steps");
    let halves = [&first.volume, &second.volume];
    let found = postprocess::postprocess(halves, params, &mut |step| bar.set(step, STEP_COUNT));
    bar.finish();
    let found = found.map_err(|error| Failure::input(error).concerning(options.names()))?;
    let local = options
        .local_resolution
        .then(|| local::measure(halves, &found.mask, pixel_size_angstrom, options.seed));
    options.conclude(&places, &found, local.as_ref(), pixel_size_angstrom)
}

impl Options {
    /// Writes and tells what was found.
    fn conclude(
        &self,
        places: &files::Places,
        found: &PostProcessed,
        local: Option<&Local>,
        pixel_size_angstrom: f64,
    ) -> Result<(), Failure> {
        let record = report::record(self, places, found, local, pixel_size_angstrom);
        places.write(found, local, pixel_size_angstrom, &record)?;
        found
            .warnings
            .iter()
            .for_each(|warning| eprintln!("warning: {warning}"));
        if self.json {
            return output::print_json(&record);
        }
        output::print(&report::told(places, found, local, pixel_size_angstrom))
    }

    fn finite_b_factor(&self) -> Result<Option<f64>, Failure> {
        match self.b_factor {
            Some(b_factor) if !b_factor.is_finite() => Err(Failure::input(anyhow!(
                "--b-factor is {b_factor}; expected a number"
            ))),
            b_factor => Ok(b_factor),
        }
    }

    fn mtf(&self, pixel_size_angstrom: f64) -> Result<Option<postprocess::Mtf>, Failure> {
        let detector_pixel_angstrom = self.mtf_pixel_size.unwrap_or(pixel_size_angstrom);
        self.mtf
            .as_deref()
            .map(|path| files::read_mtf(path, detector_pixel_angstrom))
            .transpose()
    }

    fn names(&self) -> String {
        let mask = self.mask.as_ref();
        format!(
            "{} and {}{}",
            self.first.display(),
            self.second.display(),
            mask.map_or(String::new(), |mask| format!(", mask {}", mask.display()))
        )
    }
}
