//! One particle against all classes: how likely each class, angle and shift is, and what it adds to the averages.

mod scores;

use num_complex::Complex32;

use super::grid::{ClassGrid, POWER_FREQUENCY_COUNT};
use super::references::ClassReferences;
use super::sums::{ClassSums, add_turned};
use crate::ctf::{Applied, Ctf, CtfParams};
use crate::fft::half_plane_len;
use crate::noise::{for_each_frequency, shell_power};
use crate::search::SearchError;
use crate::search::image::Preparation;

/// What is less likely than the best by this factor, as a logarithm, counts as impossible: all of it together is less
/// than a rounding error of the sums.
const LOG_ODDS_MIN: f32 = 14.0;

/// Where a particle belongs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassPlacement {
    /// The class, from 0.
    pub class: usize,
    /// How the average is turned to match (rlnAnglePsi).
    pub psi_deg: f64,
    /// The shift to apply to centre it (rlnOriginX/Y).
    pub shift_px: [f64; 2],
}

/// What was found of one particle.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// Its likeliest place.
    pub best: ClassPlacement,
    /// What part of the posterior that place has.
    pub weight: f64,
    /// What part each class has; they sum to 1.
    pub class_weights: Vec<f64>,
    /// For each shell 0..=n/2, the power of the masked image less that of the best average, over the half-plane without
    /// Hermitian duplicates; beyond the limit, of the image.
    pub residual_power: Vec<f64>,
    /// What each of these is the sum of: so many values, or where noise was multiplied by the CTF, as many as its power
    /// makes whole ones.
    pub residual_count: Vec<f64>,
}

/// Places one particle after another, reusing its scratch.
pub struct Classifier<'a> {
    grid: &'a ClassGrid,
    pub(super) preparation: Preparation,
    shell_counts: Vec<f64>,
    /// e^{-2πi k·t/n} for each shift, at every sample.
    phases: Vec<Complex32>,
    /// For each angular frequency m, cos mψ of all angles, then sin mψ.
    turns: Vec<f32>,
    /// ln of how likely each shift is beforehand.
    shift_odds: Vec<f32>,
    /// For each m, a column y_m for each shift, then columns of -i y_m.
    columns: Vec<f32>,
    /// For each even m, a column of C²/σ², then the same times -i.
    powers: Vec<f32>,
    /// The same of the angles of half a turn, twice where m > 0 for the sake of -m: those of even m, then those of odd m.
    half_turns: Vec<f32>,
    /// As `half_turns`, for each shift and class.
    products: Vec<f32>,
    /// For each shift and class, what even frequencies have in the scores of all angles of half a turn; then what odd ones
    /// have. Half a turn further, the former is the same and the latter its negative.
    halves: [Vec<f32>; 2],
    /// For each shift and class, the scores of all angles.
    scores: Vec<f32>,
    /// For each class, those of the angles of half a turn: the rest are the same.
    norms: Vec<f32>,
}

/// A place with its weight, in the grid's numbers.
#[derive(Debug, Clone, Copy)]
struct Place {
    class: usize,
    shift: usize,
    psi: usize,
    weight: f32,
}

impl<'a> Classifier<'a> {
    /// Prepares for images of the grid.
    ///
    /// # Errors
    /// If the box has no transform.
    pub fn new(grid: &'a ClassGrid) -> Result<Self, SearchError> {
        let settings = grid.settings();
        let mut turns = Vec::with_capacity(2 * grid.frequency_count() * grid.psi_count);
        for m in 0..grid.frequency_count() {
            let angle = |psi: usize| grid.psi(m * psi % grid.psi_count);
            turns.extend((0..grid.psi_count).map(|psi| libm::cos(angle(psi)) as f32));
            turns.extend((0..grid.psi_count).map(|psi| libm::sin(angle(psi)) as f32));
        }
        let half_turns = by_parity(grid)
            .flat_map(|m| turns_of(&turns, grid, m).map(move |turns| (m, turns)))
            .flat_map(|(m, turns)| {
                let half = turns[..grid.psi_count / 2].iter();
                half.map(move |turn| mates(m) * turn)
            })
            .collect();
        // Most particles lie near the centre: the largest shift is two standard deviations.
        let variance = (settings.max_shift_px / 2.0).max(1.0).powi(2);
        let odds = |t: &[f64; 2]| (-(t[0] * t[0] + t[1] * t[1]) / (2.0 * variance)) as f32;
        Ok(Self {
            preparation: Preparation::new(settings.box_size_px, &grid.search_settings())?,
            shell_counts: crate::noise::shell_counts(settings.box_size_px),
            phases: grid
                .rings
                .shift_phases(&grid.shifts_px, settings.box_size_px),
            turns,
            half_turns,
            shift_odds: grid.shifts_px.iter().map(odds).collect(),
            columns: vec![0.0; 2 * grid.shifts_px.len() * grid.coefficient_count()],
            powers: vec![0.0; 2 * grid.power_count()],
            products: Vec::new(),
            halves: [Vec::new(), Vec::new()],
            scores: Vec::new(),
            norms: Vec::new(),
            grid,
        })
    }

    /// Finds where a particle belongs, and adds it to the sums of every class by its weight there. Noise variance (of real
    /// and imaginary part each) in shell s is `sigma2[s]`.
    ///
    /// # Errors
    /// If the image, its CTF or the noise make no sense.
    pub fn classify(
        &mut self,
        pixels: &[f32],
        ctf: &CtfParams,
        sigma2: &[f64],
        references: &ClassReferences,
        sums: &mut ClassSums,
    ) -> Result<Classified, SearchError> {
        let ctf = self.load(pixels, ctf, sigma2)?;
        self.score(references);
        let places = self.posterior(references);
        let Some(best) = places.iter().copied().reduce(likelier) else {
            return Err(SearchError::NotFinite(0));
        };
        let mut class_weights = vec![0.0; references.class_count()];
        for place in &places {
            class_weights[place.class] += f64::from(place.weight);
        }
        self.add(&places, sums);
        let residual_count = self.residual_count(&ctf);
        Ok(Classified {
            best: ClassPlacement {
                class: best.class,
                psi_deg: self.grid.psi(best.psi).to_degrees(),
                shift_px: self.grid.shifts_px[best.shift],
            },
            weight: f64::from(best.weight),
            class_weights,
            residual_power: self.residual_power(&best, sigma2, &residual_count, references),
            residual_count,
        })
    }

    /// Adds a particle to the sums of one class at one angle, as it lies: how averages begin.
    ///
    /// # Errors
    /// If the image, its CTF or the noise make no sense, or there is no such class.
    pub fn put(
        &mut self,
        pixels: &[f32],
        ctf: &CtfParams,
        sigma2: &[f64],
        [class, psi]: [usize; 2],
        sums: &mut ClassSums,
    ) -> Result<Classified, SearchError> {
        if class >= sums.class_count() {
            let (name, value) = ("class", class as f64);
            return Err(SearchError::Setting { name, value });
        }
        let ctf = self.load(pixels, ctf, sigma2)?;
        let place = Place {
            class,
            shift: self.grid.centre(),
            psi: psi % self.grid.psi_count,
            weight: 1.0,
        };
        self.add(&[place], sums);
        let mut class_weights = vec![0.0; sums.class_count()];
        class_weights[class] = 1.0;
        Ok(Classified {
            best: ClassPlacement {
                class,
                psi_deg: self.grid.psi(place.psi).to_degrees(),
                shift_px: [0.0; 2],
            },
            weight: 1.0,
            class_weights,
            residual_power: self.image_power(),
            residual_count: self.residual_count(&ctf),
        })
    }

    /// All places that matter, with weights that sum to 1. Scores become log-odds on the way.
    fn posterior(&mut self, references: &ClassReferences) -> Vec<Place> {
        let (psi_count, rows) = (self.grid.psi_count, references.row_count);
        let half = psi_count / 2;
        // The mask leaves so many independent values of those that were summed.
        let share = self.preparation.noise_share() as f32;
        let lanes = self.scores.chunks_exact_mut(psi_count).enumerate();
        let tops: Vec<f32> = lanes
            .map(|(lane, scores)| {
                let (shift, class) = (lane / rows, lane % rows);
                if references.is_empty(class) {
                    return f32::NEG_INFINITY;
                }
                let odds = self.shift_odds[shift];
                let norms = &self.norms[class * half..][..half];
                let [even, odd] = self.halves.each_ref().map(|of| &of[lane * half..][..half]);
                let (near, far) = scores.split_at_mut(half);
                let mut top = f32::NEG_INFINITY;
                for (at, norm) in norms.iter().enumerate() {
                    near[at] = (even[at] + odd[at] - norm) * share + odds;
                    far[at] = (even[at] - odd[at] - norm) * share + odds;
                    top = top.max(near[at]).max(far[at]);
                }
                top
            })
            .collect();
        let best = tops.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut places = Vec::new();
        let near = |(_, top): &(usize, &f32)| **top > best - LOG_ODDS_MIN;
        for (lane, _) in tops.iter().enumerate().filter(near) {
            let scores = &self.scores[lane * psi_count..][..psi_count];
            for (psi, score) in scores.iter().enumerate() {
                if *score > best - LOG_ODDS_MIN {
                    let weight = libm::expf(score - best);
                    let (shift, class) = (lane / rows, lane % rows);
                    places.push(Place {
                        class,
                        shift,
                        psi,
                        weight,
                    });
                }
            }
        }
        let total: f64 = places.iter().map(|place| f64::from(place.weight)).sum();
        for place in &mut places {
            place.weight = (f64::from(place.weight) / total) as f32;
        }
        places
    }

    /// Adds the image, turned to each place by its weight, to the sums of the place's class.
    fn add(&self, places: &[Place], sums: &mut ClassSums) {
        let grid = self.grid;
        let same_lane = |a: &Place, b: &Place| a.class == b.class && a.shift == b.shift;
        let mut turned = vec![Complex32::ZERO; grid.frequency_count()];
        for lane in places.chunk_by(same_lane) {
            self.sum_turns(lane, &mut turned);
            let (class, shift) = (lane[0].class, lane[0].shift);
            let (numerators, denominators) = sums.of_class(grid, class);
            for (m, factor) in turned.iter().enumerate() {
                let (offset, length) = grid.span(m);
                let columns = column_starts(grid, m, shift).map(|at| &self.columns[at..][..length]);
                add_turned(&mut numerators[offset..][..length], columns, *factor);
            }
            let length = 2 * grid.settings.k_max;
            let even = turned.iter().step_by(2).take(POWER_FREQUENCY_COUNT);
            for (frequency, factor) in even.enumerate() {
                let columns =
                    [0, 1].map(|at| &self.powers[(2 * frequency + at) * length..][..length]);
                add_turned(
                    &mut denominators[frequency * length..][..length],
                    columns,
                    *factor,
                );
            }
        }
    }

    /// Σ w e^{-imψ} of places that differ in ψ, for every m.
    fn sum_turns(&self, lane: &[Place], turned: &mut [Complex32]) {
        let psi_count = self.grid.psi_count;
        for (factor, turns) in turned
            .iter_mut()
            .zip(self.turns.chunks_exact(2 * psi_count))
        {
            *factor = Complex32::ZERO;
            for place in lane {
                factor.re += place.weight * turns[place.psi];
                factor.im -= place.weight * turns[psi_count + place.psi];
            }
        }
    }

    pub(super) fn image_power(&self) -> Vec<f64> {
        let n = self.grid.settings.box_size_px;
        let means = shell_power(n, &self.preparation.plain);
        let pairs = means.iter().zip(&self.shell_counts);
        pairs.map(|(mean, count)| mean * count).collect()
    }

    /// What each shell's residual is the sum of.
    fn residual_count(&self, ctf: &Ctf) -> Vec<f64> {
        if ctf.applied() != Applied::Whole {
            return self.shell_counts.clone();
        }
        let settings = &self.grid.settings;
        let n = settings.box_size_px;
        let mut transfer = vec![0.0; half_plane_len(n)];
        ctf.fill_half_plane(n, settings.pixel_size_angstrom, &mut transfer);
        let mut counts = vec![0.0; self.shell_counts.len()];
        for_each_frequency(n, |index, shell| {
            counts[shell] += f64::from(transfer[index] * transfer[index]);
        });
        counts
    }

    /// Σ |X - C P|² = Σ |X|² - 2σ² (cross - norm), ring by ring. Of an image that was multiplied by its CTF that is what C P
    /// takes from X / C; what C² P takes from X is the less the smaller C² is, for which its mean over the shell stands.
    fn residual_power(
        &self,
        best: &Place,
        sigma2: &[f64],
        counts: &[f64],
        references: &ClassReferences,
    ) -> Vec<f64> {
        let grid = self.grid;
        let k_max = grid.settings.k_max;
        let mut gains = vec![0.0_f64; k_max];
        let turn = |m: usize| {
            turns_of(&self.turns, grid, m).map(|turns| f64::from(mates(m) * turns[best.psi]))
        };
        for m in 0..grid.frequency_count() {
            let length = grid.span(m).1;
            let average = &references.coefficients[references.at(grid, best.class, m)..][..length];
            let columns =
                column_starts(grid, m, best.shift).map(|at| &self.columns[at..][..length]);
            let products = ring_products(average, columns);
            let [cos, sin] = turn(m);
            for (gain, [re, im]) in gains[grid.first_ring(m)..].iter_mut().zip(products) {
                *gain += cos * re + sin * im;
            }
        }
        for frequency in 0..POWER_FREQUENCY_COUNT.min(grid.frequency_count().div_ceil(2)) {
            let length = 2 * k_max;
            let at = references.power_at(grid, best.class, frequency);
            let columns = [0, 1].map(|at| &self.powers[(2 * frequency + at) * length..][..length]);
            let products = ring_products(&references.powers[at..][..length], columns);
            let [cos, sin] = turn(2 * frequency);
            for (gain, [re, im]) in gains.iter_mut().zip(products) {
                *gain -= (cos * re + sin * im) / 2.0;
            }
        }
        let mut power = self.image_power();
        for (ring, gain) in grid.rings.rings.iter().zip(gains) {
            let multiplied = counts[ring.radius] / self.shell_counts[ring.radius];
            let shell = &mut power[ring.radius];
            *shell = (*shell - 2.0 * sigma2[ring.radius] * gain * multiplied).max(0.0);
        }
        power
    }
}

/// Angular frequencies, the even ones first.
fn by_parity(grid: &ClassGrid) -> impl Iterator<Item = usize> {
    let count = grid.frequency_count();
    (0..count).step_by(2).chain((1..count).step_by(2))
}

/// How many frequencies m stands for: -m gives the conjugate of what m gives.
fn mates(m: usize) -> f32 {
    if m == 0 { 1.0 } else { 2.0 }
}

/// cos mψ of all angles, and sin mψ.
fn turns_of<'a>(turns: &'a [f32], grid: &ClassGrid, m: usize) -> [&'a [f32]; 2] {
    let psi_count = grid.psi_count;
    [0, 1].map(|at| &turns[(2 * m + at) * psi_count..][..psi_count])
}

/// Re and Im of y p* for each ring, y being given as a column and the same times -i.
fn ring_products<'a>(
    average: &'a [f32],
    columns: [&'a [f32]; 2],
) -> impl Iterator<Item = [f64; 2]> + 'a {
    let half = average.len() / 2;
    (0..half).map(move |at| {
        columns.map(|column| {
            f64::from(average[at] * column[at] + average[at + half] * column[at + half])
        })
    })
}

/// Where the columns of angular frequency m and a shift begin: y_m, and -i y_m.
fn column_starts(grid: &ClassGrid, m: usize, shift: usize) -> [usize; 2] {
    let ((offset, length), shift_count) = (grid.span(m), grid.shifts_px.len());
    let start = 2 * shift_count * offset;
    [shift, shift_count + shift].map(|column| start + column * length)
}

fn likelier(a: Place, b: Place) -> Place {
    if b.weight > a.weight { b } else { a }
}
