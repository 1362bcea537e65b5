//! The figures that are drawn, as who refines states them.

use crate::{Grey, Sky};

/// All of them; what is not known yet is left out.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// How alike the half-maps are.
    pub fsc: Option<Fsc>,
    /// How fast amplitudes fall.
    pub guinier: Option<Guinier>,
    /// What the map looks like.
    pub map: Option<MapViews>,
    /// What the particles' poses are.
    pub poses: Option<Poses>,
    /// Every round so far.
    pub rounds: Vec<Round>,
    /// How long the tasks of the final maps ran, once they are made.
    pub final_stages: Option<StageTimes>,
    /// Some particles beside their reprojections.
    pub particles: Vec<ParticleView>,
    /// Who computed.
    pub workers: Vec<Worker>,
}

/// The correlation of the half-maps, by shell from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Fsc {
    /// The side of the box, which makes a shell a resolution.
    pub box_angstrom: f64,
    /// Of the maps as they are.
    pub unmasked: Vec<f64>,
    /// What post-processing found, once it has run.
    pub masked: Option<Masked>,
}

/// The curves inside the mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Masked {
    /// Of the masked maps.
    pub masked: Vec<f64>,
    /// Of masked maps with random phases.
    pub randomised: Vec<f64>,
    /// The masked curve without what the mask adds.
    pub corrected: Vec<f64>,
    /// Where that falls below 0.143.
    pub resolution_angstrom: Option<f64>,
}

/// How fast amplitudes fall.
#[derive(Debug, Clone, PartialEq)]
pub struct Guinier {
    /// The side of the box.
    pub box_angstrom: f64,
    /// Mean amplitude by shell from 0.
    pub amplitudes: Vec<f64>,
    /// The line fitted to their logarithms, if one was.
    pub line: Option<Line>,
}

/// ln|F| = intercept + slope / d², between two resolutions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// In Å².
    pub slope: f64,
    /// Of ln|F|.
    pub intercept: f64,
    /// Where the fit begins.
    pub from_angstrom: f64,
    /// Where it ends.
    pub to_angstrom: f64,
    /// What the map was sharpened by.
    pub b_factor_angstrom2: f64,
}

/// The map in pictures. Each three are across z, y and x.
#[derive(Debug, Clone, PartialEq)]
pub struct MapViews {
    /// Of every picture.
    pub pixel_size_angstrom: f64,
    /// Through the centre.
    pub slices: [Grey; 3],
    /// Sums along the axis.
    pub projections: [Grey; 3],
}

/// The best pose of every particle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Poses {
    /// How often each direction was seen, every mate of the symmetry counted.
    pub sky: Sky,
    /// The weight of the best pose of each particle, from 0 to 1.
    pub weights: Vec<f64>,
    /// How far each particle lies off the centre of its image.
    pub shifts_angstrom: Vec<f64>,
}

/// One round.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// From 1.
    pub iteration: usize,
    /// The finest detail compared.
    pub limit_angstrom: f64,
    /// FSC 0.143 of its half-maps, unmasked.
    pub resolution_angstrom: f64,
    /// Median turn since the round before.
    pub change_deg: Option<f64>,
    /// Median move since the round before.
    pub change_angstrom: Option<f64>,
    /// How long it took.
    pub seconds: f64,
    /// How long its tasks ran.
    pub stages: StageTimes,
}

/// How long tasks ran, in seconds, added up over workers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StageTimes {
    /// Alignment.
    pub align: f64,
    /// Insertion.
    pub insert: f64,
    /// Summing.
    pub sum: f64,
}

impl StageTimes {
    /// In the order in which they are drawn.
    pub fn parts(&self) -> [f64; 3] {
        [self.align, self.insert, self.sum]
    }
}

/// A particle and what the map looks like from where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ParticleView {
    /// From 1, in the particle file.
    pub number: usize,
    /// Its image.
    pub particle: Grey,
    /// The map's projection at its pose, as the microscope would show it.
    pub reprojection: Grey,
    /// The weight of that pose.
    pub weight: f64,
}

/// What one worker computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// How many tasks.
    pub task_count: usize,
    /// How long they ran.
    pub stages: StageTimes,
}
