//! A large particle file is planned in little memory.

use dewar_compute::{noise::GaussianNoise, volume::Volume};
use dewar_formats::mrc;
use dewar_refine::{Options, Settings, check, postprocess::PostSettings};
use std::{
    fmt::Write as _,
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
};

const PARTICLES: usize = 100_000;
const N: usize = 256;

/// Every so many images hold something: those that are looked at. The rest of the stack takes no room on the disk.
const FILLED_EVERY: usize = 391;

/// The most memory this process ever had, in bytes.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

fn write_stack(path: &Path) {
    let mut header = [0; 1024];
    for (word, value) in [N, N, PARTICLES, 2].into_iter().enumerate() {
        header[4 * word..][..4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    for (word, value) in [(7, N), (8, N), (9, PARTICLES), (16, 1), (17, 2), (18, 3)] {
        header[4 * word..][..4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    for word in 10..13 {
        header[4 * word..][..4].copy_from_slice(&(N as f32).to_le_bytes());
    }
    header[208..212].copy_from_slice(b"MAP ");
    header[212] = 0x44;
    header[213] = 0x44;
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&header).unwrap();
    let image_bytes = (4 * N * N) as u64;
    file.set_len(1024 + PARTICLES as u64 * image_bytes).unwrap();
    let mut noise = GaussianNoise::new(1, 0);
    let pixels: Vec<u8> = (0..N * N)
        .flat_map(|_| (noise.next() as f32).to_le_bytes())
        .collect();
    for image in (0..PARTICLES).step_by(FILLED_EVERY) {
        file.seek(SeekFrom::Start(1024 + image as u64 * image_bytes))
            .unwrap();
        file.write_all(&pixels).unwrap();
    }
}

fn write_star(path: &Path) {
    let mut text = String::from(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n\
         _rlnImagePixelSize\n_rlnImageSize\n1 300 2.7 0.1 1.0 256\n\ndata_particles\n\nloop_\n_rlnImageName\n\
         _rlnOpticsGroup\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnDefocusU\n_rlnDefocusV\n\
         _rlnDefocusAngle\n",
    );
    for row in 0..PARTICLES {
        let (micrograph, x) = (row / 200, row % 200);
        writeln!(
            text,
            "{:06}@particles.mrcs 1 Micrographs/grid_{micrograph:05}.mrc {x}.25 {}.5 15000 14800 30",
            row + 1,
            row / 7
        )
        .unwrap();
    }
    fs::write(path, text).unwrap();
}

#[test]
fn a_hundred_thousand_particles_of_box_256_are_planned_in_a_gigabyte_and_a_half() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_stack(&path("particles.mrcs"));
    write_star(&path("particles.star"));
    let ball = Volume::from_fn(N, |x, y, z| {
        f64::from(u8::from(x * x + y * y + z * z < 3600.0))
    });
    mrc::write_map(&path("map.mrc"), [N; 3], 1.0, ball.unwrap().data(), "test").unwrap();
    let options = Options {
        particles: path("particles.star"),
        reference: path("map.mrc"),
        out: path("refined"),
        project_dir: None,
        settings: Settings::default(),
        accept_images: false,
        postprocess: PostSettings::default(),
    };
    check(&options).unwrap();
    // What the maps take at the end, 3.2 GB of grids, comes after: of this only the particle file's 200 MB stay.
    let peak = peak_bytes();
    println!("{} MiB", peak >> 20);
    assert!(peak < 3 << 29, "{peak} bytes");
}
