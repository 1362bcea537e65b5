//! How well a refinement did: its time, its maps, and its poses against the true ones.

use super::{
    super::report::{Report, Target},
    programs::Refined,
};
use anyhow::{Context, Result};
use dewar_testkit::{Programs, refinement::json};
use serde_json::Value;
use std::path::Path;

/// One value for each thing that is measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Named<T> {
    pub seconds: T,
    /// Where the half-maps' FSC falls to 0.143.
    pub half_map_resolution: T,
    /// Where the map's FSC with the truth falls to 0.5.
    pub truth_resolution: T,
    pub angle_median: T,
    pub angle_p90: T,
    pub within_3_deg: T,
    pub within_10_deg: T,
    pub shift_median: T,
}

pub(super) type Score = Named<f64>;
pub(super) type Targets = Named<Option<Target>>;

impl<T> Named<T> {
    /// Each with its name, its unit, and whether more is better.
    fn entries(&self) -> [(&T, &'static str, &'static str, bool); 8] {
        [
            (&self.seconds, "time", "s", false),
            (
                &self.half_map_resolution,
                "half-map FSC 0.143, unmasked",
                "A",
                false,
            ),
            (&self.truth_resolution, "FSC-to-truth 0.5", "A", false),
            (&self.angle_median, "angular error, median", "deg", false),
            (&self.angle_p90, "angular error, 90 %", "deg", false),
            (&self.within_3_deg, "within 3 degrees", "%", true),
            (&self.within_10_deg, "within 10 degrees", "%", true),
            (&self.shift_median, "shift error, median", "A", false),
        ]
    }

    fn from_array(values: [T; 8]) -> Self {
        let [
            seconds,
            half_map_resolution,
            truth_resolution,
            angle_median,
            angle_p90,
            within_3_deg,
            within_10_deg,
            shift_median,
        ] = values;
        Self {
            seconds,
            half_map_resolution,
            truth_resolution,
            angle_median,
            angle_p90,
            within_3_deg,
            within_10_deg,
            shift_median,
        }
    }
}

impl Score {
    /// Scores what a refinement of the data set in `data` made.
    pub(super) fn of(
        programs: &Programs,
        refined: &Refined,
        data: &Path,
        symmetry: &str,
    ) -> Result<Self> {
        refined.check()?;
        let mut compare = programs.dewar();
        compare
            .arg("compare")
            .arg(&refined.particles)
            .arg(data.join("truth.star"));
        let poses = json(compare.args(["--symmetry", symmetry, "--json"]))?;
        let fsc = |first: &Path, second: &Path| {
            json(
                programs
                    .dewar()
                    .arg("fsc")
                    .args([first, second])
                    .arg("--json"),
            )
        };
        let halves = fsc(&refined.half_maps[0], &refined.half_maps[1])?;
        let truth = fsc(&refined.map, &data.join("truth.mrc"))?;
        Ok(Self {
            seconds: refined.seconds,
            half_map_resolution: number(&halves, "resolution_0_143_angstrom")?,
            truth_resolution: number(&truth, "resolution_0_5_angstrom")?,
            angle_median: number(&poses, "angle_median_deg")?,
            angle_p90: number(&poses, "angle_p90_deg")?,
            within_3_deg: 100.0 * number(&poses, "within_3_deg")?,
            within_10_deg: 100.0 * number(&poses, "within_10_deg")?,
            shift_median: number(&poses, "shift_median_angstrom")?,
        })
    }

    /// The mean of each figure.
    pub(super) fn mean(scores: &[Self]) -> Self {
        let all: Vec<[f64; 8]> = scores
            .iter()
            .map(|score| score.entries().map(|entry| *entry.0))
            .collect();
        let mean = |at: usize| all.iter().map(|score| score[at]).sum::<f64>() / all.len() as f64;
        Self::from_array(std::array::from_fn(mean))
    }

    /// No targets.
    pub(super) fn none() -> Targets {
        Targets::default()
    }

    /// What another's figures must be to be as good, within `slack`, in `time_share` of the time.
    pub(super) fn targets(&self, slack: f64, time_share: f64) -> Targets {
        let mut targets = Targets::from_array(self.entries().map(|(figure, _, _, more)| {
            Some(if more {
                Target::AtLeast(figure / slack)
            } else {
                Target::AtMost(figure * slack)
            })
        }));
        targets.seconds = Some(Target::AtMost(self.seconds * time_share));
        targets
    }

    /// Adds a row for each figure.
    pub(super) fn add(&self, report: &mut Report, who: &str, targets: &Targets) {
        for (figure, target) in self.entries().iter().zip(targets.entries()) {
            let (value, name, unit, _) = *figure;
            report.add(format!("{who}: {name}"), *value, unit, *target.0);
        }
    }
}

fn number(value: &Value, name: &str) -> Result<f64> {
    value[name]
        .as_f64()
        .with_context(|| format!("the command's JSON has no number {name}: {value}"))
}
