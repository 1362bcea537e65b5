//! Some particles, and what the map looks like from where they were found: both as workers compare them, rid of tilt and
//! magnification, the CTF in them as often as it is in the image.

use super::Source;
use crate::{error::RefineError, input::ctf_params, pose::PoseRecord};
use dewar_compute::{
    ctf::Ctf,
    fft::{RealFft2, crop_half_plane, half_plane_len, shift_half_plane, signed_frequency},
    filter,
    optics::{Distortion, IDENTITY, Rectifier},
    projector::Projector,
    volume::Volume,
};
use dewar_formats::particles::{Particle, ParticleSet};
use dewar_report::{Grey, ParticleView};
use num_complex::Complex32;

/// How many.
const COUNT: usize = 12;

/// The side they are shown at: enough to see a shape, and the map's transform at that size takes no time.
const SIDE_PX_MAX: usize = 96;

/// Padding of the map's transform.
const PADDING: f64 = 2.0;

/// Finer detail is noise in any one particle.
const FINEST_ANGSTROM: f64 = 20.0;

/// Particles spread evenly over the file, each with its reprojection.
///
/// # Errors
/// If an image cannot be read, or the map cannot be projected.
pub fn views(source: &Source<'_>, map: &Volume) -> Result<Vec<ParticleView>, RefineError> {
    let count = source.state.poses.len();
    let shown = COUNT.min(count);
    let mut stand = Stand::new(source, map)?;
    (0..shown)
        .map(|at| (2 * at + 1) * count / (2 * shown))
        .map(|index| stand.view(&source.prepared.set, index, &source.state.poses[index]))
        .collect()
}

/// What all pairs share.
struct Stand {
    /// The side of the images, and that of the views.
    n: usize,
    side: usize,
    pixel_size_angstrom: f64,
    projector: Projector,
    from: RealFft2,
    to: RealFft2,
    /// By Fourier pixel, what noise is filtered off with.
    pass: Vec<f32>,
    pixels: Vec<f32>,
    whole: Vec<Complex32>,
    half: Vec<Complex32>,
    ctf: Vec<f32>,
}

impl Stand {
    fn new(source: &Source<'_>, map: &Volume) -> Result<Self, RefineError> {
        let n = source.prepared.set.box_size_px;
        let side = n.min(SIDE_PX_MAX);
        let map = filter::resampled(map, side).map_err(odd)?;
        let resolution = source.state.rounds.last();
        let resolution = resolution.map_or(0.0, |round| round.resolution_angstrom);
        let shell = source.box_angstrom() / resolution.max(FINEST_ANGSTROM);
        Ok(Self {
            n,
            side,
            pixel_size_angstrom: source.box_angstrom() / side as f64,
            projector: Projector::new(&map, ((side - 1) / 2).max(1), PADDING).map_err(odd)?,
            from: RealFft2::new(n).map_err(odd)?,
            to: RealFft2::new(side).map_err(odd)?,
            pass: low_pass(side, shell),
            pixels: vec![0.0; n * n],
            whole: vec![Complex32::ZERO; half_plane_len(n)],
            half: vec![Complex32::ZERO; half_plane_len(side)],
            ctf: vec![0.0; half_plane_len(side)],
        })
    }

    fn view(
        &mut self,
        set: &ParticleSet,
        index: usize,
        pose: &PoseRecord,
    ) -> Result<ParticleView, RefineError> {
        let particle = &set.particles[index];
        let stack = set.stacks[particle.stack_index].open()?;
        stack.read_section(particle.image_index, &mut self.pixels)?;
        self.rectify(set, particle)?;
        self.from.forward(&self.pixels, &mut self.whole);
        crop_half_plane(&self.whole, self.n, &mut self.half, self.side);
        let shown = self.filtered()?;

        let transfer = Ctf::new(&ctf_params(set, particle)).map_err(odd)?;
        let limit = self.projector.k_max();
        self.projector
            .slice(&pose.orientation(), self.side, limit, &mut self.half);
        transfer.fill_half_plane(self.side, self.pixel_size_angstrom, &mut self.ctf);
        for (value, ctf) in self.half.iter_mut().zip(&self.ctf) {
            *value *= transfer.model_factor(*ctf);
        }
        // The shift is what centres the particle: it lies displaced by the opposite.
        let best = pose.best();
        let displaced = best
            .shift_angstrom
            .map(|shift| -shift / self.pixel_size_angstrom);
        shift_half_plane(&mut self.half, self.side, displaced);
        Ok(ParticleView {
            number: index + 1,
            particle: shown,
            reprojection: self.filtered()?,
            weight: best.weight,
        })
    }

    /// Undoes beam tilt and magnification, as workers do before they look at an image.
    fn rectify(&mut self, set: &ParticleSet, particle: &Particle) -> Result<(), RefineError> {
        let optics = &set.optics[particle.optics_index];
        let distortion = Distortion {
            voltage_kv: optics.voltage_kv,
            spherical_aberration_mm: optics.spherical_aberration_mm,
            beam_tilt_mrad: optics.beam_tilt_mrad,
            odd_zernike: optics.odd_zernike,
            magnification: optics.magnification.unwrap_or(IDENTITY),
        };
        if !distortion.is_none() {
            Rectifier::new(self.n, set.pixel_size_angstrom, &distortion)
                .map_err(odd)?
                .rectify(&mut self.pixels);
        }
        Ok(())
    }

    /// The transform at hand as a picture.
    fn filtered(&mut self) -> Result<Grey, RefineError> {
        for (value, pass) in self.half.iter_mut().zip(&self.pass) {
            *value *= *pass;
        }
        let mut image = vec![0.0; self.side * self.side];
        self.to.inverse(&self.half, &mut image);
        Grey::new(self.side, image).map_err(odd)
    }
}

/// Everything below a shell, and softly less beyond (Butterworth); without the mean, which contrast has no use for.
fn low_pass(side: usize, shell: f64) -> Vec<f32> {
    let row = side / 2 + 1;
    let mut pass = Vec::with_capacity(side * row);
    for line in 0..side {
        let ky = signed_frequency(line, side) as f64;
        pass.extend((0..row).map(|kx| {
            let part = (kx as f64).hypot(ky) / shell;
            (1.0 / (1.0 + part.powi(8))) as f32
        }));
    }
    pass[0] = 0.0;
    pass
}

fn odd(problem: impl ToString) -> RefineError {
    RefineError::Output(format!("reprojections: {}", problem.to_string()))
}
