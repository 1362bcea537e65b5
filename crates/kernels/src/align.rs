//! `em.align/3`: the poses of a block of particles against one reference.

use crate::{
    Align,
    images::{ImageReader, bad, ctf_params, noise},
    poses::{orientation, poses, shift_px},
    reference::Reference,
};
use dewar_compute::{
    orientation::Rotation,
    search::{
        Alignment, Mode, ParticleImage, ScoreMode, Search, SearchError, SearchSettings, Start,
        Trust,
    },
    symmetry::PointGroup,
};
use dewar_proto::em::v1;
use dewar_task::{Context, Kernel, Product, RunError, instruction_class};

/// HEALPix order of the global search: 7.5 degrees. From there poses climb.
const GLOBAL_ORDER: u32 = 3;

/// Orientations of the global search that are followed further.
const CANDIDATES: usize = 12;

/// Step of the global search's shifts, where they reach no farther than [`SHIFT_STEPS_MAX`] of it.
const SHIFT_STEP_PX: f64 = 1.5;

/// Steps from the centre to the largest shift: small pixels get larger steps rather than a search without end.
const SHIFT_STEPS_MAX: f64 = 12.0;

impl Kernel for Align {
    fn run(
        &self,
        parameters: v1::AlignParameters,
        context: &Context,
    ) -> Result<Product<v1::AlignOutput>, RunError> {
        let mut images = ImageReader::new(context, &parameters.geometries)?;
        let settings = settings(&parameters, &images)?;
        let group: PointGroup = parameters
            .symmetry
            .parse()
            .map_err(|error| bad(format!("symmetry: {error}")))?;
        let reference = Reference::of(context.input(0)?, images.box_size_px(), &group, &settings)?;
        context.check()?;

        let shell_count = images.box_size_px() / 2 + 1;
        let mut output = v1::AlignOutput {
            poses: vec![v1::AlignedPose::default(); parameters.particles.len()],
            residuals: vec![
                v1::ResidualPower {
                    power: vec![0.0; shell_count],
                    count: vec![0.0; shell_count]
                };
                parameters.noise.len()
            ],
            instruction_class: instruction_class().to_owned(),
        };
        let mut done = 0;
        let mut pixels = vec![0.0; images.box_size_px() * images.box_size_px()];
        for (noise_index, residual) in (0..).zip(&mut output.residuals) {
            let mut of_group = parameters
                .particles
                .iter()
                .enumerate()
                .filter(|(_, particle)| particle.noise_index == noise_index)
                .peekable();
            if of_group.peek().is_none() {
                continue;
            }
            let sigma2 = noise(&parameters.noise, noise_index)?;
            let mut search = Search::new(&reference.bank, &reference.projector, sigma2)
                .map_err(|error| bad(error.to_string()))?;
            for (index, particle) in of_group {
                images.read(particle, &mut pixels)?;
                let known = starts(particle, images.pixel_size_angstrom())?;
                let image = ParticleImage {
                    pixels: &pixels,
                    ctf: ctf_params(particle)?,
                    prior_shift_px: known.first().map_or([0.0; 2], |best| best.shift_px),
                    starts: if parameters.local { &known } else { &[] },
                };
                let found = search
                    .run(&[image], &mut || context.check().is_ok())
                    .map_err(|error| of_particle(particle.number, &error))?;
                let found = found
                    .first()
                    .ok_or_else(|| RunError::Kernel("a search gave no result".to_owned()))?;
                output.poses[index] = to_wire(found, images.pixel_size_angstrom());
                add_residual(residual, found);
                done += 1;
                context.set_progress(done as f32 / parameters.particles.len() as f32);
            }
        }
        if done != parameters.particles.len() {
            return Err(bad("a particle's noise spectrum is missing"));
        }
        Ok(output.into())
    }
}

fn settings(
    parameters: &v1::AlignParameters,
    images: &ImageReader<'_>,
) -> Result<SearchSettings, RunError> {
    let k_limit = (images.box_size_px() - 1) / 2;
    let k_max = parameters.shell_max as usize;
    if !(1..=k_limit).contains(&k_max) {
        return Err(bad(format!(
            "shell_max is {k_max}; expected 1 to {k_limit}"
        )));
    }
    let mode = match parameters.score_mode() {
        v1::ScoreMode::Likelihood => ScoreMode::Likelihood,
        v1::ScoreMode::ScaleFree => ScoreMode::ScaleFree,
        v1::ScoreMode::Unspecified => return Err(bad("score_mode is missing")),
    };
    let max_shift_px = parameters.shift_max_angstrom / images.pixel_size_angstrom();
    if !(0.0..=images.box_size_px() as f64 / 2.0).contains(&max_shift_px) {
        return Err(bad(format!(
            "shift_max_angstrom is {}; expected 0 to half the box",
            parameters.shift_max_angstrom
        )));
    }
    Ok(SearchSettings {
        pixel_size_angstrom: images.pixel_size_angstrom(),
        mask_diameter_angstrom: parameters.mask_diameter_angstrom,
        k_max,
        max_shift_px,
        shift_step_px: SHIFT_STEP_PX.max(max_shift_px / SHIFT_STEPS_MAX),
        order: GLOBAL_ORDER,
        candidate_count: CANDIDATES,
        mode,
        trust: if parameters.trust_every_pixel {
            Trust::EveryPixel
        } else {
            Trust::Independent
        },
    })
}

/// Where a particle was found before, best first.
fn starts(particle: &v1::Particle, pixel_size_angstrom: f64) -> Result<Vec<Start>, RunError> {
    let poses = poses(particle)?.into_iter();
    Ok(poses
        .map(|(pose, _)| Start {
            orientation: orientation(&pose),
            shift_px: shift_px(&pose, pixel_size_angstrom),
        })
        .collect())
}

fn of_particle(number: u64, error: &SearchError) -> RunError {
    match error {
        SearchError::Cancelled => RunError::Cancelled,
        error => bad(format!("particle {number}: {error}")),
    }
}

fn to_wire(found: &Alignment, pixel_size_angstrom: f64) -> v1::AlignedPose {
    let pose = |orientation: &Rotation, shift_px: [f64; 2]| {
        let [rot_deg, tilt_deg, psi_deg] = orientation.to_euler_deg();
        let [shift_x_angstrom, shift_y_angstrom] = shift_px.map(|px| px * pixel_size_angstrom);
        Some(v1::Pose {
            rot_deg,
            tilt_deg,
            psi_deg,
            shift_x_angstrom,
            shift_y_angstrom,
        })
    };
    let mut modes: Vec<v1::PoseMode> = found
        .modes
        .iter()
        .map(|mode| v1::PoseMode {
            pose: pose(&mode.orientation, mode.shift_px),
            weight: mode.weight,
        })
        .collect();
    if modes.is_empty() {
        modes.push(v1::PoseMode {
            pose: pose(&found.orientation, found.shift_px),
            weight: 1.0,
        });
    }
    let (angle_sd, shift_sd) = found
        .modes
        .first()
        .map_or((0.0, 0.0), Mode::worst_deviations);
    v1::AlignedPose {
        log_likelihood: found.score,
        scale: found.scale,
        modes,
        angle_sd_deg: angle_sd.to_degrees(),
        shift_sd_angstrom: shift_sd * pixel_size_angstrom,
        covariance: found
            .modes
            .first()
            .map_or_else(Vec::new, |mode| covariance(mode, pixel_size_angstrom)),
    }
}

/// The upper triangle of a mode's covariance, in degrees and angstrom.
fn covariance(mode: &Mode, pixel_size_angstrom: f64) -> Vec<f64> {
    let unit = |axis: usize| match axis {
        0..3 => 1_f64.to_degrees(),
        _ => pixel_size_angstrom,
    };
    (0..5)
        .flat_map(|row| (row..5).map(move |column| (row, column)))
        .map(|at| mode.covariance[at] * unit(at.0) * unit(at.1))
        .collect()
}

fn add_residual(residual: &mut v1::ResidualPower, found: &Alignment) {
    let sums = residual.power.iter_mut().zip(&found.residual_power);
    let counts = residual.count.iter_mut().zip(&found.residual_count);
    for ((sum, power), (count, of_shell)) in sums.zip(counts) {
        *sum += power;
        *count += of_shell;
    }
}
