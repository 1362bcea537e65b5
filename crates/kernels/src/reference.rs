//! References made ready for a search, once for all the tasks of a worker that use them.
//!
//! The blocks of a half-set share a reference, and cutting it into slices takes as long as placing a hundred particles.

use crate::images::bad;
use dewar_compute::{
    projector::Projector,
    search::{ReferenceBank, SearchSettings},
    symmetry::PointGroup,
    volume::{Volume, padding_max},
};
use dewar_task::{InputBytes, RunError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Padding of the reference, where accuracy costs only memory, and as far as a large box leaves room for it.
const PADDING: f64 = 2.0;

/// The references of both halves of a refinement. A worker that serves two refinements at once builds them anew now and
/// then, rather than hold memory that was not allowed for.
const KEPT: usize = 2;

/// A map ready to be compared with images.
pub struct Reference {
    /// Its slices on demand.
    pub projector: Projector,
    /// Its slices along every direction of the global search.
    pub bank: ReferenceBank,
}

/// What a reference was built from.
#[derive(Clone, PartialEq)]
struct Recipe {
    map: blake3::Hash,
    group: PointGroup,
    settings: SearchSettings,
}

type Built = OnceLock<Result<Arc<Reference>, String>>;

/// Least recently used first.
static REFERENCES: Mutex<Vec<(Recipe, Arc<Built>)>> = Mutex::new(Vec::new());

impl Reference {
    /// The reference in `input`, box³ float32; built if it is not among the last ones. Slots that ask at the same time
    /// wait for one of them to build it.
    ///
    /// # Errors
    /// If the bytes are no map of that box, or the settings make no sense for it.
    pub fn of(
        input: &InputBytes,
        box_size_px: usize,
        group: &PointGroup,
        settings: &SearchSettings,
    ) -> Result<Arc<Self>, RunError> {
        let bytes = input.read_all()?;
        let recipe = Recipe {
            map: blake3::hash(&bytes),
            group: *group,
            settings: *settings,
        };
        place_of(&recipe)
            .get_or_init(|| Self::build(&bytes, box_size_px, group, settings).map(Arc::new))
            .clone()
            .map_err(bad)
    }

    fn build(
        bytes: &[u8],
        box_size_px: usize,
        group: &PointGroup,
        settings: &SearchSettings,
    ) -> Result<Self, String> {
        let map = read_map(bytes, box_size_px)?;
        let projector = Projector::new(&map, settings.k_max, PADDING.min(padding_max(box_size_px)))
            .map_err(told)?;
        let bank = ReferenceBank::new(&projector, group, settings).map_err(told)?;
        Ok(Self { projector, bank })
    }
}

fn told(error: impl std::error::Error) -> String {
    error.to_string()
}

/// Where a reference is, or will be once its first user has built it.
fn place_of(recipe: &Recipe) -> Arc<Built> {
    // Every change of the list is whole, so a panic elsewhere leaves it sound.
    let mut references = REFERENCES.lock().unwrap_or_else(PoisonError::into_inner);
    let place = match references.iter().position(|(known, _)| known == recipe) {
        Some(at) => references.remove(at).1,
        None => Arc::default(),
    };
    if references.len() == KEPT {
        references.remove(0);
    }
    references.push((recipe.clone(), Arc::clone(&place)));
    place
}

fn read_map(bytes: &[u8], box_size_px: usize) -> Result<Volume, String> {
    let (values, rest) = bytes.as_chunks::<4>();
    let data: Vec<f32> = values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect();
    if !rest.is_empty() || data.iter().any(|value| !value.is_finite()) {
        return Err("the reference is not a map of finite float32 values".to_owned());
    }
    Volume::new(box_size_px, data).map_err(|error| format!("the reference: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_compute::search::{ScoreMode, Trust};

    const BOX_SIZE_PX: usize = 12;

    fn map(peak: f32) -> InputBytes {
        let mut data = vec![0.0_f32; BOX_SIZE_PX.pow(3)];
        data[BOX_SIZE_PX.pow(3) / 2] = peak;
        let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        InputBytes::whole(bytes)
    }

    fn reference(input: &InputBytes, k_max: usize) -> Result<Arc<Reference>, RunError> {
        let settings = SearchSettings {
            pixel_size_angstrom: 4.0,
            mask_diameter_angstrom: 30.0,
            k_max,
            max_shift_px: 1.0,
            shift_step_px: 1.0,
            order: 1,
            candidate_count: 2,
            mode: ScoreMode::Likelihood,
            trust: Trust::Independent,
        };
        Reference::of(input, BOX_SIZE_PX, &PointGroup::C1, &settings)
    }

    #[test]
    fn one_reference_is_built_once_and_the_oldest_is_forgotten() {
        let (first, second) = (map(1.0), map(2.0));
        let built = reference(&first, 4).unwrap();
        assert!(Arc::ptr_eq(&built, &reference(&first, 4).unwrap()));
        // Another limit, or another map, is another reference.
        assert!(!Arc::ptr_eq(&built, &reference(&first, 5).unwrap()));
        assert!(Arc::ptr_eq(&built, &reference(&first, 4).unwrap()));
        assert!(!Arc::ptr_eq(&built, &reference(&second, 4).unwrap()));
        reference(&second, 5).unwrap();
        assert!(!Arc::ptr_eq(&built, &reference(&first, 4).unwrap()));

        assert!(matches!(
            reference(&InputBytes::whole(vec![0; 12]), 4),
            Err(RunError::BadInput(_))
        ));
    }
}
