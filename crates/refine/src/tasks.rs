//! Particles as tasks state them, and what comes back.

use crate::error::RefineError;
use dewar_formats::particles::{Applied, ParticleSet};
use dewar_proto::em::v1;
use dewar_sdk::{BlobRef, Input, Outcome, Outcomes, TaskIndex, TaskResult};
use std::{collections::BTreeMap, ops::Range};

/// The next outcome of a task in `pending`, which it leaves, and what stands there for it. Those of other tasks are
/// passed over.
///
/// # Errors
/// If the job was cancelled, or the broker refuses.
pub async fn next_of<T>(
    outcomes: &mut Outcomes,
    pending: &mut BTreeMap<TaskIndex, T>,
) -> Result<(Outcome, T), RefineError> {
    loop {
        let outcome = outcomes.next().await?.ok_or(RefineError::Cancelled)?;
        let Some(of) = pending.remove(&outcome.index) else {
            continue;
        };
        if outcome.result == TaskResult::Cancelled {
            return Err(RefineError::Cancelled);
        }
        return Ok((outcome, of));
    }
}

/// The particles and the blobs their pixels are in.
pub struct Images<'a> {
    /// The particle file.
    pub set: &'a ParticleSet,
    /// The blob of each of its stacks.
    pub stacks: &'a [BlobRef],
    /// How strong each particle's group is.
    pub scales: Vec<f64>,
}

/// A particle, by position in the file, with what is known of its pose.
pub struct Posed {
    /// Position in the particle file.
    pub particle: usize,
    /// Where it may lie; empty where nothing is known.
    pub modes: Vec<v1::PoseMode>,
}

/// Particles as a task states them.
pub struct Stated {
    /// One for each of `inputs`.
    pub geometries: Vec<v1::ImageGeometry>,
    /// In the order given.
    pub particles: Vec<v1::Particle>,
    /// The stacks they are in, and only their own bytes of them.
    pub inputs: Vec<Input>,
}

impl Images<'_> {
    /// States particles for a task whose first stack is input `first_input`.
    pub fn state(&self, particles: impl Iterator<Item = Posed>, first_input: usize) -> Stated {
        let mut positions: BTreeMap<usize, usize> = BTreeMap::new();
        let mut ranges: Vec<(usize, Vec<Range<u64>>)> = Vec::new();
        let stated = particles
            .map(
                |Posed {
                     particle: index,
                     modes,
                 }| {
                    let particle = &self.set.particles[index];
                    let position = *positions.entry(particle.stack_index).or_insert_with(|| {
                        ranges.push((particle.stack_index, Vec::new()));
                        ranges.len() - 1
                    });
                    let bytes = self.set.stacks[particle.stack_index]
                        .image_byte_range(particle.image_index);
                    ranges[position].1.push(bytes.clone());
                    v1::Particle {
                        number: index as u64 + 1,
                        input_index: (first_input + position) as u32,
                        offset_bytes: bytes.start,
                        geometry_index: position as u32,
                        ctf: Some(self.ctf(index)),
                        noise_index: particle.optics_index as u32,
                        modes,
                    }
                },
            )
            .collect();
        Stated {
            particles: stated,
            geometries: ranges
                .iter()
                .map(|(stack, _)| self.geometry(*stack))
                .collect(),
            inputs: ranges
                .into_iter()
                .map(|(stack, ranges)| Input::parts(self.stacks[stack], ranges))
                .collect(),
        }
    }

    fn geometry(&self, stack_index: usize) -> v1::ImageGeometry {
        v1::ImageGeometry {
            box_size_px: self.set.box_size_px as u32,
            pixel_size_angstrom: self.set.pixel_size_angstrom,
            mrc_encoding: self.set.stacks[stack_index].encoding.code(),
        }
    }

    fn ctf(&self, index: usize) -> v1::Ctf {
        let particle = &self.set.particles[index];
        let optics = &self.set.optics[particle.optics_index];
        v1::Ctf {
            defocus_u_angstrom: particle.ctf.defocus_u_angstrom,
            defocus_v_angstrom: particle.ctf.defocus_v_angstrom,
            defocus_angle_deg: particle.ctf.defocus_angle_deg,
            voltage_kv: optics.voltage_kv,
            spherical_aberration_mm: optics.spherical_aberration_mm,
            amplitude_contrast: optics.amplitude_contrast,
            phase_shift_deg: particle.ctf.phase_shift_deg,
            b_factor_angstrom2: particle.ctf.b_factor,
            scale: particle.ctf.scale * self.scales[index],
            beam_tilt_x_mrad: optics.beam_tilt_mrad[0],
            beam_tilt_y_mrad: optics.beam_tilt_mrad[1],
            magnification: optics
                .magnification
                .map_or(Vec::new(), |matrix| matrix.concat()),
            applied: applied(optics.applied).into(),
            odd_zernike: unless_zero(&optics.odd_zernike),
            even_zernike: unless_zero(&optics.even_zernike),
        }
    }
}

/// None where there is nothing to say, for each of so many particles.
fn unless_zero(numbers: &[f64]) -> Vec<f64> {
    match numbers.iter().any(|number| *number != 0.0) {
        true => numbers.to_vec(),
        false => Vec::new(),
    }
}

fn applied(applied: Applied) -> v1::CtfApplied {
    match applied {
        Applied::Nothing => v1::CtfApplied::Unspecified,
        Applied::Phases => v1::CtfApplied::Phases,
        Applied::Whole => v1::CtfApplied::Whole,
    }
}

/// Refuses an alignment that does not answer what was asked.
///
/// # Errors
/// If poses or residuals are missing, or a pose is not finite.
pub fn check_align_output(
    output: &v1::AlignOutput,
    particle_count: usize,
    noise_count: usize,
) -> Result<(), RefineError> {
    let complete = output.poses.len() == particle_count
        && output.poses.iter().all(v1::AlignedPose::is_usable)
        && output.residuals.len() == noise_count;
    if complete {
        return Ok(());
    }
    Err(RefineError::Output(format!(
        "an alignment of {particle_count} particles gave {} poses and {} residual spectra instead of {noise_count}",
        output.poses.len(),
        output.residuals.len()
    )))
}

/// Adds the residuals of all blocks, in their order.
pub fn sum_residuals<'a>(
    blocks: impl Iterator<Item = &'a [v1::ResidualPower]>,
) -> Vec<v1::ResidualPower> {
    let mut sums: Vec<v1::ResidualPower> = Vec::new();
    for block in blocks {
        sums.resize_with(sums.len().max(block.len()), v1::ResidualPower::default);
        for (sum, residual) in sums.iter_mut().zip(block) {
            add(&mut sum.power, &residual.power);
            add(&mut sum.count, &residual.count);
        }
    }
    sums
}

fn add(sums: &mut Vec<f64>, values: &[f64]) {
    sums.resize(sums.len().max(values.len()), 0.0);
    sums.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += value);
}
