//! The four FSC curves.

use super::randomise::phases_randomised;
use crate::fsc::fsc;
use crate::volume::Volume;

/// Phases are made random from the first shell where the unmasked curve is below this.
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
    let randomised_from = (1..unmasked.len()).find(|&shell| unmasked[shell] < RANDOMISE_BELOW);
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
