use super::{
    draw::draw,
    screen::{Focus, Screen, Snapshot, Wish},
};
use crate::verbs::workers::tests::idle;
use dewar_sdk::{BrokerStatus, JobId, JobStatus, WorkerStatus};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use std::time::{Duration, Instant};

fn job(number: u64, waiting: u64, succeeded: u64) -> JobStatus {
    JobStatus {
        id: JobId::new(),
        number,
        name: format!("ribosome {number}"),
        owner: "bea".to_owned(),
        priority: 0,
        created_unix_ms: 0,
        closed: waiting == 0,
        waiting_count: waiting,
        running_count: 0,
        succeeded_count: succeeded,
        failed_count: 0,
        cancelled_count: 0,
        blocked_reason: None,
        keep_ms: 0,
        absence_ms_max: None,
        reuse: false,
        last_sequence: succeeded,
    }
}

fn worker(name: &str) -> WorkerStatus {
    WorkerStatus {
        slot_count: 16,
        running_count: 3,
        held_bytes: 5 << 20,
        ..idle(name)
    }
}

fn snapshot(jobs: Vec<JobStatus>) -> Snapshot {
    Snapshot {
        status: BrokerStatus {
            protocol: Default::default(),
            program_version: "0.1.0".to_owned(),
            host_name: "titan".to_owned(),
            started_unix_ms: 0,
            broker_start: 1,
            data_dir: "/data".to_owned(),
            job_count: jobs.len() as u64,
            waiting_count: 0,
            running_count: 0,
            worker_count: 1,
            slot_count: 16,
            blob_bytes: 0,
            free_bytes: Some(1 << 40),
            refusing_reason: None,
            sent_blob_bytes: 0,
            received_blob_bytes: 0,
            now_unix_ms: None,
        },
        jobs,
        workers: vec![worker("node7-1")],
        tasks: Vec::new(),
    }
}

fn press(screen: &mut Screen, code: KeyCode) -> Option<Wish> {
    screen.press(KeyEvent::new(code, KeyModifiers::NONE))
}

/// The screen as lines of text.
fn lines(screen: &mut Screen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..80).map(|x| buffer[(x, y)].symbol()).collect();
    (0..24).map(line).collect()
}

#[test]
fn jobs_and_workers_fit_eighty_columns() {
    let mut screen = Screen::new("titan:9990");
    let start = Instant::now();
    screen.take_snapshot(snapshot(vec![job(7, 300, 100), job(6, 0, 9)]), start);
    let later = start + Duration::from_secs(10);
    screen.take_snapshot(snapshot(vec![job(7, 200, 200), job(6, 0, 9)]), later);
    let lines = lines(&mut screen);
    assert!(lines[0].starts_with("titan:9990 on titan  dewar 0.1.0"));
    assert!(lines[2].starts_with("10 tasks/s"), "{}", lines[2]);
    // 200 tasks at 10 a second.
    let of_job = "j7    running  ██████░░░░░░ 200/400       0       0      20 s      ribosome 7";
    assert!(
        lines.iter().any(|line| line.starts_with(of_job)),
        "{lines:#?}"
    );
    let of_worker = "node7-1          10.1.2.0/24   up        3/16   0       0      5.0 MiB";
    assert!(
        lines.iter().any(|line| line.starts_with(of_worker)),
        "{lines:#?}"
    );
}

#[test]
fn nothing_is_cancelled_or_drained_without_a_yes() {
    let mut screen = Screen::new("titan:9990");
    screen.take_snapshot(
        snapshot(vec![job(7, 300, 100), job(8, 0, 1)]),
        Instant::now(),
    );
    assert_eq!(press(&mut screen, KeyCode::Char('c')), None);
    let asked = "cancel j7 (ribosome 7), 300 tasks not done? [y/N]";
    assert!(lines(&mut screen)[23].starts_with(asked));
    assert_eq!(press(&mut screen, KeyCode::Char('n')), None);
    assert_eq!(press(&mut screen, KeyCode::Char('y')), None);
    press(&mut screen, KeyCode::Char('c'));
    assert_eq!(
        press(&mut screen, KeyCode::Char('y')),
        Some(Wish::Cancel(7))
    );
    // A finished job has nothing to cancel.
    press(&mut screen, KeyCode::Down);
    press(&mut screen, KeyCode::Char('c'));
    assert_eq!(press(&mut screen, KeyCode::Char('y')), None);
    press(&mut screen, KeyCode::Tab);
    press(&mut screen, KeyCode::Char('d'));
    let wish = press(&mut screen, KeyCode::Char('y'));
    assert!(matches!(wish, Some(Wish::Drain { name, .. }) if name == "node7-1"));
}

#[test]
fn a_job_is_looked_into_and_left() {
    let mut screen = Screen::new("titan:9990");
    screen.take_snapshot(snapshot(vec![job(7, 300, 100)]), Instant::now());
    assert_eq!(
        press(&mut screen, KeyCode::Enter),
        Some(Wish::Look(Some(7)))
    );
    assert_eq!(screen.focus, Focus::Tasks(7));
    // It may end and be removed meanwhile.
    screen.take_snapshot(snapshot(Vec::new()), Instant::now());
    assert!(lines(&mut screen)[4].starts_with("j7 is gone"));
    assert_eq!(press(&mut screen, KeyCode::Char('c')), None);
    assert_eq!(screen.question, None);
    assert_eq!(press(&mut screen, KeyCode::Esc), Some(Wish::Look(None)));
}

#[test]
fn names_from_elsewhere_do_not_move_the_cursor() {
    let mut screen = Screen::new("titan:9990");
    let mut named = job(7, 1, 0);
    named.name = "a\u{1b}[2Jb".to_owned();
    screen.take_snapshot(snapshot(vec![named]), Instant::now());
    press(&mut screen, KeyCode::Char('c'));
    assert!(!lines(&mut screen).concat().contains('\u{1b}'));
}
