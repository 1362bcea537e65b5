//! `em.insert/3`: a shard of posed particles into partial sums.

use crate::{
    Insert,
    images::{ImageReader, bad, ctf_params, noise},
    poses::{orientation, poses, shift_px},
};
use dewar_compute::{
    ctf::{Applied, Ctf},
    fft::{RealFft2, half_plane_len},
    reconstruct::{Accumulator, GridShape, Insertion},
};
use dewar_proto::em::v1;
use dewar_task::{Context, Kernel, Product, RunError, instruction_class};
use num_complex::Complex32;

impl Kernel for Insert {
    fn run(
        &self,
        parameters: v1::InsertParameters,
        context: &Context,
    ) -> Result<Product<v1::InsertOutput>, RunError> {
        let mut images = ImageReader::new(context, &parameters.geometries)?;
        let n = images.box_size_px();
        // As far as the box goes on every side: how much of it is signal is for the FSC to say.
        let shape = GridShape::new(n, n / 2 - 1, parameters.padding)
            .map_err(|error| bad(error.to_string()))?;
        let weights = inverse_noise(&parameters.noise, n / 2)?;
        let mut fft = RealFft2::new(n).map_err(|error| bad(error.to_string()))?;
        let mut sums = Accumulator::new(shape);
        let mut pixels = vec![0.0; n * n];
        let mut image = vec![Complex32::ZERO; half_plane_len(n)];
        let mut ctf = vec![0.0; half_plane_len(n)];
        for (done, particle) in (1_u32..).zip(&parameters.particles) {
            context.check()?;
            images.read(particle, &mut pixels)?;
            noise(&parameters.noise, particle.noise_index)?;
            fft.forward(&pixels, &mut image);
            let params = ctf_params(particle)?;
            Ctf::new(&params)
                .map_err(|error| bad(format!("particle {}: {error}", particle.number)))?
                .fill_half_plane(n, images.pixel_size_angstrom(), &mut ctf);
            let poses = poses(particle)?;
            if poses.is_empty() {
                return Err(bad(format!("particle {}: it has no pose", particle.number)));
            }
            for (pose, weight) in poses {
                sums.insert(&Insertion {
                    image: &image,
                    ctf: &ctf,
                    is_multiplied: params.applied == Applied::Whole,
                    inverse_sigma2: &weights[particle.noise_index as usize],
                    rotation: &orientation(&pose),
                    shift_px: shift_px(&pose, images.pixel_size_angstrom()),
                    weight: weight as f32,
                });
            }
            context.set_progress(done as f32 / parameters.particles.len() as f32);
        }
        Ok(Product {
            message: v1::InsertOutput {
                particle_count: parameters.particles.len() as u32,
                instruction_class: instruction_class().to_owned(),
            },
            blobs: vec![sums.to_bytes().into()],
        })
    }
}

fn inverse_noise(
    spectra: &[v1::NoiseSpectrum],
    shell_max: usize,
) -> Result<Vec<Vec<f32>>, RunError> {
    (0..)
        .zip(spectra)
        .map(|(index, spectrum): (usize, _)| {
            let sigma2 = &spectrum.sigma2;
            let is_usable = sigma2.len() > shell_max
                && sigma2.iter().all(|value| *value > 0.0 && value.is_finite());
            if !is_usable {
                return Err(bad(format!(
                    "noise spectrum {index} needs positive values for shells 0 to {shell_max}"
                )));
            }
            Ok(sigma2.iter().map(|value| (1.0 / value) as f32).collect())
        })
        .collect()
}
