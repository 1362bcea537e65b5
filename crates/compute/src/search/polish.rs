//! Poses brought to the top of their hill: damped Gauss–Newton steps in rotation and shift, on the Fourier pixels.
//!
//! The model of an image is s C P(k) e^{2πi k·t/n}, and the residual's derivatives are those of the interpolated slice
//! along its axes. All candidates climb first at low resolution, where hills are wide, and the best go on at ever higher
//! limits. What came of them are the modes of the particle's posterior; the curvature at each is its width.

use std::f64::consts::TAU;

use nalgebra::{SMatrix, SVector, Vector3};
use num_complex::Complex32;

use super::bank::ReferenceBank;
use super::image::Preparation;
use super::modes::modes;
use super::normal_equations::{DataBlock, PARAMETERS, POSE_PARAMETERS, Phases, Sums, add_block};
use super::{Alignment, Candidate, ScoreMode, SearchError, Trust, proceed};
use crate::ctf::{Applied, Ctf};
use crate::fft::frequency_index;
use crate::orientation::Rotation;
use crate::projector::{GRADIENT_POINTS, GradientBlock, Projector};
use crate::sampling;

/// Hills that are climbed to the top: what lies elsewhere has next to no part in a posterior.
const MODES_MAX: usize = 4;

/// The climbs in turn: at most so many steps for at most so many candidates, each at its limit.
const CLIMBS: [Climb; 3] = [
    Climb {
        limit: Limit::Wide,
        candidate_count: usize::MAX,
        step_count: 3,
    },
    Climb {
        limit: Limit::Global,
        candidate_count: 6,
        step_count: 3,
    },
    Climb {
        limit: Limit::Full,
        candidate_count: MODES_MAX,
        step_count: 6,
    },
];

struct Climb {
    limit: Limit,
    candidate_count: usize,
    step_count: usize,
}

#[derive(Clone, Copy)]
enum Limit {
    /// This part of the global search's limit: a pose half a step of its grid off is still on its hill.
    Wide,
    /// The global search's own limit.
    Global,
    /// The resolution limit.
    Full,
}

/// See [`Limit::Wide`].
const WIDE: f64 = 0.6;

/// Two candidates nearer than this part of the global search's step have climbed the same hill.
const SAME_HILL_STEPS: f64 = 0.4;

/// Damping of the first step, and what success and failure make of it (Marquardt 1963).
const DAMPING_FIRST: f64 = 1e-2;
const DAMPING_EASED: f64 = 0.2;
const DAMPING_RAISED: f64 = 10.0;

/// A climb ends where the next step promises less than this in log-likelihood.
const GAIN_MIN: f64 = 1e-3;

/// A pose with all that its surroundings say.
#[derive(Clone)]
pub(super) struct Scored {
    pub pose: Candidate,
    /// How the score grows with each parameter.
    pub slope: SVector<f64, PARAMETERS>,
    /// How much of that a step takes away (the Gauss–Newton matrix).
    pub curvature: SMatrix<f64, PARAMETERS, PARAMETERS>,
    pub cross: f64,
    pub norm: f64,
}

pub(super) struct Polish<'a> {
    bank: &'a ReferenceBank,
    projector: &'a Projector,
    /// Half-plane pixels without Hermitian duplicates: those of each limit in turn, then those beyond.
    points: Vec<[f32; 2]>,
    /// Each point's place in a half-plane, and its shell.
    places: Vec<usize>,
    shells: Vec<usize>,
    /// How many points lie within the wide, the global and the full limit.
    counts: [usize; 3],
    /// 1/σ² at each point within the full limit.
    weights: Vec<f32>,
    transfer: Vec<f32>,
    /// C X/σ², and C²/σ², at each point within the full limit.
    weighted: Vec<Complex32>,
    powers: Vec<f32>,
    slice: Vec<Complex32>,
}

impl<'a> Polish<'a> {
    pub fn new(bank: &'a ReferenceBank, projector: &'a Projector, sigma2: &[f64]) -> Self {
        let n = bank.box_size_px();
        let settings = bank.settings();
        let global = settings.k_max_global(n);
        let wide = ((global as f64 * WIDE) as usize).max(3).min(global);
        let limits = [wide, global, settings.k_max];
        let mut pixels = half_plane_pixels(n);
        // Pixels of a limit stay row by row: neighbours read neighbouring cells of the reference.
        let within = |shell: usize, limit: usize| (1..=limit).contains(&shell);
        pixels.sort_by_key(|pixel| {
            limits
                .iter()
                .filter(|limit| !within(pixel.0, **limit))
                .count()
        });
        let count = |limit: usize| pixels.iter().filter(|p| within(p.0, limit)).count();
        let counts = limits.map(count);
        Self {
            bank,
            projector,
            points: pixels.iter().map(|p| [p.1 as f32, p.2 as f32]).collect(),
            places: pixels
                .iter()
                .map(|p| frequency_index(p.2, n) * (n / 2 + 1) + p.1 as usize)
                .collect(),
            shells: pixels.iter().map(|p| p.0).collect(),
            counts,
            weights: pixels[..counts[2]]
                .iter()
                .map(|p| (1.0 / sigma2[p.0]) as f32)
                .collect(),
            transfer: Vec::new(),
            weighted: Vec::new(),
            powers: Vec::new(),
            slice: Vec::new(),
        }
    }

    /// Follows `candidates` uphill to the best pose and its rivals.
    pub fn refine(
        &mut self,
        image: &Preparation,
        ctf: &Ctf,
        candidates: &[Candidate],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Alignment, SearchError> {
        self.load(image, ctf);
        let mut poses = candidates.to_vec();
        let mut found: Vec<Scored> = Vec::new();
        for climb in &CLIMBS {
            proceed(go_on)?;
            let count = self.counts[climb.limit as usize];
            let climbing = poses.iter().take(climb.candidate_count);
            found = climbing
                .map(|pose| self.climb(*pose, count, climb.step_count))
                .collect();
            found.sort_by(|a, b| b.pose.score.total_cmp(&a.pose.score));
            self.drop_twins(&mut found);
            poses = found.iter().map(|scored| scored.pose).collect();
        }
        // There is always a candidate, but a score that is no number is none.
        if found.is_empty() {
            return Err(SearchError::NotFinite(0));
        }
        Ok(self.report(image, ctf, &found))
    }

    pub(super) fn load(&mut self, image: &Preparation, ctf: &Ctf) {
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
        self.powers.extend(scored.clone().map(|(c, w)| c * c * w));
        self.weighted.clear();
        self.weighted.extend(
            scored
                .zip(&self.places)
                .map(|((c, w), place)| image.plain[*place] * (ctf.data_factor(*c) * w)),
        );
    }

    /// Takes damped steps from `start` until one promises nothing, on the first `count` points.
    fn climb(&self, start: Candidate, count: usize, step_count: usize) -> Scored {
        let mut best = self.score(&start, count);
        let mut damping = DAMPING_FIRST;
        for _ in 0..step_count {
            let Some((step, promise)) = self.step(&best, damping) else {
                break;
            };
            if promise < GAIN_MIN {
                break;
            }
            let next = self.score(&self.moved(&best.pose, &step), count);
            if next.pose.score > best.pose.score && self.is_in_reach(&next.pose) {
                best = next;
                damping *= DAMPING_EASED;
            } else {
                damping *= DAMPING_RAISED;
            }
        }
        best
    }

    /// The next step, and the gain it promises. None where the curvature says nothing.
    fn step(&self, at: &Scored, damping: f64) -> Option<(SVector<f64, PARAMETERS>, f64)> {
        let mut curvature = at.curvature;
        for i in 0..PARAMETERS {
            curvature[(i, i)] *= 1.0 + damping;
        }
        if self.bank.settings().mode == ScoreMode::Likelihood {
            // The scale is known: it has no part in this.
            for i in 0..POSE_PARAMETERS {
                curvature[(i, POSE_PARAMETERS)] = 0.0;
                curvature[(POSE_PARAMETERS, i)] = 0.0;
            }
        }
        let step = curvature.cholesky()?.solve(&at.slope);
        let pose = |v: &SVector<f64, PARAMETERS>| v.fixed_rows::<POSE_PARAMETERS>(0).into_owned();
        let promise = 0.5 * pose(&step).dot(&pose(&at.slope));
        promise.is_finite().then_some((step, promise))
    }

    pub(super) fn moved(&self, pose: &Candidate, step: &SVector<f64, PARAMETERS>) -> Candidate {
        // No step goes farther than a hill is wide.
        let most = sampling::step_deg(self.bank.settings().order).to_radians() / 2.0;
        let mut turn = Vector3::new(step[0], step[1], step[2]);
        if turn.norm() > most {
            turn *= most / turn.norm();
        }
        let most_px = self.bank.settings().shift_step_px;
        let shift = |old: f64, step: f64| old + step.clamp(-most_px, most_px);
        Candidate {
            orientation: pose.orientation.then(&Rotation::from_axis_angle(turn)),
            shift_px: [
                shift(pose.shift_px[0], step[3]),
                shift(pose.shift_px[1], step[4]),
            ],
            score: f32::NEG_INFINITY,
        }
    }

    fn is_in_reach(&self, pose: &Candidate) -> bool {
        let settings = self.bank.settings();
        let reach = settings.max_shift_px + settings.shift_step_px;
        libm::hypot(pose.shift_px[0], pose.shift_px[1]) <= reach
    }

    /// Score, slope and curvature of the score at a pose, over the first `count` points.
    fn score(&self, pose: &Candidate, count: usize) -> Scored {
        let n = self.bank.box_size_px() as f64;
        let phases = Phases::new(self.bank.box_size_px(), pose.shift_px);
        let mut sums = Sums::default();
        let mut slice = GradientBlock::default();
        let mut data = DataBlock::default();
        for first in (0..count).step_by(GRADIENT_POINTS) {
            let range = first..count.min(first + GRADIENT_POINTS);
            let points = &self.points[range.clone()];
            self.projector
                .sample_gradient(&pose.orientation, points, &mut slice);
            data.load(
                points,
                &self.weighted[range.clone()],
                &self.powers[range],
                &phases,
            );
            add_block(&slice, &data, (TAU / n) as f32, &mut sums);
        }
        self.scored(pose, &sums)
    }

    fn scored(&self, pose: &Candidate, sums: &Sums) -> Scored {
        let total = |lanes: &[f64]| lanes.iter().sum::<f64>();
        let (mut slope, mut curvature) = (SVector::zeros(), SMatrix::zeros());
        let mut towards = SVector::<f64, PARAMETERS>::zeros();
        let mut next = 0;
        for i in 0..PARAMETERS {
            towards[i] = total(&sums.towards[i]);
            for j in 0..=i {
                curvature[(i, j)] = total(&sums.products[next]);
                curvature[(j, i)] = curvature[(i, j)];
                next += 1;
            }
        }
        let last = POSE_PARAMETERS;
        let (cross, norm) = (towards[last], curvature[(last, last)] / 2.0);
        let mode = self.bank.settings().mode;
        let scale = match mode {
            ScoreMode::Likelihood => 1.0,
            ScoreMode::ScaleFree => (cross / (2.0 * norm)).max(0.0),
        };
        // What the model lacks, s P against the data, along each derivative; those of a pose grow with the scale.
        for i in 0..PARAMETERS {
            let grow = if i < last { scale } else { 1.0 };
            slope[i] = (towards[i] - scale * curvature[(i, last)]) * grow;
        }
        for i in 0..last {
            for j in 0..last {
                curvature[(i, j)] *= scale * scale;
            }
            curvature[(i, last)] *= scale;
            curvature[(last, i)] *= scale;
        }
        Scored {
            pose: Candidate {
                score: mode.score(cross as f32, norm as f32),
                ..*pose
            },
            slope,
            curvature,
            cross,
            norm,
        }
    }

    /// Score, slope and curvature over all points, for tests.
    #[cfg(test)]
    pub(super) fn score_at(&self, pose: &Candidate) -> Scored {
        self.score(pose, self.counts[Limit::Full as usize])
    }

    /// Keeps the best of those that have climbed one hill.
    fn drop_twins(&self, found: &mut Vec<Scored>) {
        let apart_deg = SAME_HILL_STEPS * sampling::step_deg(self.bank.settings().order);
        let mut kept: Vec<Scored> = Vec::with_capacity(found.len());
        for scored in found.drain(..).filter(|s| s.pose.score.is_finite()) {
            let is_twin = |other: &Scored| {
                self.bank.unit.operators().iter().any(|operator| {
                    let mate = scored.pose.orientation.with_operator(operator);
                    mate.angle_to_deg(&other.pose.orientation) < apart_deg
                })
            };
            if !kept.iter().any(is_twin) {
                kept.push(scored);
            }
        }
        *found = kept;
    }

    fn report(&mut self, image: &Preparation, ctf: &Ctf, found: &[Scored]) -> Alignment {
        let best = &found[0];
        let settings = *self.bank.settings();
        let scale = if best.norm > 0.0 {
            best.cross / (2.0 * best.norm)
        } else {
            0.0
        };
        let applied = match settings.mode {
            ScoreMode::Likelihood => 1.0,
            ScoreMode::ScaleFree => scale.max(0.0) as f32,
        };
        let trust = match settings.trust {
            Trust::Independent => image.noise_share(),
            Trust::EveryPixel => 1.0,
        };
        self.slice.resize(self.points.len(), Complex32::ZERO);
        self.projector
            .sample_plane(&best.pose.orientation, &self.points, &mut self.slice);
        let mut residual_power = vec![0.0; (self.bank.box_size_px() - 1) / 2 + 1];
        let phases = Phases::new(self.bank.box_size_px(), best.pose.shift_px);
        for (i, k) in self.points.iter().enumerate() {
            let moved = image.plain[self.places[i]] * phases.at(*k);
            let model = ctf.model_factor(self.transfer[i]) * applied;
            let residual = moved - self.slice[i] * model;
            residual_power[self.shells[i]] += f64::from(residual.norm_sqr());
        }
        Alignment {
            orientation: self.bank.unit.reduce(&best.pose.orientation),
            shift_px: best.pose.shift_px,
            score: f64::from(best.pose.score),
            modes: modes(found, &self.bank.unit, settings.mode, trust),
            scale,
            residual_count: self.residual_count(ctf, residual_power.len()),
            residual_power,
        }
    }
}

impl Polish<'_> {
    /// What each shell's residual is the sum of: so many values, or where noise was multiplied by the CTF, as many as its
    /// power makes whole ones.
    fn residual_count(&self, ctf: &Ctf, shell_count: usize) -> Vec<f64> {
        let mut counts = vec![0.0; shell_count];
        for (shell, c) in self.shells.iter().zip(&self.transfer) {
            counts[*shell] += match ctf.applied() {
                Applied::Nothing | Applied::Phases => 1.0,
                Applied::Whole => f64::from(c * c),
            };
        }
        counts
    }
}

/// (shell, kx, ky) of every pixel of a box's half-plane up to its last whole shell, without mates.
fn half_plane_pixels(n: usize) -> Vec<(usize, isize, isize)> {
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
    pixels
}
