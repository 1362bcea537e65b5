//! Images that the optics or someone's CTF correction changed: the kernels make of them what they make of plain ones.

use bytes::Bytes;
use dewar_compute::{
    ctf::{Ctf, CtfParams},
    fft::{RealFft2, half_plane_len, signed_frequency},
    fsc,
    optics::{Distortion, IDENTITY, Rectifier},
    phantom::Phantom,
    reconstruct::{Accumulator, Prior, Sums},
    simulate::{SimulatedParticle, Simulation, SimulationParams},
    volume::Volume,
};
use dewar_formats::mrc::{Encoding, Mode};
use dewar_kernels::{Align, Insert, registry};
use dewar_proto::em::v1;
use dewar_task::{Context, InputBytes, RunError, TaskKind};
use num_complex::Complex32;
use prost::Message as _;

const N: usize = 48;
const PIXEL: f64 = 4.0;
const DIAMETER: f64 = 160.0;

/// Particles of a map, whose images can be changed.
struct Set {
    truth: Volume,
    particles: Vec<SimulatedParticle>,
    noise_sd: f64,
}

impl Set {
    fn simulate(particle_count: u64, snr: f64) -> Self {
        let truth = Phantom::new().volume(N, PIXEL).unwrap();
        let params = SimulationParams {
            particle_count,
            snr,
            diameter_angstrom: DIAMETER,
            pixel_size_angstrom: PIXEL,
            seed: 3,
        };
        let simulation = Simulation::new(&truth, params).unwrap();
        Self {
            noise_sd: simulation.noise_sd(),
            particles: simulation.collect(),
            truth,
        }
    }

    /// Changes the transform of every image.
    fn transformed(mut self, change: impl Fn(&Ctf, [f64; 2], Complex32) -> Complex32) -> Self {
        let mut fft = RealFft2::new(N).unwrap();
        let mut half = vec![Complex32::ZERO; half_plane_len(N)];
        for particle in &mut self.particles {
            let ctf = Ctf::new(&particle.truth.ctf).unwrap();
            fft.forward(particle.image.data(), &mut half);
            for (index, value) in half.iter_mut().enumerate() {
                let step = 1.0 / (N as f64 * PIXEL);
                let (row, column) = (index / (N / 2 + 1), index % (N / 2 + 1));
                let s = [column as f64 * step, signed_frequency(row, N) as f64 * step];
                *value = change(&ctf, s, *value);
            }
            fft.inverse(&half, particle.image.data_mut());
        }
        self
    }

    fn stack(&self) -> InputBytes {
        let pixels = self.particles.iter().flat_map(|p| p.image.data());
        let bytes: Vec<u8> = pixels.flat_map(|grey| grey.to_le_bytes()).collect();
        InputBytes::whole(bytes)
    }

    /// The particles as a task states them, with what is known of the optics.
    fn stated(&self, input_index: u32, optics: &v1::Ctf) -> Vec<v1::Particle> {
        let state = |(index, particle): (usize, &SimulatedParticle)| {
            let (ctf, truth) = (particle.truth.ctf, particle.truth);
            let [rot_deg, tilt_deg, psi_deg] = truth.rotation.to_euler_deg();
            v1::Particle {
                number: index as u64 + 1,
                input_index,
                offset_bytes: (index * N * N * 4) as u64,
                ctf: Some(v1::Ctf {
                    defocus_u_angstrom: ctf.defocus_u_angstrom,
                    defocus_v_angstrom: ctf.defocus_v_angstrom,
                    defocus_angle_deg: ctf.defocus_angle_deg,
                    voltage_kv: ctf.voltage_kv,
                    spherical_aberration_mm: ctf.spherical_aberration_mm,
                    amplitude_contrast: ctf.amplitude_contrast,
                    scale: 1.0,
                    ..optics.clone()
                }),
                modes: vec![v1::PoseMode {
                    pose: Some(v1::Pose {
                        rot_deg,
                        tilt_deg,
                        psi_deg,
                        shift_x_angstrom: truth.shift_px[0] * PIXEL,
                        shift_y_angstrom: truth.shift_px[1] * PIXEL,
                    }),
                    weight: 1.0,
                }],
                ..v1::Particle::default()
            }
        };
        self.particles.iter().enumerate().map(state).collect()
    }

    /// The map from the true poses.
    fn map(&self, optics: &v1::Ctf) -> Volume {
        let parameters = v1::InsertParameters {
            geometries: vec![geometry()],
            particles: self.stated(0, optics),
            noise: white(1.0),
            padding: 2.0,
        };
        let (_, blobs) = run::<Insert>(&parameters, vec![self.stack()]).unwrap();
        let partial = Accumulator::from_bytes(&blobs[0]).unwrap();
        let mut sums = Sums::new(partial.shape());
        sums.add(&partial).unwrap();
        sums.merge(&[nalgebra::Matrix3::identity()])
            .reconstruct(Prior::None)
    }

    /// Poses climbed to from the true ones, and what is left of the images.
    fn aligned(&self, optics: &v1::Ctf) -> v1::AlignOutput {
        let reference: Vec<u8> = self
            .truth
            .data()
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let sigma2 = (N * N) as f64 * self.noise_sd * self.noise_sd;
        let parameters = v1::AlignParameters {
            geometries: vec![geometry()],
            particles: self.stated(1, optics),
            noise: white(sigma2),
            symmetry: "C1".to_owned(),
            mask_diameter_angstrom: DIAMETER,
            shell_max: 20,
            shift_max_angstrom: 10.0,
            score_mode: v1::ScoreMode::Likelihood.into(),
            local: true,
            trust_every_pixel: false,
        };
        let inputs = vec![InputBytes::whole(reference), self.stack()];
        run::<Align>(&parameters, inputs).unwrap().0
    }

    /// FSC of that map with the truth at three shells, the last near Nyquist.
    fn fsc(&self, map: &Volume) -> [f64; 3] {
        let curve = fsc::fsc(map, &self.truth, None).unwrap();
        [8, 14, 20].map(|shell| curve[shell])
    }
}

fn geometry() -> v1::ImageGeometry {
    v1::ImageGeometry {
        box_size_px: N as u32,
        pixel_size_angstrom: PIXEL,
        mrc_encoding: Encoding {
            mode: Mode::Float32,
            big_endian: false,
        }
        .code(),
    }
}

fn white(sigma2: f64) -> Vec<v1::NoiseSpectrum> {
    vec![v1::NoiseSpectrum {
        sigma2: vec![sigma2; N / 2 + 1],
    }]
}

fn run<K: TaskKind>(
    parameters: &K::Parameters,
    inputs: Vec<InputBytes>,
) -> Result<(K::Output, Vec<Bytes>), RunError> {
    let context = Context::new(inputs);
    let output = registry().run(&K::kind(), &parameters.encode_to_vec(), &context)?;
    Ok((K::Output::decode(output.message).unwrap(), output.blobs))
}

/// RELION's formula for the phase that a tilt of (20, -12) mrad gives, in degrees at 300 kV and 2.7 mm.
fn tilt_deg([x, y]: [f64; 2]) -> f64 {
    let lambda = 0.019_687;
    0.360 * 2.7e7 * lambda * lambda * (x * x + y * y) * (20.0 * x - 12.0 * y)
}

#[test]
fn beam_tilt_is_applied() {
    let set = Set::simulate(150, f64::INFINITY).transformed(|_, s, value| {
        value * Complex32::from_polar(1.0, -tilt_deg(s).to_radians() as f32)
    });
    let known = v1::Ctf {
        beam_tilt_x_mrad: 20.0,
        beam_tilt_y_mrad: -12.0,
        ..v1::Ctf::default()
    };
    let unaware = set.fsc(&set.map(&v1::Ctf::default()));
    let aware = set.fsc(&set.map(&known));
    println!("unaware {unaware:?}, aware {aware:?}");
    assert!(unaware[2] < 0.7 && aware.iter().all(|value| *value > 0.98));
}

/// Each polynomial was held against `relion_reconstruct` 3.1.3 alone: images turned by e^(iφ), or whose gamma had it added, give
/// back the map there as soon as the optics table says so.
#[test]
fn odd_aberrations_are_applied() {
    // Z(3, 3) and Z(1, -1), on the latter's scale a shift.
    let turned = |[x, y]: [f64; 2]| 1500.0 * (x * x * x - 3.0 * x * y * y) + 10.0 * y;
    let set = Set::simulate(150, f64::INFINITY)
        .transformed(|_, s, value| value * Complex32::from_polar(1.0, turned(s) as f32));
    let known = v1::Ctf {
        odd_zernike: vec![10.0, 0.0, 0.0, 0.0, 0.0, 1500.0],
        ..v1::Ctf::default()
    };
    let unaware = set.fsc(&set.map(&v1::Ctf::default()));
    let aware = set.fsc(&set.map(&known));
    println!("unaware {unaware:?}, aware {aware:?}");
    assert!(unaware[2] < 0.9 && aware.iter().all(|value| *value > 0.98));
}

#[test]
fn even_aberrations_are_applied() {
    // Z(2, 0) and Z(0, 0), then Z(4, -4).
    let mut even_zernike = [0.0; 9];
    (even_zernike[2], even_zernike[0], even_zernike[4]) = (60.0, 60.0, 9000.0);
    let mut set = Set::simulate(150, f64::INFINITY);
    let plain: Vec<CtfParams> = set.particles.iter().map(|p| p.truth.ctf).collect();
    let truths = plain.iter().map(|ctf| CtfParams {
        even_zernike,
        ..*ctf
    });
    let mut fft = RealFft2::new(N).unwrap();
    let mut half = vec![Complex32::ZERO; half_plane_len(N)];
    let mut curves = [(); 2].map(|()| vec![0.0; half_plane_len(N)]);
    for ((particle, plain), truth) in set.particles.iter_mut().zip(&plain).zip(truths) {
        for (params, curve) in [plain, &truth].into_iter().zip(&mut curves) {
            Ctf::new(params).unwrap().fill_half_plane(N, PIXEL, curve);
        }
        fft.forward(particle.image.data(), &mut half);
        for (value, (was, is)) in half.iter_mut().zip(curves[0].iter().zip(&curves[1])) {
            // Of the few frequencies that the plain CTF left nothing of, nothing can be made.
            *value *= if was.abs() > 1e-3 { is / was } else { 0.0 };
        }
        fft.inverse(&half, particle.image.data_mut());
    }
    let known = v1::Ctf {
        even_zernike: even_zernike.to_vec(),
        ..v1::Ctf::default()
    };
    let unaware = set.fsc(&set.map(&v1::Ctf::default()));
    let aware = set.fsc(&set.map(&known));
    println!("unaware {unaware:?}, aware {aware:?}");
    assert!(unaware[2] < 0.7 && aware.iter().all(|value| *value > 0.97));
}

#[test]
fn anisotropic_magnification_is_applied() {
    let m = [[1.07, 0.03], [-0.02, 0.95]];
    let area = m[0][0] * m[1][1] - m[0][1] * m[1][0];
    let inverse = [
        [m[1][1] / area, -m[0][1] / area],
        [-m[1][0] / area, m[0][0] / area],
    ];
    let mut set = Set::simulate(150, f64::INFINITY);
    // Undoing the inverse is doing it.
    let distortion = Distortion {
        voltage_kv: 300.0,
        spherical_aberration_mm: 2.7,
        beam_tilt_mrad: [0.0; 2],
        odd_zernike: [0.0; 6],
        magnification: inverse,
    };
    let mut distort = Rectifier::new(N, PIXEL, &distortion).unwrap();
    for particle in &mut set.particles {
        distort.rectify(particle.image.data_mut());
    }
    let known = v1::Ctf {
        magnification: m.concat(),
        ..v1::Ctf::default()
    };
    assert_ne!(distortion.magnification, IDENTITY);
    let unaware = set.fsc(&set.map(&v1::Ctf::default()));
    let aware = set.fsc(&set.map(&known));
    println!("unaware {unaware:?}, aware {aware:?}");
    assert!(unaware[2] < 0.8 && aware.iter().all(|value| *value > 0.97));
}

#[test]
fn a_magnification_that_is_none_is_refused_with_the_particle() {
    let set = Set::simulate(2, f64::INFINITY);
    for (magnification, expected) in [
        (vec![1.0], "particle 1: magnification has 1 values"),
        (
            vec![0.01, 0.0, 0.0, 0.01],
            "particle 1: the magnification matrix is",
        ),
    ] {
        let known = v1::Ctf {
            magnification,
            ..v1::Ctf::default()
        };
        let parameters = v1::InsertParameters {
            geometries: vec![geometry()],
            particles: set.stated(0, &known),
            noise: white(1.0),
            padding: 2.0,
        };
        let error = run::<Insert>(&parameters, vec![set.stack()]).unwrap_err();
        assert!(
            matches!(&error, RunError::BadInput(text) if text.contains(expected)),
            "{error:?}"
        );
    }
}

/// What was done to the images, and what says so.
fn corrected(applied: v1::CtfApplied) -> (Set, v1::Ctf) {
    let set = Set::simulate(120, 0.3).transformed(|ctf, [x, y], value| {
        let c = ctf.value(x, y) as f32;
        match applied {
            v1::CtfApplied::Unspecified => value,
            v1::CtfApplied::Phases => value * c.signum(),
            v1::CtfApplied::Whole => value * c,
        }
    });
    let known = v1::Ctf {
        applied: applied.into(),
        ..v1::Ctf::default()
    };
    (set, known)
}

#[test]
fn corrected_images_give_the_map_of_raw_ones() {
    let (raw, plain) = corrected(v1::CtfApplied::Unspecified);
    let expected = raw.map(&plain);
    for applied in [v1::CtfApplied::Phases, v1::CtfApplied::Whole] {
        let (set, known) = corrected(applied);
        let map = set.map(&known);
        let curve = fsc::fsc(&map, &expected, None).unwrap();
        let power = [&map, &expected].map(fsc::shell_power);
        for shell in 1..N / 2 - 1 {
            assert!(
                curve[shell] > 0.9999,
                "{applied:?}: {} in shell {shell}",
                curve[shell]
            );
            let ratio = power[0][shell] / power[1][shell];
            assert!(
                (ratio - 1.0).abs() < 1e-3,
                "{applied:?}: {ratio} in shell {shell}"
            );
        }
        // Taken for raw they give another map.
        let wrong = fsc::fsc(&set.map(&plain), &expected, None).unwrap();
        assert!(wrong[12] < 0.9, "{applied:?}: {}", wrong[12]);
    }
}

#[test]
fn corrected_images_are_placed_like_raw_ones_and_show_the_same_noise() {
    let (raw, plain) = corrected(v1::CtfApplied::Unspecified);
    let expected = raw.aligned(&plain);
    for applied in [v1::CtfApplied::Phases, v1::CtfApplied::Whole] {
        let (set, known) = corrected(applied);
        let found = set.aligned(&known);
        let mut near = 0;
        for (a, b) in found.poses.iter().zip(&expected.poses) {
            let [a, b] = [a, b].map(|aligned| aligned.modes[0].pose.unwrap());
            let off = (a.tilt_deg - b.tilt_deg).abs();
            // Masks cut corrected images a little differently.
            near += usize::from(off < 1.5 && (a.shift_x_angstrom - b.shift_x_angstrom).abs() < 1.0);
        }
        assert!(near * 10 > 8 * set.particles.len(), "{applied:?}: {near}");
        for shell in 6..20 {
            let [a, b] = [&found, &expected].map(|output| {
                let residual = &output.residuals[0];
                residual.power[shell] / residual.count[shell]
            });
            println!("{applied:?}: shell {shell}: {}", a / b);
            assert!(
                (a / b - 1.0).abs() < 0.15,
                "{applied:?}: {} in shell {shell}",
                a / b
            );
        }
    }
}
