//! Particle images out of a task's inputs, checked, and rid of what aberrations and magnification did to them.

use dewar_compute::{
    ctf::{Applied, CtfParams},
    optics::{Distortion, IDENTITY, Rectifier},
};
use dewar_formats::{check_image, mrc::Encoding};
use dewar_proto::em::v1;
use dewar_task::{Context, RunError};

/// Largest box a task may ask for: maps of it can be padded by a quarter, and it is far more than any particle.
const BOX_SIZE_PX_MAX: usize = 1024;

/// Distortions that are kept ready: the particles of a task are of few optics groups, and a resampler is large.
const RECTIFIERS_MAX: usize = 4;

/// Reads particles' pixels from the task's inputs.
pub struct ImageReader<'a> {
    context: &'a Context,
    geometries: Vec<(Encoding, u64)>,
    box_size_px: usize,
    pixel_size_angstrom: f64,
    /// Least recently made first.
    rectifiers: Vec<(Distortion, Rectifier)>,
}

impl<'a> ImageReader<'a> {
    /// For a task over images of these geometries, which must share one box and pixel size.
    ///
    /// # Errors
    /// If they do not, or an encoding is unknown.
    pub fn new(context: &'a Context, geometries: &[v1::ImageGeometry]) -> Result<Self, RunError> {
        let first = geometries
            .first()
            .ok_or_else(|| bad("geometries is empty; expected one for each stack"))?;
        let box_size_px = first.box_size_px as usize;
        if !(4..=BOX_SIZE_PX_MAX).contains(&box_size_px) || !box_size_px.is_multiple_of(2) {
            return Err(bad(format!(
                "box_size_px is {box_size_px}; expected an even number from 4 to {BOX_SIZE_PX_MAX}"
            )));
        }
        if !(first.pixel_size_angstrom > 0.0 && first.pixel_size_angstrom.is_finite()) {
            return Err(bad(format!(
                "pixel_size_angstrom is {}; expected a positive number",
                first.pixel_size_angstrom
            )));
        }
        let geometries = geometries
            .iter()
            .map(|geometry| {
                if geometry.box_size_px != first.box_size_px
                    || geometry.pixel_size_angstrom != first.pixel_size_angstrom
                {
                    return Err(bad("geometries differ in box or pixel size"));
                }
                let encoding = Encoding::from_code(geometry.mrc_encoding).ok_or_else(|| {
                    bad(format!("mrc_encoding {} is unknown", geometry.mrc_encoding))
                })?;
                Ok((
                    encoding,
                    (box_size_px * box_size_px * encoding.mode.value_bytes()) as u64,
                ))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            context,
            geometries,
            box_size_px,
            pixel_size_angstrom: first.pixel_size_angstrom,
            rectifiers: Vec::new(),
        })
    }

    /// Side of the images.
    pub fn box_size_px(&self) -> usize {
        self.box_size_px
    }

    /// Their pixel size.
    pub fn pixel_size_angstrom(&self) -> f64 {
        self.pixel_size_angstrom
    }

    /// Reads one particle's pixels, as perfect optics would have given them but for the CTF.
    ///
    /// # Errors
    /// If they are not among the inputs, or NaN or constant: that is the data's fault, and no retry helps.
    pub fn read(&mut self, particle: &v1::Particle, pixels: &mut [f32]) -> Result<(), RunError> {
        let number = particle.number;
        let (encoding, length) = *self
            .geometries
            .get(particle.geometry_index as usize)
            .ok_or_else(|| {
                bad(format!(
                    "particle {number}: geometry {} is missing",
                    particle.geometry_index
                ))
            })?;
        let bytes = self
            .context
            .input(particle.input_index as usize)?
            .read(particle.offset_bytes, length)?;
        encoding
            .decode(&bytes, pixels)
            .map_err(|error| bad(format!("particle {number}: {error}")))?;
        if let Some(problem) = check_image(pixels) {
            return Err(bad(format!("particle {number}: {problem}")));
        }
        self.rectify(particle, pixels)
    }

    fn rectify(&mut self, particle: &v1::Particle, pixels: &mut [f32]) -> Result<(), RunError> {
        let distortion = distortion(particle)?;
        if distortion.is_none() {
            return Ok(());
        }
        let known = |(known, _): &(Distortion, Rectifier)| *known == distortion;
        if !self.rectifiers.iter().any(known) {
            let made = Rectifier::new(self.box_size_px, self.pixel_size_angstrom, &distortion)
                .map_err(|error| bad(format!("particle {}: {error}", particle.number)))?;
            if self.rectifiers.len() == RECTIFIERS_MAX {
                self.rectifiers.remove(0);
            }
            self.rectifiers.push((distortion, made));
        }
        if let Some((_, rectifier)) = self.rectifiers.iter_mut().find(|entry| known(entry)) {
            rectifier.rectify(pixels);
        }
        Ok(())
    }
}

/// A particle's CTF.
///
/// # Errors
/// If it has none.
pub fn ctf_params(particle: &v1::Particle) -> Result<CtfParams, RunError> {
    let ctf = ctf(particle)?;
    // Images are not to be taken for raw because a later release knows more that can be done to them.
    let applied = match v1::CtfApplied::try_from(ctf.applied) {
        Ok(v1::CtfApplied::Unspecified) => Applied::Nothing,
        Ok(v1::CtfApplied::Phases) => Applied::Phases,
        Ok(v1::CtfApplied::Whole) => Applied::Whole,
        Err(_) => {
            return Err(bad(format!(
                "particle {}: ctf.applied {} is unknown",
                particle.number, ctf.applied
            )));
        }
    };
    Ok(CtfParams {
        defocus_u_angstrom: ctf.defocus_u_angstrom,
        defocus_v_angstrom: ctf.defocus_v_angstrom,
        defocus_angle_deg: ctf.defocus_angle_deg,
        voltage_kv: ctf.voltage_kv,
        spherical_aberration_mm: ctf.spherical_aberration_mm,
        amplitude_contrast: ctf.amplitude_contrast,
        phase_shift_deg: ctf.phase_shift_deg,
        b_factor_angstrom2: ctf.b_factor_angstrom2,
        scale: ctf.scale,
        even_zernike: zernike(particle, &ctf.even_zernike)?,
        applied,
    })
}

fn ctf(particle: &v1::Particle) -> Result<&v1::Ctf, RunError> {
    let missing = || bad(format!("particle {}: ctf is missing", particle.number));
    particle.ctf.as_ref().ok_or_else(missing)
}

fn distortion(particle: &v1::Particle) -> Result<Distortion, RunError> {
    let ctf = ctf(particle)?;
    let magnification = match ctf.magnification[..] {
        [] => IDENTITY,
        [m00, m01, m10, m11] => [[m00, m01], [m10, m11]],
        _ => {
            return Err(bad(format!(
                "particle {}: magnification has {} values; expected 4 or none",
                particle.number,
                ctf.magnification.len()
            )));
        }
    };
    Ok(Distortion {
        voltage_kv: ctf.voltage_kv,
        spherical_aberration_mm: ctf.spherical_aberration_mm,
        beam_tilt_mrad: [ctf.beam_tilt_x_mrad, ctf.beam_tilt_y_mrad],
        odd_zernike: zernike(particle, &ctf.odd_zernike)?,
        magnification,
    })
}

/// So many coefficients, or none at all for zeros.
fn zernike<const COUNT: usize>(
    particle: &v1::Particle,
    stated: &[f64],
) -> Result<[f64; COUNT], RunError> {
    if stated.is_empty() {
        return Ok([0.0; COUNT]);
    }
    stated.try_into().map_err(|_| {
        bad(format!(
            "particle {}: {} coefficients of aberrations; expected {COUNT} or none",
            particle.number,
            stated.len()
        ))
    })
}

/// The noise spectrum at `index`.
///
/// # Errors
/// If there is none.
pub fn noise(spectra: &[v1::NoiseSpectrum], index: u32) -> Result<&[f64], RunError> {
    spectra
        .get(index as usize)
        .map(|spectrum| spectrum.sigma2.as_slice())
        .ok_or_else(|| {
            bad(format!(
                "noise spectrum {index} is missing; there are {}",
                spectra.len()
            ))
        })
}

/// An error no retry helps with.
pub fn bad(message: impl Into<String>) -> RunError {
    RunError::BadInput(message.into())
}
