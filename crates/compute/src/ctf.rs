//! The contrast transfer function.
//!
//! C(s) = -sin(gamma(s)) e^(-B s²/4) scale, with underfocus positive and protein white:
//! gamma = -pi lambda Df s² + (pi/2) Cs lambda³ s⁴ - phase shift - asin(amplitude contrast), where Df varies with the
//! direction of s between the two defoci, and even aberrations are added. Spatial frequencies are in 1/Å.

use std::f64::consts::PI;

use thiserror::Error;

use crate::aberration::{Even, even_phase};
use crate::fft::{half_plane_len, signed_frequency};

/// What the microscope did to an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CtfParams {
    /// Defocus along `defocus_angle_deg`, in Å; underfocus is positive.
    pub defocus_u_angstrom: f64,
    /// Defocus across it, in Å.
    pub defocus_v_angstrom: f64,
    /// The direction of `defocus_u_angstrom`, in degrees from x towards y.
    pub defocus_angle_deg: f64,
    /// Acceleration voltage, in kV.
    pub voltage_kv: f64,
    /// Spherical aberration, in mm.
    pub spherical_aberration_mm: f64,
    /// The part of the contrast that amplitude gives, from 0 to 1.
    pub amplitude_contrast: f64,
    /// What a phase plate adds, in degrees.
    pub phase_shift_deg: f64,
    /// The envelope e^(-B s²/4), in Å².
    pub b_factor_angstrom2: f64,
    /// A factor on the whole.
    pub scale: f64,
    /// Even aberrations ([`crate::aberration`]).
    pub even_zernike: Even,
    /// What someone has done to the image about it.
    pub applied: Applied,
}

/// What has been done to an image about its CTF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Applied {
    /// It is as the microscope gave it: C P and noise.
    #[default]
    Nothing,
    /// Its phases were flipped where C is negative: |C| P and noise.
    Phases,
    /// It was multiplied by C, noise and all: C² P and C times the noise.
    Whole,
}

impl Default for CtfParams {
    /// 300 kV, Cs 2.7 mm, amplitude contrast 0.1, in focus.
    fn default() -> Self {
        Self {
            defocus_u_angstrom: 0.0,
            defocus_v_angstrom: 0.0,
            defocus_angle_deg: 0.0,
            voltage_kv: 300.0,
            spherical_aberration_mm: 2.7,
            amplitude_contrast: 0.1,
            phase_shift_deg: 0.0,
            b_factor_angstrom2: 0.0,
            scale: 1.0,
            even_zernike: Even::default(),
            applied: Applied::Nothing,
        }
    }
}

/// Why parameters describe no CTF.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CtfError {
    /// A parameter is infinite or not a number.
    #[error("{name} is {value}, expected a finite number")]
    NotFinite {
        /// Which.
        name: &'static str,
        /// What it is.
        value: f64,
    },
    /// The voltage is not that of an electron microscope.
    #[error("voltage is {0} kV, expected 10 to 3000 kV (a value in volts?)")]
    Voltage(f64),
    /// The amplitude contrast is no fraction.
    #[error("amplitude contrast is {0}, expected 0 to 1")]
    AmplitudeContrast(f64),
}

/// The CTF of one image, ready to evaluate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ctf {
    /// Half the sum and half the difference of the defoci times -pi lambda, the latter by its direction's 2-fold
    /// cosine and sine: gamma's s² part is then a quadratic form, without an arctangent.
    mean: f64,
    astigmatism_cos: f64,
    astigmatism_sin: f64,
    /// gamma's s⁴ coefficient.
    aberration: f64,
    /// gamma at s = 0.
    offset: f64,
    b_factor_quarter: f64,
    scale: f64,
    /// None where all are 0, as with most microscopes.
    even_zernike: Option<Even>,
    applied: Applied,
}

impl Ctf {
    /// Checks the parameters.
    pub fn new(params: &CtfParams) -> Result<Self, CtfError> {
        params.check()?;
        let lambda = electron_wavelength_angstrom(params.voltage_kv);
        let aberration_angstrom = params.spherical_aberration_mm * 1e7;
        let factor = -PI * lambda / 2.0;
        let difference = factor * (params.defocus_u_angstrom - params.defocus_v_angstrom);
        let (sin, cos) = libm::sincos(2.0 * params.defocus_angle_deg.to_radians());
        Ok(Self {
            mean: factor * (params.defocus_u_angstrom + params.defocus_v_angstrom),
            astigmatism_cos: difference * cos,
            astigmatism_sin: difference * sin,
            aberration: PI / 2.0 * aberration_angstrom * lambda * lambda * lambda,
            offset: -params.phase_shift_deg.to_radians() - libm::asin(params.amplitude_contrast),
            b_factor_quarter: params.b_factor_angstrom2 / 4.0,
            scale: params.scale,
            even_zernike: (params.even_zernike != Even::default()).then_some(params.even_zernike),
            applied: params.applied,
        })
    }

    /// What the data's part of a score or of a sum is multiplied by where the CTF is `value`: that, once.
    pub fn data_factor(&self, value: f32) -> f32 {
        match self.applied {
            Applied::Nothing | Applied::Phases => value,
            Applied::Whole => 1.0,
        }
    }

    /// What a projection is multiplied by to look like the image, where the CTF is `value`.
    pub fn model_factor(&self, value: f32) -> f32 {
        match self.applied {
            Applied::Nothing | Applied::Phases => value,
            Applied::Whole => value * value,
        }
    }

    /// What was done to the image.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// The CTF at spatial frequency (`sx`, `sy`) in 1/Å; its magnitude where phases were flipped.
    pub fn value(&self, sx: f64, sy: f64) -> f64 {
        let (x2, y2) = (sx * sx, sy * sy);
        let s2 = x2 + y2;
        let defocus = self.mean * s2
            + self.astigmatism_cos * (x2 - y2)
            + self.astigmatism_sin * (2.0 * sx * sy);
        let gamma = defocus + self.aberration * (s2 * s2) + self.offset;
        let gamma = match &self.even_zernike {
            Some(even) => gamma + even_phase(even, sx, sy),
            None => gamma,
        };
        let envelope = if self.b_factor_quarter == 0.0 {
            1.0
        } else {
            libm::exp(-self.b_factor_quarter * s2)
        };
        let value = -libm::sin(gamma) * envelope * self.scale;
        match self.applied {
            Applied::Nothing | Applied::Whole => value,
            Applied::Phases => value.abs(),
        }
    }

    /// The CTF on the half-plane (see [`crate::fft`]) of images of `n` pixels of `pixel_size_angstrom`.
    ///
    /// # Panics
    /// If `out` is not a half-plane of box `n`.
    pub fn fill_half_plane(&self, n: usize, pixel_size_angstrom: f64, out: &mut [f32]) {
        assert_eq!(out.len(), half_plane_len(n), "half-plane");
        let step = 1.0 / (n as f64 * pixel_size_angstrom);
        for (row, values) in out.chunks_exact_mut(n / 2 + 1).enumerate() {
            let sy = signed_frequency(row, n) as f64 * step;
            for (kx, value) in values.iter_mut().enumerate() {
                *value = self.value(kx as f64 * step, sy) as f32;
            }
        }
    }
}

impl CtfParams {
    fn check(&self) -> Result<(), CtfError> {
        let fields = [
            ("defocus u", self.defocus_u_angstrom),
            ("defocus v", self.defocus_v_angstrom),
            ("defocus angle", self.defocus_angle_deg),
            ("voltage", self.voltage_kv),
            ("spherical aberration", self.spherical_aberration_mm),
            ("amplitude contrast", self.amplitude_contrast),
            ("phase shift", self.phase_shift_deg),
            ("B factor", self.b_factor_angstrom2),
            ("CTF scale", self.scale),
        ];
        let even = self.even_zernike.map(|value| ("even aberration", value));
        let mut fields = fields.iter().chain(&even);
        if let Some(&(name, value)) = fields.find(|(_, value)| !value.is_finite()) {
            return Err(CtfError::NotFinite { name, value });
        }
        if !(10.0..=3000.0).contains(&self.voltage_kv) {
            return Err(CtfError::Voltage(self.voltage_kv));
        }
        if !(0.0..=1.0).contains(&self.amplitude_contrast) {
            return Err(CtfError::AmplitudeContrast(self.amplitude_contrast));
        }
        Ok(())
    }
}

/// The relativistic wavelength of electrons accelerated by `voltage_kv`, in Å.
pub fn electron_wavelength_angstrom(voltage_kv: f64) -> f64 {
    let volts = voltage_kv * 1e3;
    12.264_324_7 / libm::sqrt(volts * (1.0 + 0.978_466e-6 * volts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wavelengths_are_the_published_ones() {
        for (kv, angstrom) in [(100.0, 0.037_014), (200.0, 0.025_079), (300.0, 0.019_687)] {
            assert!(
                (electron_wavelength_angstrom(kv) - angstrom).abs() < 1e-6,
                "{kv} kV"
            );
        }
    }

    #[test]
    fn at_zero_frequency_only_amplitude_contrast_is_left() {
        let ctf = Ctf::new(&CtfParams {
            defocus_u_angstrom: 2e4,
            ..CtfParams::default()
        })
        .unwrap();
        assert!((ctf.value(0.0, 0.0) - 0.1).abs() < 1e-12);
        let plate = CtfParams {
            phase_shift_deg: 90.0,
            amplitude_contrast: 0.0,
            ..CtfParams::default()
        };
        assert!((Ctf::new(&plate).unwrap().value(0.0, 0.0) - 1.0).abs() < 1e-12);
    }

    /// The formula as it is printed, angle and all.
    fn by_the_formula(p: &CtfParams, sx: f64, sy: f64) -> f64 {
        let lambda = electron_wavelength_angstrom(p.voltage_kv);
        let angle = sy.atan2(sx) - p.defocus_angle_deg.to_radians();
        let defocus = (p.defocus_u_angstrom + p.defocus_v_angstrom) / 2.0
            + (p.defocus_u_angstrom - p.defocus_v_angstrom) / 2.0 * (2.0 * angle).cos();
        let s2 = sx * sx + sy * sy;
        let gamma = -PI * lambda * defocus * s2
            + PI / 2.0 * p.spherical_aberration_mm * 1e7 * lambda.powi(3) * s2 * s2
            - p.phase_shift_deg.to_radians()
            - p.amplitude_contrast.asin();
        -gamma.sin() * (-p.b_factor_angstrom2 * s2 / 4.0).exp() * p.scale
    }

    #[test]
    fn agrees_with_the_formula() {
        let params = CtfParams {
            defocus_u_angstrom: 15_300.0,
            defocus_v_angstrom: 14_200.0,
            defocus_angle_deg: 33.0,
            amplitude_contrast: 0.07,
            phase_shift_deg: 20.0,
            b_factor_angstrom2: 50.0,
            scale: 0.9,
            ..CtfParams::default()
        };
        let ctf = Ctf::new(&params).unwrap();
        let (n, pixel) = (32, 1.7);
        let mut grid = vec![0.0; half_plane_len(n)];
        ctf.fill_half_plane(n, pixel, &mut grid);
        for (index, value) in grid.iter().enumerate() {
            let sx = (index % 17) as f64 / (n as f64 * pixel);
            let sy = signed_frequency(index / 17, n) as f64 / (n as f64 * pixel);
            let expected = by_the_formula(&params, sx, sy);
            assert!((ctf.value(sx, sy) - expected).abs() < 1e-9);
            assert!((f64::from(*value) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn a_value_worked_out_by_hand() {
        // 300 kV, 1 um under focus, no aberration nor amplitude contrast, at 10 Å:
        // gamma = -pi * 0.0196875 * 10000 * 0.01 = -6.1850; C = -sin(gamma) = -0.0982, and 3e-4 for each 1e-6 Å of wavelength.
        let params = CtfParams {
            defocus_u_angstrom: 1e4,
            defocus_v_angstrom: 1e4,
            spherical_aberration_mm: 0.0,
            amplitude_contrast: 0.0,
            ..CtfParams::default()
        };
        assert!((Ctf::new(&params).unwrap().value(0.1, 0.0) + 0.098_1).abs() < 2e-4);
    }

    #[test]
    fn flipped_phases_leave_magnitudes() {
        let raw = CtfParams {
            defocus_u_angstrom: 15_300.0,
            defocus_v_angstrom: 14_200.0,
            ..CtfParams::default()
        };
        let of = |applied| Ctf::new(&CtfParams { applied, ..raw }).unwrap();
        let mut negative_count = 0;
        for s in (0..100).map(|i| f64::from(i) * 2e-3) {
            let value = of(Applied::Nothing).value(s, s / 2.0);
            negative_count += usize::from(value < 0.0);
            assert_eq!(of(Applied::Phases).value(s, s / 2.0), value.abs());
            assert_eq!(of(Applied::Whole).value(s, s / 2.0), value);
        }
        assert!(negative_count > 20);
        assert_eq!(of(Applied::Phases).data_factor(0.25), 0.25);
        assert_eq!(of(Applied::Whole).data_factor(0.25), 1.0);
        assert_eq!(of(Applied::Whole).model_factor(0.25), 0.0625);
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = |params: CtfParams| Ctf::new(&params).unwrap_err();
        assert_eq!(
            bad(CtfParams {
                voltage_kv: 300_000.0,
                ..CtfParams::default()
            }),
            CtfError::Voltage(300_000.0)
        );
        assert_eq!(
            bad(CtfParams {
                amplitude_contrast: -1.0,
                ..CtfParams::default()
            }),
            CtfError::AmplitudeContrast(-1.0)
        );
        let nan = bad(CtfParams {
            defocus_v_angstrom: f64::NAN,
            ..CtfParams::default()
        });
        assert!(matches!(
            nan,
            CtfError::NotFinite {
                name: "defocus v",
                ..
            }
        ));
    }
}
