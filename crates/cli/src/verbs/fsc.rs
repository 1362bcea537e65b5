//! `dewar fsc`: how alike two maps are, by resolution.

use crate::{
    failure::Failure,
    map_file, output,
    table::{Column, Table},
};
use clap::Args;
use dewar_compute::fsc;
use serde_json::json;
use std::path::PathBuf;

/// Fourier shell correlation of two maps: how alike they are at each resolution.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar fsc half1.mrc half2.mrc\n  dewar fsc map.mrc truth.mrc --mask mask.mrc --json\n\n\
    Resolutions are where the curve first falls below 0.5 and 0.143, linear between shells.\n\
    JSON keys: box_size_px, pixel_size_angstrom, resolution_0_5_angstrom and resolution_0_143_angstrom (null where the \
    curve never falls so low), fsc (one value a shell, from shell 0)"
)]
pub struct Options {
    /// A map (MRC).
    #[arg(value_name = "MAP1")]
    first: PathBuf,
    /// A map of the same box.
    #[arg(value_name = "MAP2")]
    second: PathBuf,
    /// Multiply both with this map first.
    #[arg(long, value_name = "MAP")]
    mask: Option<PathBuf>,
    /// Pixel size, where the headers have none or a wrong one.
    #[arg(long, value_name = "ANGSTROM", value_parser = super::positive)]
    pixel_size: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (first, second) = (
        map_file::read(&options.first)?,
        map_file::read(&options.second)?,
    );
    let mask = options.mask.as_deref().map(map_file::read).transpose()?;
    let pixel_size_angstrom = map_file::common_pixel_size(options.pixel_size, [&first, &second])
        .map_err(|failure| failure.concerning(options.names()))?;
    let n = first.volume.n();
    let curve = fsc::fsc(
        &first.volume,
        &second.volume,
        mask.as_ref().map(|mask| &mask.volume),
    )
    .map_err(|error| Failure::input(error).concerning(options.names()))?;
    let crossing = |threshold| fsc::resolution_at(&curve, threshold, n, pixel_size_angstrom);
    let (half, low) = (crossing(0.5), crossing(0.143));
    if options.json {
        return output::print_json(&json!({
            "box_size_px": n,
            "pixel_size_angstrom": pixel_size_angstrom,
            "resolution_0_5_angstrom": half,
            "resolution_0_143_angstrom": low,
            "fsc": curve,
        }));
    }
    let box_angstrom = n as f64 * pixel_size_angstrom;
    let mut table = Table::new(&[
        Column::Number("SHELL"),
        Column::Number("RESOLUTION A"),
        Column::Number("FSC"),
    ]);
    for (shell, value) in curve.iter().enumerate().skip(1) {
        table.add(&[
            shell.to_string(),
            format!("{:.2}", box_angstrom / shell as f64),
            format!("{value:.4}"),
        ]);
    }
    let named = |crossing: Option<f64>| match crossing {
        Some(resolution) => format!("{resolution:.2} A"),
        None => format!("never, down to {:.2} A", 2.0 * pixel_size_angstrom),
    };
    output::print(&format!(
        "{}\nFSC 0.5    {}\nFSC 0.143  {}\n",
        table.render(),
        named(half),
        named(low)
    ))
}

impl Options {
    fn names(&self) -> String {
        format!("{} and {}", self.first.display(), self.second.display())
    }
}
