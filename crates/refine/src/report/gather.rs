//! From what a refinement knows to the figures that are drawn.

use super::{Source, particles};
use crate::{
    figures::RoundFigures,
    postprocess::Found,
    round::{StageSeconds, WorkerSeconds},
};
use dewar_compute::{postprocess::FIT_FROM_ANGSTROM, volume::Volume};
use dewar_report::{
    Figures, Fsc, Grey, GreyError, Guinier, Line, MapViews, Masked, Poses, Round, Sky, StageTimes,
    Worker,
};
use std::collections::BTreeMap;

/// All there is to draw; what cannot be had is told in `problems`.
pub fn figures(source: &Source<'_>, problems: &mut Vec<String>) -> Figures {
    let mut told = |error: String| problems.push(error);
    let found = source.ending.map(|ending| ending.found);
    let rounds = &source.state.rounds;
    let pixel_size_angstrom = source.prepared.set.pixel_size_angstrom;
    let shown = source.map.map(|map| particles::views(source, map));
    Figures {
        fsc: source.fsc.map(|unmasked| fsc(source, unmasked, found)),
        guinier: found.map(|found| guinier(found, source.box_angstrom())),
        map: source.map.and_then(|map| {
            views(map, pixel_size_angstrom)
                .map_err(|error| told(error.to_string()))
                .ok()
        }),
        poses: (!source.state.poses.is_empty()).then(|| poses(source)),
        rounds: rounds.iter().map(round).collect(),
        final_stages: source
            .ending
            .map(|ending| stages(&ending.record.final_stages)),
        particles: shown
            .transpose()
            .unwrap_or_else(|error| {
                told(error.to_string());
                None
            })
            .unwrap_or_default(),
        workers: workers(source),
    }
}

fn fsc(source: &Source<'_>, unmasked: &[f64], found: Option<&Found>) -> Fsc {
    let curves = found.map(|found| &found.map.curves);
    Fsc {
        box_angstrom: source.box_angstrom(),
        unmasked: curves.map_or(unmasked, |curves| &curves.unmasked).to_vec(),
        masked: found.map(masked),
    }
}

fn masked(found: &Found) -> Masked {
    let curves = &found.map.curves;
    Masked {
        masked: curves.masked.clone(),
        randomised: curves.randomised.clone(),
        corrected: curves.corrected.clone(),
        resolution_angstrom: found.map.resolution.at_0_143,
    }
}

/// The Guinier plot of what post-processing found.
fn guinier(found: &Found, box_angstrom: f64) -> Guinier {
    let map = &found.map;
    let line = map.guinier.zip(map.resolution.at_0_143);
    Guinier {
        box_angstrom,
        amplitudes: map.amplitudes.clone(),
        line: line.map(|(fit, limit)| Line {
            slope: fit.slope,
            intercept: fit.intercept,
            from_angstrom: FIT_FROM_ANGSTROM,
            to_angstrom: limit,
            b_factor_angstrom2: map.b_factor_angstrom2,
        }),
    }
}

/// What `dewar postprocess` draws.
pub fn of_postprocessed(found: &Found, pixel_size_angstrom: f64) -> Figures {
    let box_angstrom = found.map.mask.n() as f64 * pixel_size_angstrom;
    Figures {
        fsc: Some(Fsc {
            box_angstrom,
            unmasked: found.map.curves.unmasked.clone(),
            masked: Some(masked(found)),
        }),
        guinier: Some(guinier(found, box_angstrom)),
        ..Figures::default()
    }
}

/// Slices through the centre, and sums, across z, y and x.
fn views(map: &Volume, pixel_size_angstrom: f64) -> Result<MapViews, GreyError> {
    let (n, data) = (map.n(), map.data());
    let centre = n / 2;
    let slice = |at: fn(usize, usize, usize, usize) -> usize| {
        let pixels = (0..n * n).map(|pixel| data[at(n, centre, pixel / n, pixel % n)]);
        Grey::new(n, pixels.collect())
    };
    let sum = |at: fn(usize, usize, usize, usize) -> usize| {
        let mut sums = vec![0.0_f32; n * n];
        for depth in 0..n {
            for (pixel, sum) in sums.iter_mut().enumerate() {
                *sum += data[at(n, depth, pixel / n, pixel % n)];
            }
        }
        Grey::new(n, sums)
    };
    Ok(MapViews {
        pixel_size_angstrom,
        slices: [slice(across_z)?, slice(across_y)?, slice(across_x)?],
        projections: [sum(across_z)?, sum(across_y)?, sum(across_x)?],
    })
}

/// The voxel at a depth, row and column of a view.
fn across_z(n: usize, depth: usize, row: usize, column: usize) -> usize {
    (depth * n + row) * n + column
}

fn across_y(n: usize, depth: usize, row: usize, column: usize) -> usize {
    (row * n + depth) * n + column
}

fn across_x(n: usize, depth: usize, row: usize, column: usize) -> usize {
    (row * n + column) * n + depth
}

fn poses(source: &Source<'_>) -> Poses {
    let operators = source.prepared.group.operators();
    let mut sky = Sky::default();
    for pose in &source.state.poses {
        let orientation = pose.orientation();
        for operator in &operators {
            let seen = orientation.with_operator(operator).0;
            sky.add([seen[(2, 0)], seen[(2, 1)], seen[(2, 2)]]);
        }
    }
    let best = || source.state.poses.iter().map(|pose| pose.best());
    Poses {
        sky,
        weights: best().map(|mode| mode.weight).collect(),
        shifts_angstrom: best()
            .map(|mode| mode.shift_angstrom[0].hypot(mode.shift_angstrom[1]))
            .collect(),
    }
}

fn round(figures: &RoundFigures) -> Round {
    Round {
        iteration: figures.iteration,
        limit_angstrom: figures.limit_angstrom,
        resolution_angstrom: figures.resolution_angstrom,
        change_deg: figures.change_deg,
        change_angstrom: figures.change_angstrom,
        seconds: figures.seconds,
        stages: stages(&figures.stages),
    }
}

fn stages(seconds: &StageSeconds) -> StageTimes {
    StageTimes {
        align: seconds.align,
        insert: seconds.insert,
        sum: seconds.sum,
    }
}

/// Each worker over all rounds and the final maps, by name.
fn workers(source: &Source<'_>) -> Vec<Worker> {
    let rounds = source.state.rounds.iter().map(|round| &round.workers);
    let last = source.ending.map(|ending| &ending.record.final_workers);
    added_up(rounds.chain(last).flatten())
}

fn added_up<'a>(parts: impl Iterator<Item = &'a WorkerSeconds>) -> Vec<Worker> {
    let mut all: BTreeMap<&str, Worker> = BTreeMap::new();
    for WorkerSeconds {
        name,
        task_count,
        stages: seconds,
    } in parts
    {
        let worker = all.entry(name).or_insert_with(|| Worker {
            name: name.clone(),
            task_count: 0,
            stages: StageTimes::default(),
        });
        worker.task_count += task_count;
        worker.stages.align += seconds.align;
        worker.stages.insert += seconds.insert;
        worker.stages.sum += seconds.sum;
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A voxel at (x, y, z) of this value, from the corner.
    fn one_voxel([x, y, z]: [usize; 3]) -> Volume {
        let mut map = Volume::zeros(8).unwrap();
        map.data_mut()[(z * 8 + y) * 8 + x] = 1.0;
        map
    }

    fn grey(lit: Option<(usize, usize)>) -> Grey {
        let mut values = vec![0.0; 64];
        if let Some((row, column)) = lit {
            values[row * 8 + column] = 1.0;
        }
        Grey::new(8, values).unwrap()
    }

    #[test]
    fn views_show_the_maps_own_voxels() {
        let found = views(&one_voxel([1, 2, 4]), 3.0).unwrap();
        let [z, y, x] = found.projections;
        assert_eq!(z, grey(Some((2, 1))), "rows are y, columns x");
        assert_eq!(y, grey(Some((4, 1))), "rows are z, columns x");
        assert_eq!(x, grey(Some((4, 2))), "rows are z, columns y");
        // The voxel lies in the central plane of z alone.
        let [z, y, x] = found.slices;
        assert_eq!((z, y, x), (grey(Some((2, 1))), grey(None), grey(None)));
    }

    #[test]
    fn a_worker_is_told_once() {
        let seconds = |name: &str, align: f64| WorkerSeconds {
            name: name.to_owned(),
            task_count: 2,
            stages: StageSeconds {
                align,
                ..StageSeconds::default()
            },
        };
        let parts = [seconds("a", 1.0), seconds("b", 5.0), seconds("a", 2.5)];
        let told = added_up(parts.iter());
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].name.as_str(), told[0].task_count), ("a", 4));
        assert_eq!(told[0].stages.align, 3.5);
    }
}
