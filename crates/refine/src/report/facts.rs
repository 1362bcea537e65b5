//! What the report says in words and numbers.

use super::Source;
use crate::record::{self, Record};
use dewar_report::{Fact, Section};
use serde::Serialize;
use serde_json::Value;

/// What the page is of.
pub fn title(source: &Source<'_>) -> String {
    let name = source.options.particles.file_name().unwrap_or_default();
    format!("Refinement of {}", name.to_string_lossy())
}

/// What matters most.
pub fn results(source: &Source<'_>) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("particles", source.prepared.set.particles.len()),
        Fact::new("symmetry", &source.options.settings.symmetry),
        Fact::new(
            "box",
            format!(
                "{} px of {} Å",
                source.prepared.set.box_size_px, source.prepared.set.pixel_size_angstrom
            ),
        ),
    ];
    match source.ending {
        Some(ending) => facts.extend(final_results(ending.record)),
        None => facts.extend(source.state.rounds.last().map(|round| {
            let told = format!("{:.2} Å", round.resolution_angstrom);
            Fact::new("resolution so far, unmasked", told)
        })),
    }
    if !source.state.rounds.is_empty() {
        let seconds: f64 = source.state.rounds.iter().map(|round| round.seconds).sum();
        facts.push(Fact::new("time of the rounds", format!("{seconds:.1} s")));
    }
    facts
}

fn final_results(record: &Record) -> Vec<Fact> {
    let angstrom = |value: Option<f64>| {
        value.map_or("none: the half-maps share nothing".to_owned(), |value| {
            format!("{value:.2} Å")
        })
    };
    let post = &record.postprocessed;
    let why = if record.converged {
        "nothing improved any more"
    } else {
        "as many as allowed"
    };
    let mut facts = vec![
        Fact::new(
            "resolution, FSC 0.143 corrected",
            angstrom(post.resolution_0_143_angstrom),
        ),
        Fact::new(
            "resolution, FSC 0.5 corrected",
            angstrom(post.resolution_0_5_angstrom),
        ),
        Fact::new(
            "resolution, FSC 0.143 unmasked",
            format!("{:.2} Å", record.resolution_angstrom),
        ),
        Fact::new("B-factor", format!("{:.1} Å²", post.b_factor_angstrom2)),
        Fact::new("rounds", format!("{}, {why}", record.iterations)),
    ];
    facts.extend(
        post.local_median_angstrom
            .map(|median| Fact::new("local resolution, median", format!("{median:.2} Å"))),
    );
    facts.extend(record.coverage.map(|coverage| {
        let (unseen, evenness) = (100.0 * coverage.unseen, coverage.evenness);
        let told = format!("{unseen:.1} % of directions unseen, evenness {evenness:.2} of 1");
        Fact::new("coverage by views", told)
    }));
    facts
}

/// What the user should know.
pub fn warnings(source: &Source<'_>) -> Vec<String> {
    let mut warnings = source.prepared.warnings.clone();
    if let Some(ending) = source.ending {
        warnings.extend(ending.record.postprocessed.warnings.iter().cloned());
        if !ending.record.has_own_detail {
            warnings.push(
                "the half-maps agree no finer than the starting map and its mask alone could have made them".to_owned(),
            );
        }
    }
    warnings
}

/// What the run was.
pub fn sections(source: &Source<'_>) -> Vec<Section> {
    let section = |title: &str, facts| Section {
        title: title.to_owned(),
        facts,
    };
    let mask_angstrom = source.prepared.mask_diameter_angstrom;
    let mut settings = named(&source.options.settings);
    settings.push(Fact::new(
        "mask diameter used",
        format!("{mask_angstrom:.1} Å"),
    ));
    vec![
        section("Settings", settings),
        section("Post-processing", named(&source.options.postprocess)),
        section("Inputs", inputs(source)),
        section(
            "Program",
            vec![
                Fact::new("version", format!("dewar {}", env!("CARGO_PKG_VERSION"))),
                Fact::new("command", command(record::command().into_iter())),
                Fact::new(
                    "given in",
                    std::env::current_dir().unwrap_or_default().display(),
                ),
            ],
        ),
    ]
}

/// Settings under the names that `refine.json` gives them.
fn named(settings: &impl Serialize) -> Vec<Fact> {
    let Ok(Value::Object(settings)) = serde_json::to_value(settings) else {
        return Vec::new();
    };
    let told = |value: Value| match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    settings
        .into_iter()
        .map(|(name, value)| Fact::new(name, told(value)))
        .collect()
}

fn inputs(source: &Source<'_>) -> Vec<Fact> {
    /// A page is no inventory; `refine.json` has them all.
    const STACKS_MAX: usize = 20;
    let digests = source.digests;
    let mut facts: Vec<Fact> = [
        ("particles", &digests.particles),
        ("starting map", &digests.reference),
    ]
    .into_iter()
    .map(|(name, file)| Fact::new(name, format!("{}, BLAKE3 {}", file.path, file.blake3)))
    .collect();
    facts.extend(digests.stacks.iter().take(STACKS_MAX).map(|stack| {
        Fact::new(
            "stack",
            format!("{}, {} bytes", stack.path, stack.size_bytes),
        )
    }));
    if digests.stacks.len() > STACKS_MAX {
        let left_out = digests.stacks.len() - STACKS_MAX;
        facts.push(Fact::new("more stacks", left_out));
    }
    facts
}

/// The command, as a shell would take it.
fn command(words: impl Iterator<Item = String>) -> String {
    let quoted = |word: String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Settings;

    #[test]
    fn a_command_can_be_given_again() {
        let words = ["dewar", "refine", "my set.star", "--out", "it's"].map(str::to_owned);
        assert_eq!(
            command(words.into_iter()),
            r"dewar refine 'my set.star' --out 'it'\''s'"
        );
    }

    #[test]
    fn settings_have_the_names_of_the_record() {
        let facts = named(&Settings::default());
        assert!(
            facts.contains(&Fact::new("low_pass_angstrom", "30.0")),
            "{facts:?}"
        );
        assert!(facts.contains(&Fact::new("mask_diameter_angstrom", "–")));
    }
}
