//! `dewar compare`: how far poses are from other poses.

use crate::{failure::Failure, output};
use anyhow::anyhow;
use clap::Args;
use dewar_compute::{
    orientation::Rotation,
    pose_error::{Pose, PoseError, pose_error},
    symmetry::PointGroup,
};
use dewar_formats::particles::{Particle, ParticleSet};
use serde_json::json;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// How far the poses of one particle file are from those of another, such as the truth of a simulation.
///
/// Particles are matched by image, not by row. A map may sit turned and shifted as a whole; that is no error of any
/// particle, so one common rotation and shift are taken out first.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar compare refined/particles.star data/truth.star\n  \
    dewar compare refined/particles.star data/truth.star --symmetry D7 --json\n\n\
    JSON keys: compared_count, particle_count, symmetry, angle_median_deg, angle_p90_deg, within_3_deg and \
    within_10_deg (0 to 1), shift_median_angstrom, frame_angle_deg"
)]
pub struct Options {
    /// The particles with the poses to judge (STAR).
    #[arg(value_name = "PARTICLES")]
    particles: PathBuf,
    /// The particles with the poses to judge by (STAR).
    #[arg(value_name = "TRUTH")]
    truth: PathBuf,
    /// Point group: poses it makes equal count as equal.
    #[arg(long, value_name = "GROUP", default_value = "C1")]
    symmetry: PointGroup,
    /// Folder from which image names in STAR files count.
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let read =
        |path: &Path| ParticleSet::read(path, options.project.as_deref()).map_err(Failure::input);
    let (particles, truth) = (read(&options.particles)?, read(&options.truth)?);
    let [estimated, known] = matched(&particles, &truth)?;
    let error = pose_error(&estimated, &known, &options.symmetry).map_err(Failure::input)?;
    let (compared, all) = (estimated.len(), particles.particles.len());
    if options.json {
        return output::print_json(&json!({
            "compared_count": compared,
            "particle_count": all,
            "symmetry": options.symmetry.to_string(),
            "angle_median_deg": error.median_deg,
            "angle_p90_deg": error.p90_deg,
            "within_3_deg": error.within_3_deg,
            "within_10_deg": error.within_10_deg,
            "shift_median_angstrom": error.shift_median_angstrom,
            "frame_angle_deg": frame_angle_deg(&error),
        }));
    }
    output::print(&format!(
        "compared       {compared} of {all} particles, symmetry {}\n\
         angular error  median {:.2} deg, 90 % below {:.2} deg\n\
         \x20              {:.1} % within 3 deg, {:.1} % within 10 deg\n\
         shift error    median {:.2} A\n\
         frame          {:.2} deg apart, taken out before\n",
        options.symmetry,
        error.median_deg,
        error.p90_deg,
        100.0 * error.within_3_deg,
        100.0 * error.within_10_deg,
        error.shift_median_angstrom,
        frame_angle_deg(&error),
    ))
}

fn frame_angle_deg(error: &PoseError) -> f64 {
    error.frame.angle_to_deg(&Rotation::identity())
}

/// The poses of the images both files have: those to judge, and those to judge by.
fn matched(particles: &ParticleSet, truth: &ParticleSet) -> Result<[Vec<Pose>; 2], Failure> {
    let mut known = HashMap::new();
    for (image, particle) in images(truth) {
        if known.insert(image, pose(truth, particle)?).is_some() {
            return Err(Failure::input(anyhow!(
                "{}: image {} of {} is there twice; expected one pose an image",
                truth.path.display(),
                particle.image_index + 1,
                truth.stacks[particle.stack_index].name
            )));
        }
    }
    let mut poses = [Vec::new(), Vec::new()];
    for (image, particle) in images(particles) {
        if let Some(truth) = known.get(&image) {
            poses[0].push(pose(particles, particle)?);
            poses[1].push(*truth);
        }
    }
    if poses[0].is_empty() {
        return Err(Failure::input(anyhow!(
            "{} and {} have no image in common",
            particles.path.display(),
            truth.path.display()
        )));
    }
    Ok(poses)
}

/// Each particle with the file and the place its image is at, however either STAR file spells it.
fn images(set: &ParticleSet) -> impl Iterator<Item = ((PathBuf, usize), &Particle)> {
    let files: Vec<PathBuf> = set
        .stacks
        .iter()
        .map(|stack| fs::canonicalize(&stack.path).unwrap_or_else(|_| stack.path.clone()))
        .collect();
    set.particles.iter().map(move |particle| {
        (
            (files[particle.stack_index].clone(), particle.image_index),
            particle,
        )
    })
}

fn pose(set: &ParticleSet, particle: &Particle) -> Result<Pose, Failure> {
    let pose = particle.pose.ok_or_else(|| {
        Failure::input(anyhow!(
            "{}: the particles have no poses (rlnAngleRot and others)",
            set.path.display()
        ))
    })?;
    Ok(Pose {
        orientation: Rotation::from_euler_deg(pose.rot_deg, pose.tilt_deg, pose.psi_deg),
        shift_angstrom: pose.shift_angstrom,
    })
}
