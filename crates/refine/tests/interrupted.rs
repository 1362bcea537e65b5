//! A refinement that was interrupted in the middle of a round computes nothing twice when it is started again.

mod small;

use dewar_compute::symmetry::PointGroup;
use dewar_refine::{
    Observer, Progress, RefineError, refine,
    simulate::{SimulateOptions, Simulated, simulate},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// Tasks of the broken round that had their outcomes.
const DONE: usize = 3;

/// The round that is broken: the second, so that a finished one is left alone.
const BROKEN: usize = 2;

/// Keeps what is said, and the report as the round to break starts, and tells when enough of it is done.
struct Listener {
    out: PathBuf,
    report: Mutex<String>,
    notes: Mutex<Vec<String>>,
    reached: watch::Sender<bool>,
}

impl Observer for Listener {
    fn on(&self, progress: Progress<'_>) {
        match progress {
            Progress::Note(note) => self.notes.lock().unwrap().push(note.to_owned()),
            Progress::RoundStarted {
                iteration: BROKEN, ..
            } => *self.report.lock().unwrap() = report(&self.out),
            Progress::Tasks {
                iteration, done, ..
            } if iteration == BROKEN && done >= DONE => {
                self.reached.send_replace(true);
            }
            _ => {}
        }
    }
}

fn report(out: &Path) -> String {
    fs::read_to_string(out.join("report.html")).unwrap()
}

/// Refines with `thread:2`, and stops in the middle if asked to.
async fn run(
    data: &Simulated,
    out: &Path,
    stops: bool,
) -> (Result<dewar_refine::Summary, RefineError>, Arc<Listener>) {
    let client = small::embedded(data, out).await;
    let options = small::options(data, out, BROKEN);
    let listener = Arc::new(Listener {
        out: out.to_owned(),
        report: Mutex::default(),
        notes: Mutex::default(),
        reached: watch::Sender::new(false),
    });
    let mut reached = listener.reached.subscribe();
    let observer: Arc<dyn Observer> = listener.clone();
    let stop = async move {
        if !stops || reached.wait_for(|reached| *reached).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let refined = refine(&client, &options, &observer, stop).await;
    client.shutdown().await;
    (refined, listener)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_finished_tasks_of_a_broken_round_are_answered_and_the_maps_are_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = simulate(
        &SimulateOptions {
            source: None,
            out: folder.path().join("data"),
            // Several blocks in each half.
            particle_count: 600,
            snr: 0.5,
            box_size_px: 32,
            symmetry: PointGroup::C1,
            seed: 5,
            pixel_size_angstrom: Some(7.0),
            diameter_angstrom: None,
        },
        &mut |_| {},
    );
    let data = data.unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let (refined, listener) = run(&data, &whole, false).await;
    refined.unwrap();
    let notes = listener.notes.lock().unwrap().clone();
    assert!(
        !notes.iter().any(|note| note.contains("computed before")),
        "{notes:?}"
    );

    let (refined, _) = run(&data, &broken, true).await;
    assert!(
        matches!(refined, Err(RefineError::Cancelled)),
        "{refined:?}"
    );
    assert!(
        !broken.join("it002").exists(),
        "the second round was broken"
    );
    let stopped = report(&broken);
    assert!(
        stopped.contains("data-state=\"stopped\"") && stopped.contains("Stopped after round 1")
    );
    let (refined, listener) = run(&data, &broken, false).await;
    refined.unwrap();
    // It goes on with what was known before.
    let again = listener.report.lock().unwrap();
    assert!(again.contains("data-state=\"running\"") && again.contains("round 1 of at most 2"));
    assert!(again.contains("id=\"fsc\"") && again.contains("id=\"particles\""));
    let notes = listener.notes.lock().unwrap();
    let told = notes
        .iter()
        .find_map(|note| note.split_once(" tasks of round 2 had been computed before"));
    let (counts, _) = told.unwrap_or_else(|| panic!("{notes:?}"));
    let (reused, total) = counts.split_once(" of ").unwrap();
    let (reused, total): (usize, usize) = (reused.parse().unwrap(), total.parse().unwrap());
    assert!((DONE..total).contains(&reused), "{notes:?}");
    for name in ["map.mrc", "half1.mrc", "half2.mrc", "particles.star"] {
        let read = |out: &Path| fs::read(out.join(name)).unwrap();
        assert!(read(&whole) == read(&broken), "{name} differs");
    }
}
