//! A reference cut into polar slices along every direction of the global search, ready for matrix products.

use nalgebra::{Matrix3, Vector3};
use num_complex::Complex32;

use super::rings::{Folding, Rings};
use super::{SearchError, SearchSettings};
use crate::orientation::Rotation;
use crate::projector::Projector;
use crate::sampling;
use crate::symmetry::{AsymmetricUnit, PointGroup};

/// Even angular frequencies 0..=12 of |P|²: those of C²/σ², which only astigmatism makes vary along a ring, are fewer.
pub(super) const NORM_FREQUENCY_COUNT: usize = 7;

/// Directions worked on together, with their antipodes: their scores stay in the second-level cache.
pub(super) const TILE: usize = 16;

/// All slices of one reference that the global search compares with.
pub struct ReferenceBank {
    settings: SearchSettings,
    box_size_px: usize,
    pub(super) unit: AsymmetricUnit,
    /// The orientation of each direction at psi 0. Antipodes are not among them: their slices are mirror images.
    pub(super) views: Vec<Rotation>,
    /// `views.len()` up to a whole number of tiles; what is beyond is zero.
    pub(super) row_count: usize,
    pub(super) rings: Rings,
    pub(super) folding: Folding,
    pub(super) shifts_px: Vec<[f64; 2]>,
    /// For each slot, tile by tile, a column for each (ring, m): Re of the tile's directions, then Im.
    pub(super) slots: Vec<Vec<f32>>,
    /// For each even frequency, columns of `row_count`: Re then Im of |P|²'s coefficient on each ring.
    pub(super) norms: Vec<Vec<f32>>,
}

impl ReferenceBank {
    /// Slices `projector` along the directions of the group's asymmetric unit.
    pub fn new(
        projector: &Projector,
        group: &PointGroup,
        settings: &SearchSettings,
    ) -> Result<Self, SearchError> {
        settings.check()?;
        let n = projector.n();
        if settings.k_max > (n - 1) / 2 {
            return Err(SearchError::Setting {
                name: "resolution limit",
                value: settings.k_max as f64,
            });
        }
        let unit = AsymmetricUnit::new(group);
        let views = half_of_unit(settings.order, &unit);
        let row_count = views.len().next_multiple_of(TILE);
        let reach_px = (settings.mask_diameter_angstrom / 2.0 / settings.pixel_size_angstrom)
            .min(n as f64 / 2.0)
            + settings.max_shift_px;
        let rings = Rings::new(settings.k_max_global(n), reach_px, n);
        let folding = Folding::new(&rings, sampling::psi_count(settings.order));
        let slots = folding
            .slot_lengths
            .iter()
            .map(|length| vec![0.0; 2 * length * row_count])
            .collect();
        let norms = vec![vec![0.0; 2 * rings.rings.len() * row_count]; NORM_FREQUENCY_COUNT];
        let shifts_px = sampling::shifts_in_disc(settings.max_shift_px, settings.shift_step_px);
        let settings = *settings;
        let mut bank = Self {
            settings,
            box_size_px: n,
            unit,
            views,
            row_count,
            rings,
            folding,
            shifts_px,
            slots,
            norms,
        };
        bank.fill(projector);
        Ok(bank)
    }

    /// What it was built for.
    pub fn settings(&self) -> &SearchSettings {
        &self.settings
    }

    /// Floating-point operations of the matrix products that compare it with one particle.
    pub fn products_flop(&self) -> f64 {
        let (rows, shifts) = (self.row_count as f64, self.shifts_px.len() as f64);
        let inner: usize = self.folding.slot_lengths.iter().sum();
        // Re and Im by Re and Im; then, for each side of a slice, Re and Im of each remainder at half of the angles.
        let half = sampling::psi_count(self.settings.order) as f64 / 2.0;
        let turned = 2.0 * self.folding.remainders.len() as f64 * half;
        2.0 * rows * shifts * (4.0 * inner as f64 + 2.0 * turned)
    }

    /// Edge of the images it can be compared with.
    pub fn box_size_px(&self) -> usize {
        self.box_size_px
    }

    fn fill(&mut self, projector: &Projector) {
        let mut samples = vec![Complex32::ZERO; self.rings.points.len()];
        let (mut full, mut scratch) = (Vec::new(), Vec::new());
        for (row, view) in self.views.iter().enumerate() {
            projector.sample_plane(view, &self.rings.points, &mut samples);
            for (index, ring) in self.rings.rings.iter().enumerate() {
                let half = &samples[ring.start..ring.start + ring.sample_count / 2];
                let scale = 1.0 / ring.sample_count as f32;
                ring.transform(half, &mut full, &mut scratch);
                for (value, place) in full.iter().zip(&self.folding.places[index]) {
                    let im = if place.conjugate { -value.im } else { value.im };
                    let length = self.folding.slot_lengths[place.slot];
                    let column = row / TILE * length + place.position;
                    let at = 2 * TILE * column + row % TILE;
                    self.slots[place.slot][at] = value.re * scale;
                    self.slots[place.slot][at + TILE] = im * scale;
                }
                ring.transform_real(
                    half.iter().map(Complex32::norm_sqr),
                    &mut full,
                    &mut scratch,
                );
                for (frequency, norms) in self.norms.iter_mut().enumerate() {
                    let value = full[2 * frequency] * scale;
                    let column = 2 * index * self.row_count + row;
                    norms[column] = value.re;
                    norms[column + self.row_count] = value.im;
                }
            }
        }
    }
}

/// One view of each pair of antipodes in the unit, at psi 0. Of a direction and the mate of its antipode, the one further
/// along a fixed direction is kept, and both where they are less than a step of the grid apart.
fn half_of_unit(order: u32, unit: &AsymmetricUnit) -> Vec<Rotation> {
    let margin = sampling::step_deg(order).to_radians();
    // Along no axis or plane of any point group.
    let along = Vector3::new(0.31, 0.17, 0.93).normalize();
    let is_kept = |view: &Rotation| {
        let mate = unit.reduce(&antipode(view));
        let direction = |view: &Rotation| view.0.row(2).transpose();
        along.dot(&(direction(view) - direction(&mate))) > -margin
    };
    sampling::directions_in_unit(order, unit)
        .iter()
        .map(|direction| direction.orientation(0.0))
        .filter(is_kept)
        .collect()
}

/// The view from the other side whose slice has the conjugate angular coefficients: P'(r, θ) = P(r, π - θ), so p'_m is p_m*.
pub(super) fn antipode(view: &Rotation) -> Rotation {
    let half_turn = Matrix3::from_diagonal(&Vector3::new(-1.0, 1.0, -1.0));
    Rotation(half_turn * view.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_direction_of_the_unit_is_near_a_view_or_its_antipode() {
        for (name, most) in [
            ("C1", 0.6),
            ("C4", 0.75),
            ("D7", 1.0),
            ("T", 0.85),
            ("O", 1.0),
        ] {
            let group: PointGroup = name.parse().unwrap();
            let unit = AsymmetricUnit::new(&group);
            let views = half_of_unit(3, &unit);
            let whole = sampling::directions_in_unit(3, &unit).len();
            assert!(
                views.len() as f64 <= most * whole as f64,
                "{name}: {} of {whole}",
                views.len()
            );
            let mut near = Vec::new();
            for view in &views {
                for side in [*view, antipode(view)] {
                    let mates = group.operators();
                    let direction = |o: &Matrix3<f64>| side.with_operator(o).0.row(2).transpose();
                    near.extend(mates.iter().map(direction));
                }
            }
            // Half the diagonal of a cell of the grid, and some.
            let least = libm::cos(6.5_f64.to_radians());
            for probe in sampling::directions_in_unit(5, &unit) {
                let probe = probe.vector();
                let best = near.iter().map(|v| v.dot(&probe)).fold(-1.0, f64::max);
                assert!(best > least, "{name}: {probe}");
            }
        }
    }
}
