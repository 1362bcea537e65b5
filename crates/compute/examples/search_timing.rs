//! Times projection matching: `cargo run --release -p dewar-compute --example search_timing`.
//!
//! Box 64, 29 shifts, no symmetry, a reference of blobs; noise for images, since time does not depend on what is found
//! except through how far local grids move.

use std::time::Instant;

use dewar_compute::ctf::CtfParams;
use dewar_compute::projector::Projector;
use dewar_compute::search::{ParticleImage, ReferenceBank, ScoreMode, Search, SearchSettings};
use dewar_compute::symmetry::PointGroup;
use dewar_compute::volume::Volume;
use rand::{RngExt, SeedableRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n = 64;
    let volume = Volume::from_fn(n, |x, y, z| {
        let blob = |cx: f64, cy: f64, cz: f64| {
            libm::exp(-((x - cx).powi(2) + (y - cy).powi(2) + (z - cz).powi(2)) / 8.0)
        };
        blob(9.0, 2.0, -3.0) + blob(-4.0, 8.0, 1.0) + blob(1.0, -6.0, 7.0) + blob(-7.0, -3.0, -5.0)
    })?;
    for name in ["C1", "D7"] {
        let settings = SearchSettings {
            pixel_size_angstrom: 3.0,
            mask_diameter_angstrom: 0.7 * n as f64 * 3.0,
            k_max: 26,
            max_shift_px: 6.0,
            shift_step_px: 2.0,
            order: 3,
            candidate_count: 5,
            mode: ScoreMode::Likelihood,
        };
        let projector = Projector::new(&volume, 28, 2.0)?;
        let start = Instant::now();
        let bank = ReferenceBank::new(&projector, &name.parse::<PointGroup>()?, &settings)?;
        println!(
            "{name}: bank to k = {} in {:?}",
            settings.k_max_global(n),
            start.elapsed()
        );
        let mut search = Search::new(&bank, &projector, &vec![2048.0; n / 2])?;
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let images: Vec<Vec<f32>> = (0..64)
            .map(|_| (0..n * n).map(|_| random.random_range(-1.7..1.7)).collect())
            .collect();
        let ctf = CtfParams {
            defocus_u_angstrom: 15000.0,
            defocus_v_angstrom: 14000.0,
            ..CtfParams::default()
        };
        let particles: Vec<_> = images
            .iter()
            .map(|pixels| ParticleImage {
                pixels,
                ctf,
                prior_shift_px: [0.0; 2],
                starts: &[],
            })
            .collect();
        // Asked after loading, after the global search and before every local one: times its parts.
        let start = Instant::now();
        search.run(&particles, &mut || true)?;
        println!(
            "{name}: {:.2} ms a particle",
            start.elapsed().as_secs_f64() * 1e3 / images.len() as f64
        );
        let (mut asked, mut last, mut global) = (0, Instant::now(), 0.0);
        search.run(&particles[..1], &mut || {
            asked += 1;
            if asked == 2 {
                global = last.elapsed().as_secs_f64() * 1e3;
            }
            last = Instant::now();
            true
        })?;
        println!("{name}: {global:.2} ms of it global");
    }
    Ok(())
}
