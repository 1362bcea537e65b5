//! Particles of a few views of a map, each at any in-plane angle, and images of noise alone among them: what a sorting into
//! 2-D classes has to tell apart.
//!
//! `cargo run --example views -- MAP FOLDER VIEWS PARTICLES SNR JUNK` writes particles.star, particles.mrcs and truth.star,
//! whose `rlnClassNumber` is the view, or 0 for noise alone.

use dewar_compute::{
    noise::GaussianNoise,
    orientation::Rotation,
    simulate::{Simulation, SimulationParams},
    volume::Volume,
};
use dewar_formats::{
    mrc::{MrcFile, OutputMode, StackWriter},
    particles::{Ctf, NewParticles, OpticsGroup, Particle, write_particles},
    star::{Block, Document, Table},
};
use std::{env, error::Error, fs, path::Path};

/// What to make.
pub struct Views<'a> {
    /// The map whose views they are.
    pub map: &'a Volume,
    /// Its pixel size.
    pub pixel_size_angstrom: f64,
    /// How many views.
    pub view_count: usize,
    /// How many particles show one of them.
    pub particle_count: usize,
    /// Signal's variance over the noise's.
    pub snr: f64,
    /// How many images show nothing.
    pub junk_count: usize,
}

impl Views<'_> {
    /// Writes the set, and gives the view of each image, from 0; none for noise.
    ///
    /// # Errors
    /// If the disk refuses or the map shows nothing.
    pub fn write(&self, folder: &Path) -> Result<Vec<Option<usize>>, Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        let (n, pixel) = (self.map.n(), self.pixel_size_angstrom);
        let mut simulation = self.simulation()?;
        let path = folder.join("particles.mrcs");
        let mut stack = StackWriter::create(&path, [n, n], pixel as f32, OutputMode::Float32, "")?;
        let (mut particles, mut truths) = (Vec::new(), Vec::new());
        let count = self.particle_count + self.junk_count;
        for index in 0..count {
            let mut stream = GaussianNoise::new(99, index as u64);
            // Junk lies scattered among the particles.
            let is_junk = index * self.junk_count / count != (index + 1) * self.junk_count / count;
            let view = (!is_junk).then(|| index % self.view_count);
            let mut truth = simulation.particle(index as u64).truth;
            let psi_deg = 360.0 * stream.uniform();
            truth.rotation = self.view(&mut simulation, index % self.view_count, psi_deg);
            let mut image = simulation.noise_free(&truth).data().to_vec();
            for pixel in &mut image {
                let noise = (simulation.noise_sd() * stream.next()) as f32;
                *pixel = if is_junk { noise } else { *pixel + noise };
            }
            stack.append(&image)?;
            truths.push(view);
            particles.push(Particle {
                stack_index: 0,
                image_index: index,
                optics_index: 0,
                micrograph_index: Some(0),
                ctf: Ctf {
                    defocus_u_angstrom: truth.ctf.defocus_u_angstrom,
                    defocus_v_angstrom: truth.ctf.defocus_v_angstrom,
                    defocus_angle_deg: truth.ctf.defocus_angle_deg,
                    phase_shift_deg: 0.0,
                    b_factor: 0.0,
                    scale: 1.0,
                },
                pose: None,
                half_set: None,
            });
        }
        stack.finish()?;
        let optics = OpticsGroup {
            name: "opticsGroup1".to_owned(),
            number: 1,
            voltage_kv: 300.0,
            spherical_aberration_mm: 2.7,
            amplitude_contrast: 0.1,
            pixel_size_angstrom: pixel,
            box_size_px: n,
            ..OpticsGroup::default()
        };
        let new = NewParticles {
            optics: &[optics],
            stack_names: &["particles.mrcs".to_owned()],
            micrographs: &["simulated.mrc".to_owned()],
            particles: &particles,
        };
        write_particles(&folder.join("particles.star"), &new)?;
        let mut table = Table::new(["rlnClassNumber"]);
        for view in &truths {
            table.push_row([view.map_or(0, |view| view + 1).to_string()]);
        }
        let truth = Document {
            blocks: vec![Block::with_table("particles", table)],
        };
        truth.write(&folder.join("truth.star"))?;
        Ok(truths)
    }

    /// The simulation they come from.
    ///
    /// # Errors
    /// If the map shows nothing.
    pub fn simulation(&self) -> Result<Simulation, Box<dyn Error>> {
        let params = SimulationParams {
            particle_count: (self.particle_count + self.junk_count) as u64,
            snr: self.snr,
            diameter_angstrom: 0.8 * self.map.n() as f64 * self.pixel_size_angstrom,
            pixel_size_angstrom: self.pixel_size_angstrom,
            seed: 5,
        };
        Ok(Simulation::new(self.map, params)?)
    }

    /// A view, turned in plane.
    pub fn view(&self, simulation: &mut Simulation, view: usize, psi_deg: f64) -> Rotation {
        let first = simulation.particle(view as u64).truth.rotation;
        first.then(&Rotation::from_euler_deg(0.0, 0.0, psi_deg))
    }
}

#[allow(dead_code, reason = "a test takes in the rest of this file")]
fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [map, folder, views, particles, snr, junk] = &words[..] else {
        return Err("MAP FOLDER VIEWS PARTICLES SNR JUNK".into());
    };
    let file = MrcFile::open(Path::new(map))?;
    let map = Volume::new(file.header().size[0], file.read_all()?)?;
    let views = Views {
        map: &map,
        pixel_size_angstrom: file.header().pixel_size_angstrom.map_or(1.0, f64::from),
        view_count: views.parse()?,
        particle_count: particles.parse()?,
        snr: snr.parse()?,
        junk_count: junk.parse()?,
    };
    views.write(Path::new(folder))?;
    Ok(())
}
