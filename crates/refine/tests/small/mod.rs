//! A small refinement in the test's own process.

use dewar_kernels::registry;
use dewar_refine::{Options, Settings, postprocess::PostSettings, simulate::Simulated};
use dewar_sdk::{Client, EmbeddedOptions};
use std::path::Path;

/// A broker and a worker with two slots, as `thread:2` has them, for a refinement of `data` into `out`.
pub async fn embedded(data: &Simulated, out: &Path) -> Client {
    let client = Client::embedded(EmbeddedOptions {
        data_dir: out.join(".dewar"),
        slot_count: 2,
        exports: vec![data.particles.parent().unwrap().to_owned()],
        kernels: registry(),
    });
    client.await.unwrap()
}

/// Refines `data` into `out`, in so many rounds at most.
pub fn options(data: &Simulated, out: &Path, iterations_max: usize) -> Options {
    Options {
        particles: data.particles.clone(),
        reference: data.map.clone(),
        out: out.to_owned(),
        project_dir: None,
        settings: Settings {
            mask_diameter_angstrom: Some(data.diameter_angstrom),
            iterations_max,
            ..Settings::default()
        },
        accept_images: false,
        postprocess: PostSettings::default(),
    }
}
