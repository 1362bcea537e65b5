//! A reference cut into polar slices along every direction of the global search, ready for matrix products.

use num_complex::Complex32;

use super::rings::{Folding, Rings};
use super::{SearchError, SearchSettings};
use crate::orientation::Rotation;
use crate::projector::Projector;
use crate::sampling;
use crate::symmetry::{AsymmetricUnit, PointGroup};

/// Even angular frequencies 0..=12 of |P|²: those of C²/σ², which only astigmatism makes vary along a ring, are fewer.
pub(super) const NORM_FREQUENCY_COUNT: usize = 7;

/// Directions worked on together: their scores stay in the second-level cache.
pub(super) const TILE: usize = 32;

/// All slices of one reference that the global search compares with.
pub struct ReferenceBank {
    settings: SearchSettings,
    box_size_px: usize,
    pub(super) unit: AsymmetricUnit,
    /// The orientation of each direction at psi 0.
    pub(super) views: Vec<Rotation>,
    /// `views.len()` up to a whole number of tiles; what is beyond is zero.
    pub(super) row_count: usize,
    pub(super) rings: Rings,
    pub(super) folding: Folding,
    pub(super) shifts_px: Vec<[f64; 2]>,
    /// For each slot, columns of `row_count` values: Re then Im of each (ring, m) in the slot.
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
        let directions = sampling::directions_in_unit(settings.order, &unit);
        let views: Vec<Rotation> = directions.iter().map(|d| d.orientation(0.0)).collect();
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
                    let column = 2 * place.position * self.row_count + row;
                    self.slots[place.slot][column] = value.re * scale;
                    self.slots[place.slot][column + self.row_count] = im * scale;
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
