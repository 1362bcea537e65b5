//! `model.star`: what a refinement believes of its data beside poses, under RELION's labels.
//!
//! RELION has a file for each half; here one holds both, and the names of its tables end in `half1` and `half2`.

use crate::{checkpoint::State, input::Prepared};
use dewar_formats::star::{Block, Document, Entry, Table};

/// The file's name.
pub const FILE: &str = "model.star";

/// The model after a round or at the end, whose half-maps have this FSC.
pub fn document(prepared: &Prepared, state: &State, fsc: &[f64]) -> Document {
    let mut blocks = vec![general(prepared, state), curves(prepared, fsc)];
    for half in [0, 1] {
        blocks.push(groups(prepared, state, half));
        for (index, sigma2) in state.noise[half].iter().enumerate() {
            blocks.push(noise(prepared, half, index, sigma2));
        }
    }
    Document { blocks }
}

fn general(prepared: &Prepared, state: &State) -> Block {
    let set = &prepared.set;
    let mut values = vec![
        ("rlnReferenceDimensionality", "3".to_owned()),
        ("rlnOriginalImageSize", set.box_size_px.to_string()),
        ("rlnPixelSize", format!("{:.6}", set.pixel_size_angstrom)),
        (
            "rlnParticleDiameter",
            format!("{:.3}", prepared.mask_diameter_angstrom),
        ),
        ("rlnNrGroups", prepared.groups.names.len().to_string()),
        ("rlnNrOpticsGroups", set.optics.len().to_string()),
    ];
    if let Some(last) = state.rounds.last() {
        values.extend([
            (
                "rlnCurrentResolution",
                format!("{:.6}", last.resolution_angstrom),
            ),
            ("rlnCurrentImageSize", (2 * last.shell_max).to_string()),
            (
                "rlnLogLikelihood",
                format!("{:.6}", last.log_likelihood_mean * state.poses.len() as f64),
            ),
            ("rlnAveragePmax", format!("{:.6}", last.weight_mean)),
        ]);
    }
    let entries = values.into_iter().map(|(label, value)| Entry::Single {
        label: label.to_owned(),
        value,
        line: 0,
    });
    Block {
        name: "model_general".to_owned(),
        entries: entries.collect(),
    }
}

/// FSC and the ratio of signal to noise it stands for, by shell.
fn curves(prepared: &Prepared, fsc: &[f64]) -> Block {
    let mut table = Table::new([
        "rlnSpectralIndex",
        "rlnResolution",
        "rlnAngstromResolution",
        "rlnGoldStandardFsc",
        "rlnSsnrMap",
    ]);
    for (shell, fsc) in fsc.iter().enumerate() {
        let [frequency, angstrom] = places(prepared, shell);
        let kept = fsc.clamp(0.001, 0.999);
        table.push_row([
            shell.to_string(),
            format!("{frequency:.6}"),
            format!("{angstrom:.6}"),
            format!("{fsc:.6}"),
            format!("{:.6}", kept / (1.0 - kept)),
        ]);
    }
    Block::with_table("model_class_1", table)
}

fn groups(prepared: &Prepared, state: &State, half: usize) -> Block {
    let mut table = Table::new([
        "rlnGroupNumber",
        "rlnGroupName",
        "rlnGroupNrParticles",
        "rlnGroupScaleCorrection",
    ]);
    let counts = prepared.groups.counts(&prepared.halves[half]);
    let groups = prepared.groups.names.iter().zip(counts);
    for (index, ((name, count), scale)) in groups.zip(&state.scales[half]).enumerate() {
        table.push_row([
            (index + 1).to_string(),
            name.clone(),
            count.to_string(),
            format!("{scale:.6}"),
        ]);
    }
    Block::with_table(&format!("model_groups_half{}", half + 1), table)
}

fn noise(prepared: &Prepared, half: usize, optics_index: usize, sigma2: &[f64]) -> Block {
    let mut table = Table::new(["rlnSpectralIndex", "rlnResolution", "rlnSigma2Noise"]);
    for (shell, sigma2) in sigma2.iter().enumerate() {
        table.push_row([
            shell.to_string(),
            format!("{:.6}", places(prepared, shell)[0]),
            format!("{sigma2:.9e}"),
        ]);
    }
    let number = prepared.set.optics[optics_index].number;
    Block::with_table(
        &format!("model_optics_group_{number}_half{}", half + 1),
        table,
    )
}

/// A shell as a frequency and as a length, which RELION gives as 999 at the origin.
fn places(prepared: &Prepared, shell: usize) -> [f64; 2] {
    let frequency =
        shell as f64 / (prepared.set.box_size_px as f64 * prepared.set.pixel_size_angstrom);
    [frequency, if shell == 0 { 999.0 } else { 1.0 / frequency }]
}
