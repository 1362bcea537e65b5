//! Half-maps as a perfect refinement would give them: simulated particles, inserted at their true poses.

use dewar_compute::{
    ctf::Ctf,
    fft::{RealFft2, half_plane_len},
    phantom::{DIAMETER_ANGSTROM, Phantom},
    reconstruct::{Accumulator, GridShape, Insertion, Prior, Sums},
    simulate::{Simulation, SimulationParams},
    symmetry::PointGroup,
};
use dewar_formats::mrc::write_map;
use std::path::{Path, PathBuf};

pub const N: usize = 80;
pub const PIXEL_ANGSTROM: f64 = 2.4;

pub struct Halves {
    pub first: PathBuf,
    pub second: PathBuf,
}

impl Halves {
    /// Reconstructs them into `folder`.
    pub fn reconstruct(folder: &Path) -> Self {
        let [first, second] = accumulated();
        Self {
            first: write(folder, "half1.mrc", &first),
            second: write(folder, "half2.mrc", &second),
        }
    }
}

fn accumulated() -> [Accumulator; 2] {
    let map = Phantom::new().volume(N, PIXEL_ANGSTROM).unwrap();
    let params = SimulationParams {
        particle_count: 400,
        snr: 6.0,
        diameter_angstrom: DIAMETER_ANGSTROM,
        pixel_size_angstrom: PIXEL_ANGSTROM,
        seed: 5,
    };
    let simulation = Simulation::new(&map, params).unwrap();
    // White noise: equal in every shell, so its scale does not matter to maps without a prior.
    let inverse_sigma2 = vec![1.0; N / 2 + 1];
    let mut fft = RealFft2::new(N).unwrap();
    let mut image = vec![Default::default(); half_plane_len(N)];
    let mut ctf = vec![0.0; half_plane_len(N)];
    let shape = GridShape::new(N, (N - 1) / 2, 2.0).unwrap();
    let mut halves = [Accumulator::new(shape), Accumulator::new(shape)];
    for particle in simulation {
        fft.forward(particle.image.data(), &mut image);
        Ctf::new(&particle.truth.ctf)
            .unwrap()
            .fill_half_plane(N, PIXEL_ANGSTROM, &mut ctf);
        halves[usize::from(particle.truth.half_set) - 1].insert(&Insertion {
            image: &image,
            ctf: &ctf,
            is_multiplied: false,
            inverse_sigma2: &inverse_sigma2,
            rotation: &particle.truth.rotation,
            shift_px: particle.truth.shift_px,
            weight: 1.0,
        });
    }
    halves
}

fn write(folder: &Path, name: &str, half: &Accumulator) -> PathBuf {
    let mut sums = Sums::new(half.shape());
    sums.add(half).unwrap();
    let operators = "C1".parse::<PointGroup>().unwrap().operators();
    let map = sums.merge(&operators).reconstruct(Prior::None);
    let path = folder.join(name);
    write_map(&path, [N; 3], PIXEL_ANGSTROM as f32, map.data(), "test").unwrap();
    path
}
