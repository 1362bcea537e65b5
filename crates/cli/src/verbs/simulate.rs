//! `dewar simulate`: particles with a known truth.

use crate::{failure::Failure, output, progress::Bar};
use clap::Args;
use dewar_compute::symmetry::PointGroup;
use dewar_refine::simulate::{SimulateError, SimulateOptions, Simulated, simulate};
use serde_json::json;
use std::path::PathBuf;

/// Makes particle images of a map, an atomic model or a built-in phantom, with the exact poses beside them.
///
/// Orientations are uniform, shifts within 3 pixels; 300 kV, Cs 2.7 mm, amplitude contrast 0.1, defocus 1.0 to 2.5 um,
/// white noise. The same command gives the same bytes.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar simulate --out data --particles 1000 --snr 0.1\n  \
    dewar simulate 6NY1.pdb.gz --pixel-size 2 --box 96 --out data --particles 5000 --snr 0.05 --seed 3\n\n\
    Writes particles.mrcs, particles.star (no poses), truth.star (exact poses) and truth.mrc (the map as projected).\n\
    JSON keys: particles, truth, map, pixel_size_angstrom, diameter_angstrom"
)]
pub struct Options {
    /// A map (MRC) or an atomic model (PDB), gzipped or not; a built-in asymmetric phantom if left out.
    #[arg(value_name = "MAP")]
    map: Option<PathBuf>,
    /// Folder for the files; must hold none of them yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many particles.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    particles: u64,
    /// Variance of the noise-free images, CTF applied, inside the particle's circle, over that of the noise.
    #[arg(long, value_name = "RATIO", default_value_t = 0.1)]
    snr: f64,
    /// Side of the images in pixels; even. Maps are cropped or padded to it.
    #[arg(long = "box", value_name = "PIXELS", default_value_t = 64)]
    box_size: usize,
    /// Point group. The phantom is given it; a map or model must have it.
    #[arg(long, value_name = "GROUP", default_value = "C1")]
    symmetry: PointGroup,
    /// What the random numbers grow from.
    #[arg(long, value_name = "K", default_value_t = 1)]
    seed: u64,
    /// Pixel size: of a model; of a map whose header has none or a wrong one; of the phantom instead of 4 A.
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    pixel_size: Option<f64>,
    /// Diameter of the particle's circle [default: the phantom's own 150 A; else four fifths of the box].
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    diameter: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let bar = Bar::new("simulating", "particles");
    let made = simulate(&options.stated(), &mut |done| {
        bar.set(done, options.particles)
    });
    bar.finish();
    let made = made.map_err(failed)?;
    made.warnings
        .iter()
        .for_each(|warning| eprintln!("warning: {warning}"));
    if options.json {
        return output::print_json(&json!({
            "particles": made.particles,
            "truth": made.truth,
            "map": made.map,
            "pixel_size_angstrom": made.pixel_size_angstrom,
            "diameter_angstrom": made.diameter_angstrom,
        }));
    }
    output::print(&options.told(&made))
}

impl Options {
    fn stated(&self) -> SimulateOptions {
        SimulateOptions {
            source: self.map.clone(),
            out: self.out.clone(),
            particle_count: self.particles,
            snr: self.snr,
            box_size_px: self.box_size,
            symmetry: self.symmetry,
            seed: self.seed,
            pixel_size_angstrom: self.pixel_size,
            diameter_angstrom: self.diameter,
        }
    }

    fn told(&self, made: &Simulated) -> String {
        format!(
            "{} particles of {} px, {} A a pixel, SNR {} inside {:.0} A\n\
             particles  {}\ntruth      {}\nmap        {}\n",
            self.particles,
            self.box_size,
            made.pixel_size_angstrom,
            self.snr,
            made.diameter_angstrom,
            made.particles.display(),
            made.truth.display(),
            made.map.display(),
        )
    }
}

fn failed(error: SimulateError) -> Failure {
    if error.is_input() {
        Failure::input(error)
    } else {
        Failure::work(error)
    }
}
