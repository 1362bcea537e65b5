//! What post-processing found, for machines.

use super::{Found, Places, PostSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a refinement's own record says of its post-processing; `postprocess.json` has the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Where the corrected curve falls below 0.143; none where the half-maps share nothing.
    pub resolution_0_143_angstrom: Option<f64>,
    /// Where it falls below 0.5.
    pub resolution_0_5_angstrom: Option<f64>,
    /// What the map was sharpened by.
    pub b_factor_angstrom2: f64,
    /// The median of the local resolution inside the mask, if it was measured.
    pub local_median_angstrom: Option<f64>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Found {
    /// In short.
    pub fn told(&self) -> Told {
        Told {
            resolution_0_143_angstrom: self.map.resolution.at_0_143,
            resolution_0_5_angstrom: self.map.resolution.at_0_5,
            b_factor_angstrom2: self.map.b_factor_angstrom2,
            local_median_angstrom: self
                .local
                .as_ref()
                .map(|local| local.p10_p50_p90_angstrom[1]),
            warnings: self.map.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The content of `postprocess.json`.
pub fn record(
    settings: &PostSettings,
    places: &Places,
    found: &Found,
    pixel_size_angstrom: f64,
) -> Value {
    let Found { map, local } = found;
    let box_angstrom = map.mask.n() as f64 * pixel_size_angstrom;
    let warnings: Vec<String> = map.warnings.iter().map(ToString::to_string).collect();
    json!({
        "box_size_px": map.mask.n(),
        "pixel_size_angstrom": pixel_size_angstrom,
        "resolution_0_143_angstrom": map.resolution.at_0_143,
        "resolution_0_5_angstrom": map.resolution.at_0_5,
        "b_factor_angstrom2": map.b_factor_angstrom2,
        "guinier": map.guinier.map(|fit| json!({
            "slope_angstrom2": fit.slope,
            "intercept": fit.intercept,
            "correlation": fit.correlation,
        })),
        "local_resolution": local.as_ref().map(|local| {
            let [p10, median, p90] = local.p10_p50_p90_angstrom;
            json!({ "p10_angstrom": p10, "median_angstrom": median, "p90_angstrom": p90 })
        }),
        "mask": if settings.mask.is_some() { "given" } else { "automatic" },
        "randomised_from_angstrom": map.curves.randomised_from.map(|shell| box_angstrom / shell as f64),
        "seed": settings.seed,
        "warnings": warnings,
        "program_version": env!("CARGO_PKG_VERSION"),
        "files": {
            "map_sharpened": map.sharpened.as_ref().map(|_| &places.map_sharpened),
            "local_resolution": local.as_ref().map(|_| &places.local_resolution),
            "mask": places.mask,
            "fsc": places.fsc,
            "record": places.record,
        },
    })
}
