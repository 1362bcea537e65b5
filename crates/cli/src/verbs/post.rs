//! How half-maps are post-processed: the flags that `dewar refine` and `dewar postprocess` have in common.

use clap::Args;
use dewar_refine::postprocess::PostSettings;
use std::path::PathBuf;

/// What may be said of post-processing.
#[derive(Args)]
pub struct Post {
    /// Soft mask around the particle, values from 0 to 1 [default: made from the half-maps].
    #[arg(long, value_name = "MAP")]
    pub mask: Option<PathBuf>,
    /// B-factor in A^2 to sharpen by, negative; 0 for none [default: fitted from 10 A on, where finer than 7.1 A is resolved].
    #[arg(long, value_name = "ANGSTROM2", allow_negative_numbers = true, value_parser = super::finite)]
    b_factor: Option<f64>,
    /// The detector's modulation transfer (STAR: rlnResolutionInversePixel, rlnMtfValue), to divide out.
    #[arg(long, value_name = "STAR")]
    mtf: Option<PathBuf>,
    /// Pixel size of the micrographs, where the maps' is another.
    #[arg(long, value_name = "ANGSTROM", requires = "mtf", value_parser = super::positive)]
    mtf_pixel_size: Option<f64>,
    /// Measure the resolution at every place too, in a ball of 25 A with soft edges of 25 A; takes all cores of this machine for a
    /// while.
    #[arg(long)]
    pub local_resolution: bool,
}

impl Post {
    /// What was given takes the place of what was stated before.
    pub fn change(&self, settings: &mut PostSettings) {
        fn given<T: Clone>(place: &mut Option<T>, value: &Option<T>) {
            if value.is_some() {
                place.clone_from(value);
            }
        }
        given(&mut settings.mask, &self.mask);
        given(&mut settings.b_factor_angstrom2, &self.b_factor);
        given(&mut settings.mtf, &self.mtf);
        given(&mut settings.mtf_pixel_size_angstrom, &self.mtf_pixel_size);
        settings.local_resolution |= self.local_resolution;
    }
}
