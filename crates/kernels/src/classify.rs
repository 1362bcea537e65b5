//! `em.classify/1`: a block of particles against all 2-D classes, and what it adds to their averages.

use crate::{
    Classify,
    images::{ImageReader, bad, ctf_params, noise},
};
use dewar_compute::search::{
    ClassGrid, ClassReferences, ClassSettings, ClassSums, Classified, Classifier, SearchError,
};
use dewar_proto::em::v1;
use dewar_task::{Context, InputBytes, Kernel, Product, RunError};
use num_complex::Complex32;

/// More classes than anyone looks at; their scores would need gigabytes of scratch.
const CLASS_COUNT_MAX: u32 = 1000;

impl Kernel for Classify {
    fn run(
        &self,
        parameters: v1::ClassifyParameters,
        context: &Context,
    ) -> Result<Product<v1::ClassifyOutput>, RunError> {
        let mut images = ImageReader::new(context, &parameters.geometries)?;
        let grid = grid(&parameters, &images)?;
        let class_count = parameters.class_count as usize;
        let references = match parameters.seeds.len() {
            0 => Some(references(&grid, class_count, context.input(0)?)?),
            count if count == parameters.particles.len() => None,
            count => {
                return Err(bad(format!(
                    "there are {count} seeds; expected one for each particle"
                )));
            }
        };
        let mut classifier = Classifier::new(&grid).map_err(|error| bad(error.to_string()))?;
        let mut sums = ClassSums::new(&grid, class_count);
        let mut output = empty_output(&parameters, images.box_size_px());
        let mut pixels = vec![0.0; images.box_size_px() * images.box_size_px()];
        for (at, particle) in parameters.particles.iter().enumerate() {
            context.check()?;
            images.read(particle, &mut pixels)?;
            let (ctf, sigma2) = (
                ctf_params(particle)?,
                noise(&parameters.noise, particle.noise_index)?,
            );
            let found = match (&references, parameters.seeds.get(at)) {
                (Some(references), _) => {
                    classifier.classify(&pixels, &ctf, sigma2, references, &mut sums)
                }
                (None, seed) => {
                    let seed = seed.copied().unwrap_or_default();
                    let place = [seed.class_index as usize, seed.angle as usize];
                    classifier.put(&pixels, &ctf, sigma2, place, &mut sums)
                }
            };
            let found = found.map_err(|error| of_particle(particle.number, &error))?;
            output
                .particles
                .push(to_wire(&found, images.pixel_size_angstrom()));
            add(&mut output.class_weights, &found.class_weights);
            let residual = &mut output.residuals[particle.noise_index as usize];
            add(&mut residual.power, &found.residual_power);
            add(&mut residual.count, &found.residual_count);
            context.set_progress((at + 1) as f32 / parameters.particles.len() as f32);
        }
        Ok(Product {
            message: output,
            blobs: vec![sums.to_bytes().into()],
        })
    }
}

fn grid(
    parameters: &v1::ClassifyParameters,
    images: &ImageReader<'_>,
) -> Result<ClassGrid, RunError> {
    if !(1..=CLASS_COUNT_MAX).contains(&parameters.class_count) {
        return Err(bad(format!(
            "class_count is {}; expected 1 to {CLASS_COUNT_MAX}",
            parameters.class_count
        )));
    }
    let settings = ClassSettings {
        box_size_px: images.box_size_px(),
        pixel_size_angstrom: images.pixel_size_angstrom(),
        mask_diameter_angstrom: parameters.mask_diameter_angstrom,
        max_shift_px: parameters.shift_max_angstrom / images.pixel_size_angstrom(),
        k_max: parameters.shell_max as usize,
    };
    ClassGrid::new(&settings).map_err(|error| bad(error.to_string()))
}

fn references(
    grid: &ClassGrid,
    class_count: usize,
    input: &InputBytes,
) -> Result<ClassReferences, RunError> {
    let bytes = input.read_all()?;
    let expected = 8 * class_count * grid.sample_count();
    if bytes.len() != expected {
        return Err(bad(format!(
            "the references have {} bytes; expected {expected}",
            bytes.len()
        )));
    }
    let number = |bytes: [u8; 4]| f32::from_le_bytes(bytes);
    let samples: Vec<Complex32> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|[a, b, c, d, e, f, g, h]| {
            Complex32::new(number([*a, *b, *c, *d]), number([*e, *f, *g, *h]))
        })
        .collect();
    if samples.iter().any(|value| !value.is_finite()) {
        return Err(bad("the references are not finite"));
    }
    Ok(ClassReferences::new(grid, &samples))
}

fn empty_output(parameters: &v1::ClassifyParameters, box_size_px: usize) -> v1::ClassifyOutput {
    let shell_count = box_size_px / 2 + 1;
    let residual = v1::ResidualPower {
        power: vec![0.0; shell_count],
        count: vec![0.0; shell_count],
    };
    v1::ClassifyOutput {
        particles: Vec::with_capacity(parameters.particles.len()),
        class_weights: vec![0.0; parameters.class_count as usize],
        residuals: vec![residual; parameters.noise.len()],
    }
}

fn to_wire(found: &Classified, pixel_size_angstrom: f64) -> v1::ClassifiedParticle {
    let [shift_x_angstrom, shift_y_angstrom] =
        found.best.shift_px.map(|px| px * pixel_size_angstrom);
    v1::ClassifiedParticle {
        class_index: found.best.class as u32,
        psi_deg: found.best.psi_deg,
        shift_x_angstrom,
        shift_y_angstrom,
        weight: found.weight,
        class_weight: found.class_weights[found.best.class],
    }
}

fn add(sums: &mut [f64], values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

fn of_particle(number: u64, error: &SearchError) -> RunError {
    bad(format!("particle {number}: {error}"))
}
