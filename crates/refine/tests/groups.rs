//! Groups of particles that are stronger or weaker than others are found to be so.

mod small;

use dewar_compute::symmetry::PointGroup;
use dewar_formats::star::Document;
use dewar_refine::{
    Observer, Progress, refine,
    simulate::{SimulateOptions, simulate},
};
use std::{fs, future::pending, path::Path, sync::Arc};

/// How strong the particles of each group are; their mean over particles is 1.
const STRENGTHS: [f64; 4] = [0.7, 0.9, 1.1, 1.3];

struct Silent;

impl Observer for Silent {
    fn on(&self, _: Progress<'_>) {}
}

/// Puts particles into groups in turn, and has the file claim that those of group g were imaged at 1/g of their strength: in
/// terms of what it claims they are g times as strong.
fn regroup(particles: &Path) {
    let text = fs::read_to_string(particles).unwrap();
    let columns: Vec<&str> = text
        .split("data_particles")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("_"))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let at = |label: &str| columns.iter().position(|column| *column == label).unwrap();
    let (micrograph, scale) = (at("rlnMicrographName"), at("rlnCtfScalefactor"));
    let mut count = 0;
    let lines = text.lines().map(|line| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if words.len() != columns.len() || !words[0].contains('@') {
            return line.to_owned();
        }
        let group = count % STRENGTHS.len();
        count += 1;
        words[micrograph] = format!("micrograph{group}.mrc");
        words[scale] = format!("{:.6}", 1.0 / STRENGTHS[group]);
        words.join(" ")
    });
    let lines: Vec<String> = lines.collect();
    assert!(count > 0, "{text}");
    fs::write(particles, lines.join("\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_strengths_of_groups_are_recovered_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("refined"));
    let made = simulate(
        &SimulateOptions {
            source: None,
            out: data.clone(),
            particle_count: 600,
            snr: 0.3,
            box_size_px: 32,
            symmetry: PointGroup::C1,
            seed: 5,
            pixel_size_angstrom: Some(7.0),
            diameter_angstrom: None,
        },
        &mut |_| {},
    )
    .unwrap();
    regroup(&made.particles);
    let client = small::embedded(&made, &out).await;
    let options = small::options(&made, &out, 2);
    let observer: Arc<dyn Observer> = Arc::new(Silent);
    refine(&client, &options, &observer, pending())
        .await
        .unwrap();
    client.shutdown().await;

    let model = Document::read(&out.join("model.star")).unwrap();
    for half in [1, 2] {
        let name = format!("model_groups_half{half}");
        let block = model.blocks.iter().find(|block| block.name == name);
        let table = block.and_then(|block| block.table()).unwrap();
        let [group, scale] =
            ["rlnGroupName", "rlnGroupScaleCorrection"].map(|label| table.column(label).unwrap());
        assert_eq!(table.row_count(), STRENGTHS.len());
        for row in 0..table.row_count() {
            let index: usize = table.value(row, group)["micrograph".len()..][..1]
                .parse()
                .unwrap();
            let found: f64 = table.value(row, scale).parse().unwrap();
            let error = found / STRENGTHS[index] - 1.0;
            println!(
                "half {half}, group {index}: {found:.3}, {:+.1} %",
                100.0 * error
            );
            assert!(error.abs() < 0.06, "half {half}, group {index}: {found}");
        }
    }
}
