//! The local searches: ever finer grids of orientations and shifts about a candidate, on the Fourier pixels themselves.

use std::f64::consts::TAU;

use num_complex::Complex32;

use super::bank::ReferenceBank;
use super::image::Preparation;
use super::matrix::{Strided, multiply};
use super::{Alignment, Candidate, ScoreMode, SearchError, proceed};
use crate::ctf::Ctf;
use crate::fft::frequency_index;
use crate::projector::Projector;
use crate::sampling;

/// The searches in turn. Slices are what a search costs, 27 for each grid: the first sorts out the candidates, and only
/// the finer ones follow a candidate further than one grid reaches.
const STAGES: [Stage; 3] = [
    Stage {
        fineness: 2.0,
        candidate_count: usize::MAX,
        grid_count: 1,
    },
    Stage {
        fineness: 4.0,
        candidate_count: 2,
        grid_count: 2,
    },
    Stage {
        fineness: 8.0,
        candidate_count: 1,
        grid_count: 2,
    },
];

#[derive(Clone, Copy)]
struct Stage {
    /// How much finer its steps are than the global search's.
    fineness: f64,
    /// How many of the best so far go in.
    candidate_count: usize,
    /// How many grids each gets, every one about the best pose of the one before.
    grid_count: usize,
}

/// A candidate with the sums behind its score.
#[derive(Clone, Copy)]
struct Scored {
    pose: Candidate,
    cross: f32,
    norm: f32,
    /// Whether it is the very pose its grid was laid about: laid again, the grid would find it again.
    at_centre: bool,
}

pub(super) struct LocalSearch<'a> {
    bank: &'a ReferenceBank,
    projector: &'a Projector,
    /// Half-plane pixels of shells 1..=k_max without Hermitian duplicates, then those beyond up to the box's limit.
    points: Vec<[f32; 2]>,
    /// Each point's place in a half-plane, and its shell.
    places: Vec<usize>,
    shells: Vec<usize>,
    /// How many points lie within the limit.
    scored_count: usize,
    /// 1/σ² at each of those.
    weights: Vec<f32>,
    transfer: Vec<f32>,
    /// C X/σ², and C²/(2σ²), at each point within the limit.
    weighted: Vec<Complex32>,
    powers: Vec<f32>,
    slice: Vec<Complex32>,
    slices: Vec<f32>,
    columns: Vec<f32>,
}

impl<'a> LocalSearch<'a> {
    pub fn new(bank: &'a ReferenceBank, projector: &'a Projector, sigma2: &[f64]) -> Self {
        let n = bank.box_size_px();
        let limit = (n - 1) / 2;
        let mut pixels = Vec::new();
        for ky in -(limit as isize)..=limit as isize {
            for kx in 0..=limit as isize {
                let shell = libm::round(libm::sqrt((kx * kx + ky * ky) as f64)) as usize;
                if shell <= limit && (kx > 0 || ky >= 0) {
                    pixels.push((shell, kx, ky));
                }
            }
        }
        let k_max = bank.settings().k_max;
        let within = |shell: usize| (1..=k_max).contains(&shell);
        pixels.sort_by_key(|pixel| !within(pixel.0));
        let scored_count = pixels.iter().filter(|pixel| within(pixel.0)).count();
        Self {
            bank,
            projector,
            points: pixels.iter().map(|p| [p.1 as f32, p.2 as f32]).collect(),
            places: pixels
                .iter()
                .map(|p| frequency_index(p.2, n) * (n / 2 + 1) + p.1 as usize)
                .collect(),
            shells: pixels.iter().map(|p| p.0).collect(),
            scored_count,
            weights: pixels[..scored_count]
                .iter()
                .map(|p| (1.0 / sigma2[p.0]) as f32)
                .collect(),
            transfer: Vec::new(),
            weighted: Vec::new(),
            powers: Vec::new(),
            slice: Vec::new(),
            slices: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Follows `candidates` to the best pose.
    pub fn refine(
        &mut self,
        image: &Preparation,
        ctf: &Ctf,
        candidates: &[Candidate],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Alignment, SearchError> {
        self.load(image, ctf);
        let mut poses: Vec<Candidate> = candidates.to_vec();
        let mut runner_up = None;
        let mut best = None;
        for (index, stage) in STAGES.iter().enumerate() {
            let mut found = Vec::with_capacity(poses.len());
            for pose in poses.iter().take(stage.candidate_count) {
                proceed(go_on)?;
                found.push(self.climb(*pose, stage));
            }
            found.sort_by(|a, b| b.pose.score.total_cmp(&a.pose.score));
            if index == 0 {
                runner_up = found.get(1).map(|second| f64::from(second.pose.score));
            }
            poses = found.iter().map(|scored| scored.pose).collect();
            best = found.first().copied();
        }
        // The grid is never empty, but a score that is no number is no candidate.
        let best = best.ok_or(SearchError::NotFinite(0))?;
        Ok(self.report(image, best, runner_up))
    }

    fn load(&mut self, image: &Preparation, ctf: &Ctf) {
        let step =
            1.0 / (self.bank.box_size_px() as f64 * self.bank.settings().pixel_size_angstrom);
        self.transfer.clear();
        self.transfer.extend(
            self.points
                .iter()
                .map(|k| ctf.value(f64::from(k[0]) * step, f64::from(k[1]) * step) as f32),
        );
        let scored = self.transfer.iter().zip(&self.weights);
        self.powers.clear();
        self.powers
            .extend(scored.clone().map(|(c, w)| c * c * w * 0.5));
        self.weighted.clear();
        self.weighted.extend(
            scored
                .zip(&self.places)
                .map(|((c, w), place)| image.plain[*place] * (c * w)),
        );
    }

    /// Moves a grid of a stage's steps uphill from `start`.
    fn climb(&mut self, start: Candidate, stage: &Stage) -> Scored {
        let settings = *self.bank.settings();
        let step_deg = sampling::step_deg(settings.order) / stage.fineness;
        let shift_step_px = settings.shift_step_px / stage.fineness;
        let mut best = self.best_near(&start, step_deg, shift_step_px);
        for _ in 1..stage.grid_count {
            if best.at_centre {
                break;
            }
            let next = self.best_near(&best.pose, step_deg, shift_step_px);
            if next.pose.score <= best.pose.score {
                break;
            }
            best = next;
        }
        best
    }

    /// The best of 27 orientations × 9 shifts.
    fn best_near(&mut self, centre: &Candidate, step_deg: f64, shift_step_px: f64) -> Scored {
        let count = self.scored_count;
        let orientations = sampling::neighbours(&centre.orientation, step_deg);
        let mut norms = Vec::with_capacity(orientations.len());
        self.slices.clear();
        self.slice.resize(self.points.len(), Complex32::ZERO);
        for orientation in &orientations {
            let slice = &mut self.slice[..count];
            self.projector
                .sample_plane(orientation, &self.points[..count], slice);
            norms.push(weighted_power(slice, &self.powers));
            self.slices
                .extend(slice.iter().flat_map(|value| [value.re, value.im]));
        }
        let reach = self.bank.settings().max_shift_px + self.bank.settings().shift_step_px;
        let shifts: Vec<[f64; 2]> = (0..9)
            .map(|i| [f64::from(i % 3 - 1), f64::from(i / 3 - 1)])
            .map(|[x, y]| {
                [
                    centre.shift_px[0] + x * shift_step_px,
                    centre.shift_px[1] + y * shift_step_px,
                ]
            })
            .collect();
        self.columns.clear();
        for shift in &shifts {
            self.push_moved(*shift);
        }
        let mut crosses = vec![0.0; orientations.len() * shifts.len()];
        multiply(
            &mut crosses,
            [orientations.len(), 2 * count, shifts.len()],
            Strided {
                data: &self.slices,
                row_stride: 2 * count,
                column_stride: 1,
            },
            Strided {
                data: &self.columns,
                row_stride: 1,
                column_stride: 2 * count,
            },
        );
        let mode = self.bank.settings().mode;
        let mut best: Option<Scored> = None;
        for (shift_px, crosses) in shifts
            .into_iter()
            .zip(crosses.chunks_exact(orientations.len()))
        {
            if libm::hypot(shift_px[0], shift_px[1]) > reach && shift_px != centre.shift_px {
                continue;
            }
            for ((&orientation, &cross), &norm) in orientations.iter().zip(crosses).zip(&norms) {
                let score = mode.score(cross, norm);
                if best.is_none_or(|b| score > b.pose.score) {
                    best = Some(Scored {
                        pose: Candidate {
                            orientation,
                            shift_px,
                            score,
                        },
                        cross,
                        norm,
                        at_centre: shift_px == centre.shift_px && orientation == centre.orientation,
                    });
                }
            }
        }
        best.unwrap_or(Scored {
            pose: *centre,
            cross: 0.0,
            norm: 0.0,
            at_centre: true,
        })
    }

    /// Adds a column: the weighted image moved by a shift. Its phases are products of one along x and one along y.
    fn push_moved(&mut self, shift_px: [f64; 2]) {
        let n = self.bank.box_size_px();
        let limit = n as isize / 2;
        let phases = shift_px.map(|shift| {
            (-limit..=limit)
                .map(|k| {
                    let (sin, cos) = libm::sincos(-TAU * k as f64 * shift / n as f64);
                    Complex32::new(cos as f32, sin as f32)
                })
                .collect::<Vec<_>>()
        });
        for (value, k) in self.weighted.iter().zip(&self.points) {
            let moved = value
                * (phases[0][(k[0] as isize + limit) as usize]
                    * phases[1][(k[1] as isize + limit) as usize]);
            self.columns.extend([moved.re, moved.im]);
        }
    }

    fn report(&mut self, image: &Preparation, best: Scored, runner_up: Option<f64>) -> Alignment {
        let n = self.bank.box_size_px() as f64;
        let norm = f64::from(best.norm);
        let scale = if norm > 0.0 {
            f64::from(best.cross) / (2.0 * norm)
        } else {
            0.0
        };
        let applied = match self.bank.settings().mode {
            ScoreMode::Likelihood => 1.0,
            ScoreMode::ScaleFree => scale.max(0.0) as f32,
        };
        self.slice.resize(self.points.len(), Complex32::ZERO);
        self.projector
            .sample_plane(&best.pose.orientation, &self.points, &mut self.slice);
        let mut residual_power = vec![0.0; (self.bank.box_size_px() - 1) / 2 + 1];
        let [dx, dy] = best.pose.shift_px;
        for (i, k) in self.points.iter().enumerate() {
            let (sin, cos) = libm::sincos(-TAU * (f64::from(k[0]) * dx + f64::from(k[1]) * dy) / n);
            let moved = image.plain[self.places[i]] * Complex32::new(cos as f32, sin as f32);
            let residual = moved - self.slice[i] * (self.transfer[i] * applied);
            residual_power[self.shells[i]] += f64::from(residual.norm_sqr());
        }
        Alignment {
            orientation: self.bank.unit.reduce(&best.pose.orientation),
            shift_px: best.pose.shift_px,
            score: f64::from(best.pose.score),
            runner_up,
            scale,
            residual_power,
        }
    }
}

/// Σ power |P|², in sixteen interleaved sums: an order of additions that vector units can follow.
fn weighted_power(slice: &[Complex32], powers: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    for (values, powers) in slice.chunks(16).zip(powers.chunks(16)) {
        for ((sum, value), power) in sums.iter_mut().zip(values).zip(powers) {
            *sum += value.norm_sqr() * power;
        }
    }
    sums.iter().sum()
}
