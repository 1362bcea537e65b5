//! The four FSC curves.

use super::outcome::COARSEST;
use super::randomise::phases_randomised;
use crate::fsc::fsc;
use crate::volume::Volume;

/// Phases are made random from the first shell where the unmasked curve falls below this.
const RANDOMISE_BELOW: f64 = 0.8;

/// The correction begins this many shells later: a mask smears the step between kept and random phases over its
/// neighbours.
const CORRECT_AFTER: usize = 2;

/// How alike the halves are, by shell from 0 to n/2.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Of the maps as they are.
    pub unmasked: Vec<f64>,
    /// Inside the mask.
    pub masked: Vec<f64>,
    /// Inside the mask, of maps with random phases: what the mask alone contributes.
    pub randomised: Vec<f64>,
    /// The masked curve without that contribution.
    pub corrected: Vec<f64>,
    /// The first shell of random phases; none if the unmasked curve never falls so low.
    pub randomised_from: Option<usize>,
}

impl Curves {
    /// The first shell that is corrected.
    pub fn corrected_from(&self) -> Option<usize> {
        self.randomised_from.map(|from| from + CORRECT_AFTER)
    }
}

/// Measures them; `progress` hears of each of three steps.
pub(super) fn measure(
    halves: [&Volume; 2],
    mask: &Volume,
    seed: u64,
    progress: &mut dyn FnMut(u64),
) -> Curves {
    let unmasked = correlate(halves, None);
    progress(1);
    let masked = correlate(halves, Some(mask));
    progress(2);
    let randomised_from = randomise_from(&unmasked);
    let randomised = randomised_from.map_or_else(
        || masked.clone(),
        |from| {
            let first = phases_randomised(halves[0], from, seed, 0);
            let second = phases_randomised(halves[1], from, seed, 1);
            correlate([&first, &second], Some(mask))
        },
    );
    progress(3);
    let mut curves = Curves {
        corrected: masked.clone(),
        unmasked,
        masked,
        randomised,
        randomised_from,
    };
    let first = curves.corrected_from().unwrap_or(usize::MAX);
    for shell in first..curves.corrected.len() {
        curves.corrected[shell] = corrected(curves.masked[shell], curves.randomised[shell]);
    }
    curves
}

/// Where the curve falls below the bound, or the coarsest shell if it is nowhere above. The coarsest shells alone, of which
/// images know least, may begin below it: random from there, the maps would have lost the very detail that leaks.
fn randomise_from(unmasked: &[f64]) -> Option<usize> {
    let is_high = |&shell: &usize| {
        unmasked
            .get(shell)
            .is_some_and(|fsc| *fsc >= RANDOMISE_BELOW)
    };
    let begin = COARSEST.clone().find(is_high).unwrap_or(*COARSEST.start());
    (begin..unmasked.len()).find(|shell| !is_high(shell))
}

/// What is left of a correlation when the mask's share is taken off (Chen et al. 2013).
pub(crate) fn corrected(masked: f64, randomised: f64) -> f64 {
    // Where the mask makes everything alike, nothing is known.
    if randomised < 1.0 {
        (masked - randomised) / (1.0 - randomised)
    } else {
        0.0
    }
}

fn correlate([first, second]: [&Volume; 2], mask: Option<&Volume>) -> Vec<f64> {
    fsc(first, second, mask).expect("the boxes were compared before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_random_from_where_the_curve_falls() {
        for (curve, expected) in [
            (&[1.0, 0.9, 0.9, 0.85, 0.7, 0.9][..], Some(4)),
            (&[0.1, 0.7, 0.9, 0.95, 0.9, 0.3], Some(5)),
            (&[1.0, 0.1, 0.2, 0.1, 0.9, 0.1], Some(1)),
            (&[1.0, 0.9, 0.9, 0.9, 0.9, 0.9], None),
            (&[1.0, 0.9], None),
            (&[1.0], None),
        ] {
            assert_eq!(randomise_from(curve), expected, "{curve:?}");
        }
    }

    #[test]
    fn what_the_mask_adds_is_taken_off() {
        assert!((corrected(0.55, 0.1) - 0.5).abs() < 1e-12);
        assert_eq!(corrected(0.0, 0.0), 0.0);
        assert_eq!(corrected(1.0, 1.0), 0.0);
    }
}
