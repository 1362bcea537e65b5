//! Particles of distinct views, and noise alone among them, are told apart.

#[path = "../examples/views.rs"]
mod views;

use dewar_compute::phantom::Phantom;
use dewar_formats::mrc::MrcFile;
use dewar_kernels::registry;
use dewar_refine::{
    Observer, Progress,
    classify2d::{Options, Settings, classify},
};
use dewar_sdk::{Client, EmbeddedOptions};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};
use views::Views;

const VIEWS: usize = 3;

struct Silent;

impl Observer for Silent {
    fn on(&self, _: Progress<'_>) {}
}

/// The class of each particle, by `particles.star`.
fn classes(out: &Path) -> Vec<usize> {
    let document = dewar_formats::star::Document::read(&out.join("particles.star")).unwrap();
    let table = document.block("particles").unwrap().table().unwrap();
    let column = table.column("rlnClassNumber").unwrap();
    (0..table.row_count())
        .map(|row| table.value(row, column).parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn views_and_noise_fall_into_classes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let map = Phantom::new().volume(48, 4.5).unwrap();
    let views = Views {
        map: &map,
        pixel_size_angstrom: 4.5,
        view_count: VIEWS,
        particle_count: 450,
        snr: 0.5,
        junk_count: 150,
    };
    let truth = views.write(&folder.path().join("set")).unwrap();
    let out = folder.path().join("out");
    let client = Client::embedded(EmbeddedOptions {
        data_dir: out.join(".dewar"),
        slot_count: 2,
        exports: vec![folder.path().join("set")],
        kernels: registry(),
    });
    let client = client.await.unwrap();
    let options = Options {
        particles: folder.path().join("set/particles.star"),
        out: out.clone(),
        project_dir: None,
        settings: Settings {
            class_count: 8,
            iterations: 25,
            ..Settings::default()
        },
    };
    let observer: Arc<dyn Observer> = Arc::new(Silent);
    let summary = classify(&client, &options, &observer, std::future::pending())
        .await
        .unwrap();
    client.shutdown().await;
    assert!(summary.converged && summary.iterations < 25, "{summary:?}");

    let mut table: BTreeMap<usize, BTreeMap<Option<usize>, usize>> = BTreeMap::new();
    for (class, view) in classes(&out).into_iter().zip(&truth) {
        *table.entry(class).or_default().entry(*view).or_default() += 1;
    }
    let pure: usize = table
        .values()
        .filter_map(|counts| counts.values().max())
        .sum();
    assert!(pure as f64 >= 0.9 * truth.len() as f64, "{table:?}");
    assert!(fs::read(summary.gallery).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(MrcFile::open(&summary.averages).unwrap().section_count(), 8);
}
