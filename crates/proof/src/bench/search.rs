//! `cargo xtask bench search`: how near the search for poses comes, and what it costs beside the processor's peak.
//!
//! Particles of 128 pixels are simulated from a real map at a signal-to-noise ratio of 0.1, and found again with the map
//! itself for reference. Times are of the processor, on one thread.

use super::{
    How,
    report::{Report, Target},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use dewar_compute::{
    noise::shell_counts,
    projector::Projector,
    search::{ParticleImage, ReferenceBank, ScoreMode, Search, SearchSettings, Start, Trust},
    simulate::{SimulatedParticle, Simulation, SimulationParams},
    symmetry::PointGroup,
    volume::Volume,
};
use dewar_formats::mrc::MrcFile;
use rustix::time::{ClockId, clock_gettime};
use std::{path::PathBuf, time::Duration};

/// What to measure with.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Folder with the map to simulate from.
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// Below the folder of maps: without symmetry, 128 pixels of 1.6 A.
const MAP: &str = "casx_128.mrc.gz";
const PIXEL_SIZE_ANGSTROM: f64 = 1.6;

const PARTICLES: f64 = 200.0;
const SNR: f64 = 0.1;

/// By SCIENCE's rule, a grid of 7.5 degrees goes to 28 Fourier pixels with this diameter.
const DIAMETER_ANGSTROM: f64 = 130.0;

/// The grid is searched with 29 shifts, and poses climb to 60 Fourier pixels.
const SETTINGS: SearchSettings = SearchSettings {
    pixel_size_angstrom: PIXEL_SIZE_ANGSTROM,
    mask_diameter_angstrom: DIAMETER_ANGSTROM,
    k_max: 60,
    max_shift_px: 6.0,
    shift_step_px: 2.0,
    order: 3,
    candidate_count: 12,
    mode: ScoreMode::Likelihood,
    trust: Trust::Independent,
};

/// Measures, and prints.
///
/// # Errors
/// If the map cannot be read. A missed target is no error.
pub fn run(options: &Options) -> Result<()> {
    let dir = options.how.begin()?;
    let map = read(&super::maps_folder(options.maps.as_deref(), "search")?.join(MAP))?;
    let mut report = Report::new(&dir);
    let peak = peak_gflop_per_second();
    report.add("matrix product, 512 x 512 x 512", peak, "GFLOP/s", None);
    measure(&map, options.how.scale, peak, &mut report)?;
    options.how.print(&report)
}

fn measure(map: &Volume, scale: f64, peak: f64, report: &mut Report) -> Result<()> {
    let count = (PARTICLES * scale).max(8.0);
    let mut simulation = Simulation::new(
        map,
        SimulationParams {
            particle_count: count as u64,
            snr: SNR,
            diameter_angstrom: DIAMETER_ANGSTROM,
            pixel_size_angstrom: PIXEL_SIZE_ANGSTROM,
            seed: 1,
        },
    )?;
    let n = map.n();
    let variance = simulation.noise_sd().powi(2) * masked_pixels() / 2.0;
    let sigma2 = vec![variance; shell_counts(n).len()];
    let projector = Projector::new(map, SETTINGS.k_max + 1, 2.0)?;
    let group: PointGroup = "C1".parse()?;
    let (bank, building) = timed(|| ReferenceBank::new(&projector, &group, &SETTINGS));
    let bank = bank?;
    report.add("bank built", building.as_secs_f64() * 1e3, "ms", None);
    let mut search = Search::new(&bank, &projector, &sigma2)?;

    let (mut on_grid, mut polished) = (Found::default(), Found::default());
    for particle in simulation.by_ref() {
        let image = |starts| ParticleImage {
            pixels: particle.image.data(),
            ctf: particle.truth.ctf,
            prior_shift_px: [0.0; 2],
            starts,
        };
        let (starts, taken) = timed(|| search.on_grid(&image(&[])));
        let starts = starts?;
        let best = starts.first().context("the grid gave no pose")?;
        on_grid.add(best, &particle, taken);
        let (found, taken) = timed(|| search.run(&[image(&starts)], &mut || true));
        let best = &found?[0];
        let best = Start {
            orientation: best.orientation,
            shift_px: best.shift_px,
        };
        polished.add(&best, &particle, taken);
    }
    let k = SETTINGS.k_max_global(n);
    let at_most = |limit| Some(Target::AtMost(limit));
    let grid_ms = on_grid.milliseconds();
    report.add(
        format!("grid of 7.5 degrees, k = {k}, 29 shifts, CPU a particle"),
        grid_ms,
        "ms",
        at_most(10.0),
    );
    let rate = bank.products_flop() / grid_ms / 1e6;
    report.add("  its products over all of its time", rate, "GFLOP/s", None);
    report.add("  share of the peak", 100.0 * rate / peak, "%", None);
    report.add(
        "  angular error, median",
        on_grid.median_deg(),
        "deg",
        at_most(4.0),
    );
    report.add(
        format!(
            "polish of 12 poses to k = {}, CPU a particle",
            SETTINGS.k_max
        ),
        polished.milliseconds(),
        "ms",
        at_most(10.0),
    );
    report.add(
        "  angular error, median",
        polished.median_deg(),
        "deg",
        at_most(1.2),
    );
    Ok(())
}

/// A cubic map.
fn read(path: &std::path::Path) -> Result<Volume> {
    let file = MrcFile::open(path)?;
    let [nx, ny, nz] = file.header().size;
    ensure!(nx == ny && ny == nz, "{} is no cube", path.display());
    Ok(Volume::new(nx, file.read_all()?)?)
}

/// The pixels a mask leaves, with half of its edge.
fn masked_pixels() -> f64 {
    let radius_px = DIAMETER_ANGSTROM / 2.0 / PIXEL_SIZE_ANGSTROM + 2.5;
    std::f64::consts::PI * radius_px * radius_px
}

/// What one stage of the search found.
#[derive(Default)]
struct Found {
    errors_deg: Vec<f64>,
    taken: Duration,
}

impl Found {
    fn add(&mut self, pose: &Start, particle: &SimulatedParticle, taken: Duration) {
        let truth = &particle.truth.rotation;
        self.errors_deg.push(pose.orientation.angle_to_deg(truth));
        self.taken += taken;
    }

    fn milliseconds(&self) -> f64 {
        self.taken.as_secs_f64() * 1e3 / self.errors_deg.len() as f64
    }

    fn median_deg(&self) -> f64 {
        super::median(self.errors_deg.clone())
    }
}

/// The best of several products of large matrices: what one core can do at most.
fn peak_gflop_per_second() -> f64 {
    const N: usize = 512;
    let (a, b, mut c) = (
        vec![1.0_f32; N * N],
        vec![1.0_f32; N * N],
        vec![0.0_f32; N * N],
    );
    let (rows, columns) = (1, N as isize);
    let once = |c: &mut Vec<f32>| {
        let ((), taken) = timed(|| {
            // SAFETY: three matrices of N x N, each in a slice of its own.
            unsafe {
                gemm::gemm(
                    N,
                    N,
                    N,
                    c.as_mut_ptr(),
                    columns,
                    rows,
                    false,
                    a.as_ptr(),
                    columns,
                    rows,
                    b.as_ptr(),
                    columns,
                    rows,
                    0.0_f32,
                    1.0_f32,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        });
        2.0 * (N * N * N) as f64 / taken.as_secs_f64() / 1e9
    };
    (0..20).map(|_| once(&mut c)).fold(0.0, f64::max)
}

/// What `work` gives, and the processor time of this thread it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    let result = work();
    (result, now() - start)
}
