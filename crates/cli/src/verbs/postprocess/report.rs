//! What post-processing found, for people.

use crate::table::{Column, Table};
use dewar_compute::postprocess::PostProcessed;
use dewar_refine::postprocess::{Found, Local, Places};

/// The curves as a table, and what they come to.
pub fn told(
    places: &Places,
    Found { map: found, local }: &Found,
    pixel_size_angstrom: f64,
) -> String {
    let box_angstrom = found.mask.n() as f64 * pixel_size_angstrom;
    let mut table = Table::new(&[
        Column::Number("SHELL"),
        Column::Number("RESOLUTION A"),
        Column::Number("UNMASKED"),
        Column::Number("MASKED"),
        Column::Number("RANDOM PHASES"),
        Column::Number("CORRECTED"),
    ]);
    let curves = &found.curves;
    for shell in 1..curves.corrected.len() {
        let of = |curve: &[f64]| format!("{:.4}", curve[shell]);
        table.add(&[
            shell.to_string(),
            format!("{:.2}", box_angstrom / shell as f64),
            of(&curves.unmasked),
            of(&curves.masked),
            of(&curves.randomised),
            of(&curves.corrected),
        ]);
    }
    let resolution = |at: Option<f64>| at.map_or("none".to_owned(), |at| format!("{at:.2} A"));
    let map = match found.sharpened {
        Some(_) => places.map_sharpened.display().to_string(),
        None => "none".to_owned(),
    };
    format!(
        "{}\nFSC 0.5    {}\nFSC 0.143  {}\nB-factor   {}\n{}mask       {}\nmap        {map}\n",
        table.render(),
        resolution(found.resolution.at_0_5),
        resolution(found.resolution.at_0_143),
        b_factor(found),
        local.as_ref().map_or(String::new(), range),
        places.mask.display(),
    )
}

fn range(local: &Local) -> String {
    let [p10, median, p90] = local.p10_p50_p90_angstrom;
    format!("local      median {median:.2} A, 80 % between {p10:.2} and {p90:.2} A\n")
}

fn b_factor(found: &PostProcessed) -> String {
    let used = format!("{:.1} A^2", found.b_factor_angstrom2);
    match found.guinier {
        Some(fit) if fit.b_factor_angstrom2 == found.b_factor_angstrom2 => {
            format!("{used}, fitted with correlation {:.3}", fit.correlation)
        }
        Some(fit) => format!("{used}; the fit gives {:.1} A^2", fit.b_factor_angstrom2),
        None => format!("{used}, none could be fitted"),
    }
}
