//! Files that are not particles of single-particle work, told by their labels: what was given, and what is wanted.

use super::{is_nonzero, text};
use crate::particles::ProblemKind;
use crate::star::{Document, Table};

/// Labels that only other files have, with what these are and what to give instead. The first that is found counts.
const OTHERS: [(&str, &str, &str); 14] = [
    (
        "rlnOptimiserScaleCorrection",
        "an optimiser's state",
        FROM_REFINEMENT,
    ),
    ("rlnModelStarFile", "an optimiser's state", FROM_REFINEMENT),
    (
        "rlnReferenceImage",
        "a list of class averages or a model",
        FROM_REFINEMENT,
    ),
    (
        "rlnReferenceSpectralPower",
        "a model's spectra",
        FROM_REFINEMENT,
    ),
    ("rlnHealpixOrder", "a sampling of angles", FROM_REFINEMENT),
    (
        "rlnFourierShellCorrelationCorrected",
        "the result of post-processing",
        FROM_REFINEMENT,
    ),
    ("rlnMtfValue", "a detector's MTF", PARTICLES),
    ("rlnJobTypeLabel", "a job's description", FROM_EXTRACTION),
    (
        "rlnPipeLineJobCounter",
        "a project's pipeline",
        FROM_EXTRACTION,
    ),
    (
        "cisTEMPositionInStack",
        "a particle file of cisTEM's, which is not read",
        PARTICLES,
    ),
    (
        "rlnMicrographMovieName",
        "a list of movies",
        FROM_EXTRACTION,
    ),
    (
        "rlnMicrographCoordinates",
        "a list of coordinate files",
        FROM_EXTRACTION,
    ),
    (
        "rlnCoordinateX",
        "coordinates of particles without their images",
        FROM_EXTRACTION,
    ),
    (
        "rlnMicrographName",
        "a list of micrographs",
        FROM_EXTRACTION,
    ),
];

const FROM_REFINEMENT: &str = "the particles beside it, as run_data.star";
const FROM_EXTRACTION: &str = "extracted particles, as particles.star of an extraction job";
const PARTICLES: &str = "particles in RELION's STAR layout";

/// What a file without particles is instead.
pub(super) fn other_file(document: &Document) -> ProblemKind {
    let tables: Vec<_> = document
        .blocks
        .iter()
        .filter_map(|block| block.table())
        .collect();
    let has = |label: &str| tables.iter().any(|table| table.column(label).is_some());
    match OTHERS.iter().find(|(label, ..)| has(label)) {
        Some(&(label, found, wanted)) => ProblemKind::OtherFile {
            label,
            found,
            wanted,
        },
        None => ProblemKind::NoParticleTable,
    }
}

/// The label that gives a file of tomography away.
pub(super) fn tomography_label(document: &Document) -> Option<String> {
    document
        .blocks
        .iter()
        .filter_map(|block| block.table())
        .find_map(|table| {
            table
                .labels()
                .iter()
                .find(|label| is_of_tomography(&table, label))
                .cloned()
        })
}

fn is_of_tomography(table: &Table, label: &str) -> bool {
    let any = |accept: fn(&str) -> bool| {
        (0..table.row_count()).any(|row| text(table, row, label).is_some_and(accept))
    };
    match label {
        "rlnCtfImage" | "rlnCenteredCoordinateZAngst" => true,
        // Programs that know no planes write 0.
        "rlnCoordinateZ" | "rlnOriginZ" | "rlnOriginZAngst" => any(is_nonzero),
        "rlnImageDimensionality" => any(|value| value.parse() == Ok(3.0)),
        _ => label.starts_with("rlnTomo"),
    }
}
