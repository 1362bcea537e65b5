//! A refinement's report: it is there after the first round, whole at the end, and never in the way.

mod small;

use dewar_compute::symmetry::PointGroup;
use dewar_refine::{
    Observer, Progress, RefineError, Summary, refine,
    simulate::{SimulateOptions, Simulated, simulate},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

const ROUNDS: usize = 2;

/// Pictures of a finished refinement.
const PICTURES: [&str; 16] = [
    "directions.svg",
    "fsc.svg",
    "guinier.svg",
    "particles.png",
    "pose_change.svg",
    "projection_x.png",
    "projection_y.png",
    "projection_z.png",
    "resolution.svg",
    "shifts.svg",
    "slice_x.png",
    "slice_y.png",
    "slice_z.png",
    "stage_time.svg",
    "weights.svg",
    "worker_time.svg",
];

/// Keeps what is said, and the report as it is when the first round starts and when it ends.
#[derive(Default)]
struct Listener {
    out: PathBuf,
    at_start: Mutex<Option<String>>,
    after_first: Mutex<Option<String>>,
    notes: Mutex<Vec<String>>,
    /// Whether to put something where the second round's folder is to be.
    spoils_second: bool,
}

impl Observer for Listener {
    fn on(&self, progress: Progress<'_>) {
        let report = || fs::read_to_string(self.out.join("report.html")).ok();
        match progress {
            Progress::Note(note) => self.notes.lock().unwrap().push(note.to_owned()),
            Progress::RoundStarted { iteration: 1, .. } => {
                *self.at_start.lock().unwrap() = report();
            }
            Progress::RoundFinished { iteration: 1, .. } => {
                *self.after_first.lock().unwrap() = report();
                if self.spoils_second {
                    fs::write(self.out.join("it002.tmp"), "in the way").unwrap();
                }
            }
            _ => {}
        }
    }
}

fn set(folder: &Path) -> Simulated {
    let options = SimulateOptions {
        source: None,
        out: folder.join("data"),
        particle_count: 40,
        snr: 1.0,
        box_size_px: 32,
        symmetry: PointGroup::C1,
        seed: 5,
        pixel_size_angstrom: Some(7.0),
        diameter_angstrom: None,
    };
    simulate(&options, &mut |_| {}).unwrap()
}

async fn run(
    data: &Simulated,
    out: &Path,
    spoils_second: bool,
) -> (Arc<Listener>, Result<Summary, RefineError>) {
    let client = small::embedded(data, out).await;
    let options = small::options(data, out, ROUNDS);
    let listener = Arc::new(Listener {
        out: out.to_owned(),
        spoils_second,
        ..Listener::default()
    });
    let observer: Arc<dyn Observer> = listener.clone();
    let never = std::future::pending();
    let refined = refine(&client, &options, &observer, never).await;
    client.shutdown().await;
    (listener, refined)
}

fn report(out: &Path) -> String {
    fs::read_to_string(out.join("report.html")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_fills_round_by_round_and_says_what_the_record_says() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("refined");
    let (listener, refined) = run(&set(folder.path()), &out, false).await;
    refined.unwrap();
    let notes = listener.notes.lock().unwrap();
    assert!(
        !notes.iter().any(|note| note.contains("report")),
        "{notes:?}"
    );

    let start = listener.at_start.lock().unwrap();
    let start = start
        .as_ref()
        .expect("no report when the first round starts");
    assert!(start.contains("data-state=\"running\"") && start.contains("no round of at most 2"));
    let first = listener.after_first.lock().unwrap();
    let first = first.as_ref().expect("no report after the first round");
    assert!(first.contains("round 1 of at most 2"));
    assert!(first.contains("http-equiv=\"refresh\""));
    for name in [
        "fsc",
        "slice_z",
        "directions",
        "weights",
        "particles",
        "worker_time",
    ] {
        assert!(first.contains(&format!("id=\"{name}\"")), "{name}");
    }
    assert!(!first.contains("id=\"guinier\""), "known at the end only");

    let last = report(&out);
    assert!(last.contains("data-state=\"finished\""));
    assert!(!last.contains("http-equiv=\"refresh\""));
    let mut files: Vec<String> = fs::read_dir(out.join("pictures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, PICTURES);
    for file in files {
        let (name, _) = file.split_once('.').unwrap();
        assert!(last.contains(&format!("id=\"{name}\"")), "{name}");
    }

    let record = fs::read_to_string(out.join("refine.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let unmasked = record["resolution_angstrom"].as_f64().unwrap();
    assert!(last.contains(&format!("<td>{unmasked:.2} Å</td>")));
    for round in record["rounds"].as_array().unwrap() {
        let resolution = round["resolution_angstrom"].as_f64().unwrap();
        let limit = round["limit_angstrom"].as_f64().unwrap();
        let row = format!(
            "<tr><td>{}</td><td>{resolution:.2}</td><td>{limit:.2}</td></tr>",
            round["iteration"]
        );
        assert!(last.contains(&row), "{row}");
        let worker = &round["workers"][0];
        assert!(last.contains(worker["name"].as_str().unwrap()), "{worker}");
        assert_eq!(worker["task_count"], round["task_count"]);
    }
    // The one worker, over all rounds and the final maps.
    let tasks = |of: &serde_json::Value| of["task_count"].as_u64().unwrap();
    let rounds = record["rounds"].as_array().unwrap();
    let finals = record["final_workers"].as_array().unwrap();
    let total: u64 = rounds.iter().chain(finals).map(tasks).sum();
    let name = finals[0]["name"].as_str().unwrap();
    assert!(last.contains(&format!("<td>{name}</td><td>{total}</td>")));
    for digest in ["particles", "reference"] {
        let digest = record["inputs"][digest]["blake3"].as_str().unwrap();
        assert!(last.contains(digest), "{digest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_cannot_be_written_is_said_and_fails_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("refined");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("pictures"), "in the way").unwrap();
    let (listener, refined) = run(&set(folder.path()), &out, false).await;
    refined.unwrap();
    let notes = listener.notes.lock().unwrap();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("the report is not whole: ") && note.contains("pictures")),
        "{notes:?}"
    );
    assert!(out.join("refine.json").exists());
    // The page itself is in nobody's way.
    assert!(report(&out).contains("data-state=\"finished\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_run_says_why_and_going_on_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("refined");
    let data = set(folder.path());
    let (_, refined) = run(&data, &out, true).await;
    let error = refined.unwrap_err().to_string();
    let failed = report(&out);
    assert!(failed.contains("data-state=\"failed\"") && failed.contains("Failed after round 1"));
    assert!(failed.contains(&error), "{error}");
    assert!(failed.contains("id=\"slice_z\""), "what there was is gone");

    fs::remove_file(out.join("it002.tmp")).unwrap();
    let (listener, refined) = run(&data, &out, false).await;
    refined.unwrap();
    assert!(
        listener.at_start.lock().unwrap().is_none(),
        "the first round is done"
    );
    assert!(report(&out).contains("data-state=\"finished\""));
}
