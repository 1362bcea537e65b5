//! What a particle file says that cannot be: units mistaken, signs turned, one image in two places.

use dewar_formats::particles::{HalfSet, ParticleSet};
use std::{collections::HashMap, fmt, path::PathBuf};

/// Defocus below this is focus, or stated in other units: no particle would be seen.
const DEFOCUS_MIN_ANGSTROM: f64 = 100.0;

/// Ten micrometres: more is stated in other units.
const DEFOCUS_MAX_ANGSTROM: f64 = 100_000.0;

/// What microscopes have.
const VOLTAGE_KV: std::ops::RangeInclusive<f64> = 40.0..=1200.0;

/// What lenses have; 0 behind a corrector.
const SPHERICAL_ABERRATION_MM: std::ops::RangeInclusive<f64> = -10.0..=10.0;

/// Every problem of the file that its reader, who knows no physics, lets pass.
pub fn problems(set: &ParticleSet) -> Vec<String> {
    let name = set.path.display();
    let found = optics(set).into_iter().chain(defocus(set));
    let found = found.chain(one_file_twice(set)).chain(one_place_twice(set));
    found.map(|problem| format!("{name}: {problem}")).collect()
}

fn optics(set: &ParticleSet) -> Vec<String> {
    let mut problems = Vec::new();
    for group in &set.optics {
        let mut outside = |label: &str, value: f64, expected: &dyn fmt::Display| {
            problems.push(format!(
                "optics group {}: {label} is {value}; expected {expected}",
                group.number
            ));
        };
        if !VOLTAGE_KV.contains(&group.voltage_kv) {
            outside("rlnVoltage", group.voltage_kv, &"kV, such as 300");
        }
        if !SPHERICAL_ABERRATION_MM.contains(&group.spherical_aberration_mm) {
            let value = group.spherical_aberration_mm;
            outside("rlnSphericalAberration", value, &"mm, such as 2.7");
        }
        if !(0.0..=1.0).contains(&group.amplitude_contrast) {
            let value = group.amplitude_contrast;
            outside(
                "rlnAmplitudeContrast",
                value,
                &"a part from 0 to 1, such as 0.1",
            );
        }
    }
    problems
}

fn defocus(set: &ParticleSet) -> Vec<String> {
    type IsSo = fn(f64) -> bool;
    let kinds: [(IsSo, &str); 3] = [
        (
            |mean| mean < 0.0,
            "a negative defocus; expected underfocus to be positive: turn the sign of rlnDefocusU and rlnDefocusV",
        ),
        (
            |mean| (0.0..DEFOCUS_MIN_ANGSTROM).contains(&mean),
            "a defocus below 100 A; expected A, such as 15000: it may be in micrometres, or was never estimated",
        ),
        (
            |mean| mean > DEFOCUS_MAX_ANGSTROM || mean.is_nan(),
            "a defocus above 100000 A; expected A, such as 15000",
        ),
    ];
    let means: Vec<Option<f64>> = set
        .particles
        .iter()
        // With a phase plate one may be in focus.
        .map(|particle| (particle.ctf.phase_shift_deg == 0.0).then_some(&particle.ctf))
        .map(|ctf| Some((ctf?.defocus_u_angstrom + ctf?.defocus_v_angstrom) / 2.0))
        .collect();
    let of_kind = |(is_so, what): &(IsSo, &str)| {
        let mut so = means
            .iter()
            .enumerate()
            .filter(|(_, mean)| mean.is_some_and(is_so));
        let first = so.next()?.0 + 1;
        let count = so.count() + 1;
        Some(format!(
            "{count} of {} particles (the first: particle {first}) have {what}",
            set.particles.len()
        ))
    };
    kinds.iter().filter_map(of_kind).collect()
}

/// One stack under two names: its images would count as different ones.
fn one_file_twice(set: &ParticleSet) -> Vec<String> {
    let mut known: HashMap<PathBuf, &str> = HashMap::new();
    let mut problems = Vec::new();
    for stack in &set.stacks {
        let path = stack.path.canonicalize().unwrap_or(stack.path.clone());
        if let Some(other) = known.insert(path, &stack.name) {
            problems.push(format!(
                "{other} and {} are one and the same file: its images would be in both halves; call it by one name",
                stack.name
            ));
        }
    }
    problems
}

/// One place of a micrograph in both halves: they would share its noise.
fn one_place_twice(set: &ParticleSet) -> Option<String> {
    let blocks = set.document().blocks.iter();
    let table = blocks
        .filter_map(|block| block.table())
        .find(|table| table.column("rlnImageName").is_some())?;
    let [micrograph, x, y] =
        ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"].map(|label| table.column(label));
    let (micrograph, x, y) = (micrograph?, x?, y?);
    if table.row_count() != set.particles.len() {
        return None;
    }
    let mut known: HashMap<[&str; 3], (usize, Option<HalfSet>)> = HashMap::new();
    let mut shared: Vec<(usize, usize)> = Vec::new();
    for (row, particle) in set.particles.iter().enumerate() {
        let place = [micrograph, x, y].map(|column| table.value(row, column));
        let (first, half) = *known.entry(place).or_insert((row, particle.half_set));
        // Where the file has no halves, those of one place may come to lie in both.
        if first != row && (half != particle.half_set || half.is_none()) {
            shared.push((first + 1, row + 1));
        }
    }
    let (first, second) = *shared.first()?;
    Some(format!(
        "{} particles were picked where another was, and may be in both halves (particles {first} and {second}, for one); \
         take one of each out",
        shared.len()
    ))
}
