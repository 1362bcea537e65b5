//! The files of a simulated data set.

use super::SimulateError;
use dewar_compute::{
    simulate::{SimulatedTruth, Simulation},
    volume::Volume,
};
use dewar_formats::{
    mrc::{OutputMode, StackWriter, write_map},
    particles::{Ctf, HalfSet, NewParticles, OpticsGroup, Particle, Pose, write_particles},
};
use std::path::{Path, PathBuf};

/// The stack's name, as the particle files beside it have it.
const STACK_NAME: &str = "particles.mrcs";

/// Where the files are.
pub struct Places {
    pub stack: PathBuf,
    pub particles: PathBuf,
    pub truth: PathBuf,
    pub map: PathBuf,
}

impl Places {
    /// All in one folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            stack: folder.join(STACK_NAME),
            particles: folder.join("particles.star"),
            truth: folder.join("truth.star"),
            map: folder.join("truth.mrc"),
        }
    }

    /// Makes sure that nothing is overwritten: the names are those that real data often has.
    pub fn check_free(&self) -> Result<(), SimulateError> {
        match [&self.stack, &self.particles, &self.truth, &self.map]
            .into_iter()
            .find(|path| path.exists())
        {
            Some(path) => Err(SimulateError::Exists { path: path.clone() }),
            None => Ok(()),
        }
    }

    /// Writes the map as it is projected.
    pub fn write_map(
        &self,
        map: &Volume,
        pixel_size_angstrom: f64,
        label: &str,
    ) -> Result<(), SimulateError> {
        Ok(write_map(
            &self.map,
            [map.n(); 3],
            pixel_size_angstrom as f32,
            map.data(),
            label,
        )?)
    }

    /// Writes the images as they are made, and gives what they show.
    pub fn write_stack(
        &self,
        simulation: Simulation,
        box_size_px: usize,
        pixel_size_angstrom: f64,
        label: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<SimulatedTruth>, SimulateError> {
        let size = [box_size_px; 2];
        let mut stack = StackWriter::create(
            &self.stack,
            size,
            pixel_size_angstrom as f32,
            OutputMode::Float32,
            label,
        )?;
        let mut truths = Vec::new();
        for particle in simulation {
            stack.append(particle.image.data())?;
            truths.push(particle.truth);
            progress(truths.len() as u64);
        }
        stack.finish()?;
        Ok(truths)
    }

    /// Writes both particle files.
    pub fn write_particle_files(
        &self,
        truths: &[SimulatedTruth],
        box_size_px: usize,
        pixel_size_angstrom: f64,
    ) -> Result<(), SimulateError> {
        let optics = truths.first().map(|truth| OpticsGroup {
            name: "opticsGroup1".to_owned(),
            number: 1,
            voltage_kv: truth.ctf.voltage_kv,
            spherical_aberration_mm: truth.ctf.spherical_aberration_mm,
            amplitude_contrast: truth.ctf.amplitude_contrast,
            pixel_size_angstrom,
            box_size_px,
            ..OpticsGroup::default()
        });
        let mut particles: Vec<Particle> = truths
            .iter()
            .enumerate()
            .map(|(at, truth)| particle(at, truth, pixel_size_angstrom))
            .collect();
        let write = |path: &Path, particles: &[Particle]| {
            let new = NewParticles {
                optics: optics.as_slice(),
                stack_names: &[STACK_NAME.to_owned()],
                micrographs: &["simulated.mrc".to_owned()],
                particles,
            };
            write_particles(path, &new)
        };
        write(&self.truth, &particles)?;
        particles
            .iter_mut()
            .for_each(|particle| particle.pose = None);
        write(&self.particles, &particles)?;
        Ok(())
    }
}

fn particle(image_index: usize, truth: &SimulatedTruth, pixel_size_angstrom: f64) -> Particle {
    let [rot_deg, tilt_deg, psi_deg] = truth.rotation.to_euler_deg();
    Particle {
        stack_index: 0,
        image_index,
        optics_index: 0,
        // RELION estimates scale by micrograph, so it wants one.
        micrograph_index: Some(0),
        ctf: Ctf {
            defocus_u_angstrom: truth.ctf.defocus_u_angstrom,
            defocus_v_angstrom: truth.ctf.defocus_v_angstrom,
            defocus_angle_deg: truth.ctf.defocus_angle_deg,
            phase_shift_deg: truth.ctf.phase_shift_deg,
            b_factor: truth.ctf.b_factor_angstrom2,
            scale: truth.ctf.scale,
        },
        pose: Some(Pose {
            rot_deg,
            tilt_deg,
            psi_deg,
            shift_angstrom: truth.shift_px.map(|shift| shift * pixel_size_angstrom),
        }),
        half_set: Some(if truth.half_set == 1 {
            HalfSet::One
        } else {
            HalfSet::Two
        }),
    }
}
