//! How evenly views cover a structure's transform.
//!
//! A view fills the plane at right angles to it. A direction that few planes pass through is known badly, one that none
//! passes through not at all, and no resolution of the whole map tells of either. After Baldwin and Lyumkis (2020), the
//! figure is that of the harmonic mean of how often directions were seen: what counts for a map is its worst.

use nalgebra::{Matrix3, Vector3};

use crate::orientation::Rotation;
use crate::sampling;
use crate::symmetry::PointGroup;

/// HEALPix order of the directions that are looked at: 7.5 degrees apart.
const ORDER: u32 = 3;

/// A plane counts for directions within this of it.
const REACH_DEG: f64 = 5.0;

/// Views that are looked at; more say nothing new.
const VIEWS_MAX: usize = 20_000;

/// How the directions of a transform were seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// The part of all directions that no view shows.
    pub unseen: f64,
    /// Of the directions seen, the harmonic over the arithmetic mean of how often: 1 where all are seen alike.
    pub evenness: f64,
}

/// The coverage by views at these orientations of a structure with this symmetry. None where there are no views.
pub fn coverage(orientations: &[Rotation], group: &PointGroup) -> Option<Coverage> {
    let step = orientations.len().div_ceil(VIEWS_MAX).max(1);
    let views = orientations.iter().step_by(step);
    let views: Vec<_> = views.map(|view| view.0.row(2).transpose()).collect();
    of_views(&views, &group.operators())
}

fn of_views(views: &[Vector3<f64>], operators: &[Matrix3<f64>]) -> Option<Coverage> {
    let reach = REACH_DEG.to_radians().sin();
    let mates: Vec<Vector3<f64>> = views
        .iter()
        .flat_map(|view| operators.iter().map(move |operator| operator.tr_mul(view)))
        .collect();
    // The other hemisphere's directions lie in the same planes.
    let counts: Vec<f64> = sampling::directions(ORDER)
        .iter()
        .map(sampling::Direction::vector)
        .filter(|direction| direction.z >= 0.0)
        .map(|direction| {
            let passes = mates
                .iter()
                .filter(|view| view.dot(&direction).abs() <= reach);
            passes.count() as f64
        })
        .collect();
    let seen: Vec<f64> = counts
        .iter()
        .copied()
        .filter(|count| *count > 0.0)
        .collect();
    if seen.is_empty() {
        return None;
    }
    let count = seen.len() as f64;
    let harmonic = count / seen.iter().map(|count| 1.0 / count).sum::<f64>();
    Some(Coverage {
        unseen: 1.0 - count / counts.len() as f64,
        evenness: harmonic * count / seen.iter().sum::<f64>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_views() -> Vec<Vector3<f64>> {
        let directions = sampling::directions(4);
        directions.iter().map(sampling::Direction::vector).collect()
    }

    fn of(views: &[Vector3<f64>], group: &str) -> Coverage {
        let group: PointGroup = group.parse().unwrap();
        of_views(views, &group.operators()).unwrap()
    }

    #[test]
    fn views_from_everywhere_cover_all_alike() {
        let found = of(&all_views(), "C1");
        assert!(found.unseen == 0.0 && found.evenness > 0.98, "{found:?}");
    }

    #[test]
    fn views_along_one_axis_leave_a_cone_that_symmetry_about_another_fills() {
        // Within 30 degrees of z: what lies within 60 - 5 degrees of z is in no plane, 43 % of all directions.
        let mut views = all_views();
        views.retain(|view| view.z > 30.0_f64.to_radians().cos());
        let found = of(&views, "C1");
        assert!((0.38..0.48).contains(&found.unseen), "{found:?}");
        let more = of(&views, "O");
        assert!(
            more.unseen < 0.1 && more.evenness > found.evenness,
            "{more:?}"
        );
    }

    #[test]
    fn few_views_to_one_side_are_told_by_a_low_evenness() {
        let mut views = all_views();
        let side: Vec<_> = views.iter().copied().filter(|view| view.z > 0.9).collect();
        for _ in 0..20 {
            views.extend(&side);
        }
        let found = of(&views, "C1");
        assert!(found.unseen == 0.0 && found.evenness < 0.8, "{found:?}");
    }

    #[test]
    fn no_views_say_nothing() {
        assert_eq!(coverage(&[], &PointGroup::C1), None);
    }
}
