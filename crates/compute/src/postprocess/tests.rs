//! Half-maps whose spectrum and noise are known.

use super::*;
use crate::filter::filtered;
use crate::fsc::shell_power;
use crate::noise::GaussianNoise;

const N: usize = 64;
const PIXEL_ANGSTROM: f64 = 1.5;
const B_FACTOR: f64 = 150.0;

fn white(n: usize, seed: u64) -> Volume {
    let mut source = GaussianNoise::new(seed, 0);
    Volume::from_fn(n, |_, _, _| source.next()).unwrap()
}

/// A ball of structure as rich in every shell, but for a B-factor.
fn particle() -> Volume {
    let mut ball = white(N, 1);
    mask::apply(&mut ball, &mask::spherical(N, 15.0, 4.0).unwrap());
    filtered(&ball, |shell| {
        let frequency = shell / (N as f64 * PIXEL_ANGSTROM);
        libm::exp(-B_FACTOR / 4.0 * frequency * frequency)
    })
}

/// The particle twice, each in noise of its own.
fn halves() -> [Volume; 2] {
    [2, 3].map(|seed| particle().combined(&white(N, seed), |signal, noise| signal + 0.08 * noise))
}

fn params(mask: Option<Volume>) -> Params {
    Params {
        pixel_size_angstrom: PIXEL_ANGSTROM,
        mask,
        ..Params::default()
    }
}

fn run(halves: &[Volume; 2], params: Params) -> PostProcessed {
    postprocess([&halves[0], &halves[1]], params, &mut |_| ()).unwrap()
}

fn soft_mask() -> Volume {
    mask::spherical(N, 18.0, 7.0).unwrap()
}

#[test]
fn a_known_b_factor_is_found_and_taken_away() {
    let found = run(&halves(), params(Some(soft_mask())));
    let fit = found.guinier.unwrap();
    assert!(
        (fit.b_factor_angstrom2 / -B_FACTOR - 1.0).abs() < 0.04,
        "{fit:?}"
    );
    assert!(fit.correlation < -0.98, "{fit:?}");
    assert_eq!(found.warnings, []);

    let mut sharpened = found.sharpened.unwrap();
    mask::apply(&mut sharpened, &soft_mask());
    let power = shell_power(&sharpened);
    let mean = |shells: std::ops::Range<usize>| {
        power[shells.clone()].iter().sum::<f64>() / shells.len() as f64
    };
    let levelled = mean(18..24) / mean(10..16);
    assert!((0.8..1.2).contains(&levelled), "{levelled}");
    let limit = N as f64 * PIXEL_ANGSTROM / found.resolution.at_0_143.unwrap();
    assert!((22.0..30.0).contains(&limit), "{limit}");
    assert!(power[limit as usize + 3] < 0.05 * mean(18..24), "{power:?}");
}

#[test]
fn a_b_factor_that_is_given_is_used() {
    let asked = Params {
        b_factor_angstrom2: Some(0.0),
        ..params(Some(soft_mask()))
    };
    let (found, fitted) = (
        run(&halves(), asked),
        run(&halves(), params(Some(soft_mask()))),
    );
    assert_eq!(found.b_factor_angstrom2, 0.0);
    assert_eq!(found.guinier, fitted.guinier);
    let power = |map: Option<Volume>| shell_power(&map.unwrap())[20];
    let ratio = power(fitted.sharpened) / power(found.sharpened);
    let frequency = 20.0 / (N as f64 * PIXEL_ANGSTROM);
    let expected = libm::exp(-fitted.b_factor_angstrom2 / 2.0 * frequency * frequency);
    assert!((ratio / expected - 1.0).abs() < 0.1, "{ratio} {expected}");
}

#[test]
fn the_detectors_transfer_is_divided_out() {
    let mtf = Mtf::new(&[(0.0, 1.0), (0.25, 0.7), (0.5, 0.3)], PIXEL_ANGSTROM).unwrap();
    let plain = halves();
    let seen = plain
        .each_ref()
        .map(|half| filtered(half, |shell| mtf.at(shell / (N as f64 * PIXEL_ANGSTROM))));
    let with_mtf = Params {
        mtf: Some(mtf),
        ..params(Some(soft_mask()))
    };
    let b_factor = |found: PostProcessed| found.guinier.unwrap().b_factor_angstrom2;
    let plain = b_factor(run(&plain, params(Some(soft_mask()))));
    let blind = b_factor(run(&seen, params(Some(soft_mask()))));
    let corrected = b_factor(run(&seen, with_mtf));
    assert!(
        (corrected / plain - 1.0).abs() < 0.03,
        "{corrected} {plain}"
    );
    assert!(blind < 1.1 * plain, "{blind} {plain}");
}

#[test]
fn the_automatic_mask_finds_the_same_as_the_true_one() {
    // The white ball has no shape of its own: give it one, as a protein has.
    let body = mask::spherical(N, 13.0, 6.0).unwrap();
    let halves = halves().map(|half| half.combined(&body, |grey, body| grey + 2.0 * body));
    let found = run(&halves, params(None));
    let truth = run(&halves, params(Some(soft_mask())));
    let volume = |mask: &Volume| mask.data().iter().sum::<f32>();
    let ratio = volume(&found.mask) / volume(&truth.mask);
    assert!((0.6..1.5).contains(&ratio), "{ratio}");
    let shell =
        |found: &PostProcessed| N as f64 * PIXEL_ANGSTROM / found.resolution.at_0_143.unwrap();
    assert!(
        (shell(&found) - shell(&truth)).abs() < 2.0,
        "{:?} {:?}",
        found.resolution,
        truth.resolution
    );
    assert_eq!(found.warnings, []);
}

#[test]
fn a_mask_that_hugs_the_density_warns_and_a_soft_one_does_not() {
    let halves = halves();
    let tight = particle().combined(&particle(), |grey, _| f32::from(u8::from(grey > 0.5)));
    let found = run(&halves, params(Some(tight)));
    assert!(
        matches!(found.warnings[..], [Warning::MaskTooTight { randomised_fsc }] if randomised_fsc > 0.1),
        "{:?} {:?}",
        found.warnings,
        found.curves.randomised
    );
    let soft = run(&halves, params(Some(soft_mask())));
    assert_eq!(soft.warnings, []);
}

#[test]
fn noise_has_no_resolution_under_any_mask() {
    let n = 32;
    for seed in 0..12 {
        let halves = [white(n, 100 + 2 * seed), white(n, 101 + 2 * seed)];
        let tight = halves[0].combined(&halves[1], |a, b| f32::from(u8::from(a + b > 2.0)));
        let masks = [
            None,
            Some(mask::spherical(n, 10.0, 4.0).unwrap()),
            Some(mask::spherical(n, 4.0, 0.0).unwrap()),
            Some(tight),
        ];
        for (index, mask) in masks.into_iter().enumerate() {
            let found = run(&halves, params(mask));
            let none = Resolution {
                at_0_143: None,
                at_0_5: None,
            };
            assert_eq!(found.resolution, none, "seed {seed}, mask {index}");
            assert_eq!(found.warnings, [Warning::NothingShared]);
            assert!(found.sharpened.is_none());
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_curves() {
    let halves = halves();
    let of_seed = |seed| {
        let params = Params {
            seed,
            ..params(Some(soft_mask()))
        };
        run(&halves, params).curves
    };
    assert_eq!(of_seed(1), of_seed(1));
    assert_ne!(of_seed(1).randomised, of_seed(2).randomised);
}

#[test]
fn maps_that_agree_everywhere_have_the_pixels_resolution() {
    let map = particle();
    let halves = [map.clone(), map.combined(&map, |grey, _| 1.001 * grey)];
    let found = run(&halves, params(Some(soft_mask())));
    assert_eq!(found.resolution.at_0_143, Some(2.0 * PIXEL_ANGSTROM));
    assert_eq!(found.warnings, [Warning::AgreesToNyquist]);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let (map, small) = (white(16, 1), white(8, 1));
    let refused = |second: &Volume, mask: Option<Volume>| {
        postprocess([&map, second], params(mask), &mut |_| ()).unwrap_err()
    };
    assert_eq!(
        refused(&small, None),
        PostProcessError::Boxes {
            first: 16,
            second: 8,
            mask: None
        }
    );
    assert_eq!(refused(&map, None), PostProcessError::SameMap);
    let other = white(16, 2);
    assert!(matches!(
        refused(&other, Some(small)),
        PostProcessError::Boxes { mask: Some(8), .. }
    ));
    assert!(matches!(
        refused(&other, Some(white(16, 3))),
        PostProcessError::MaskRange { .. }
    ));
    let empty = Volume::zeros(16).unwrap();
    assert_eq!(refused(&other, Some(empty)), PostProcessError::MaskEmpty);
}
