//! How the screen looks: 80 columns and 24 lines are enough.

use super::screen::{Focus, Screen, Snapshot};
use crate::{
    clock, output, size,
    verbs::{jobs, tasks, workers},
};
use dewar_sdk::{JobStatus, TaskStatus, WorkerStatus};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph, Row, Sparkline, Table, TableState},
};
use std::time::Duration;

const HELP: &str = "↑↓ choose  Tab jobs/workers  Enter tasks  c cancel  d drain  q quit";
const HELP_OF_TASKS: &str = "↑↓ choose  Esc back  c cancel the job  q quit";

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let [head, throughput, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_foot(frame, foot, screen);
    let Some(now) = screen.now.take() else {
        frame.render_widget(Paragraph::new(format!("asking {} …", screen.address)), head);
        return;
    };
    frame.render_widget(Paragraph::new(head_lines(screen, &now)), head);
    draw_throughput(frame, throughput, screen);
    match screen.focus {
        Focus::Tasks(number) => {
            draw_tasks(frame, body, number, &now, &mut screen.tasks);
        }
        Focus::Jobs | Focus::Workers => draw_lists(frame, body, screen, &now),
    }
    screen.now = Some(now);
}

fn head_lines(screen: &Screen, now: &Snapshot) -> Vec<Line<'static>> {
    let status = &now.status;
    let up = clock::duration(clock::since_unix_ms(status.started_unix_ms));
    let [sent, _, from_peers] = screen.byte_rates();
    let rate = |bytes: f64| format!("{}/s", size::rounded(bytes as u64));
    let free = status.free_bytes.map_or_else(String::new, |free| {
        format!(", {} free", size::rounded(free))
    });
    let broker = output::printable(&format!("{} on {}", screen.address, status.host_name));
    vec![
        Line::from(vec![
            broker.bold(),
            format!(
                "  dewar {}, up {up}  {} jobs, {} workers with {} slots",
                status.program_version, status.job_count, status.worker_count, status.slot_count
            )
            .into(),
        ]),
        Line::from(format!(
            "{} running, {} waiting   broker sends {}, peers {}{free}",
            status.running_count,
            status.waiting_count,
            rate(sent),
            rate(from_peers)
        )),
    ]
}

fn draw_throughput(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let latest = screen.throughput.back().copied().unwrap_or(0);
    let [label, line] =
        Layout::horizontal([Constraint::Length(16), Constraint::Fill(1)]).areas(area);
    let top = screen.throughput.iter().max().copied().unwrap_or(0);
    let text = vec![
        Line::from(format!("{latest} tasks/s").bold()),
        Line::from(format!("top {top}").dim()),
    ];
    frame.render_widget(Paragraph::new(text), label);
    let newest = screen.throughput.iter().rev();
    let mut shown: Vec<u64> = newest.take(line.width.into()).copied().collect();
    shown.reverse();
    let sparkline = Sparkline::default()
        .data(&shown)
        .style(Style::new().fg(Color::Cyan));
    frame.render_widget(sparkline, line);
}

fn draw_lists(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, now: &Snapshot) {
    let [jobs, workers] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let rows: Vec<Row<'_>> = now
        .jobs
        .iter()
        .map(|job| job_row(job, screen.time_left(job)))
        .collect();
    let is_chosen = screen.focus == Focus::Jobs;
    let list = table(
        format!("jobs ({})", now.jobs.len()),
        [
            "JOB", "STATE", "PROGRESS", "DONE", "RUNNING", "FAILED", "LEFT", "NAME",
        ],
        [5, 8, 12, 13, 7, 6, 9],
        rows,
        is_chosen,
    );
    frame.render_stateful_widget(list, jobs, &mut screen.jobs);
    let list = table(
        format!("workers ({})", now.workers.len()),
        [
            "WORKER", "SITE", "STATE", "RUNS", "DONE", "FAILED", "HOLDS", "ABOUT",
        ],
        [16, 13, 9, 6, 7, 6, 9],
        now.workers.iter().map(worker_row).collect(),
        !is_chosen,
    );
    frame.render_stateful_widget(list, workers, &mut screen.workers);
}

fn draw_tasks(
    frame: &mut Frame<'_>,
    area: Rect,
    number: u64,
    now: &Snapshot,
    state: &mut TableState,
) {
    let job = now.jobs.iter().find(|job| job.number == number);
    let title = job.map_or_else(
        || format!("j{number} is gone"),
        |job| {
            format!(
                "j{number} {}: {} of {} done, {} failed",
                job.name,
                job.outcome_count(),
                job.task_count(),
                job.failed_count
            )
        },
    );
    let list = table(
        title,
        ["TASK", "STATE", "KIND", "TRIES", "TOOK", "KEY", "ABOUT"],
        [7, 9, 14, 5, 9, 16],
        now.tasks.iter().map(task_row).collect(),
        true,
    );
    frame.render_stateful_widget(list, area, state);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let refusing = screen
        .now
        .as_ref()
        .and_then(|now| now.status.refusing_reason.as_deref());
    let warning = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let line = if let Some((question, _)) = &screen.question {
        Span::styled(output::printable(&format!("{question} [y/N]")), warning)
    } else if let Some(reason) = &screen.away {
        Span::styled(
            output::printable(&format!("broker away: {reason}")),
            warning,
        )
    } else if let Some(said) = &screen.said {
        Span::raw(output::printable(said))
    } else if let Some(reason) = refusing {
        Span::styled(
            output::printable(&format!("broker refuses submits and uploads: {reason}")),
            warning,
        )
    } else if matches!(screen.focus, Focus::Tasks(_)) {
        HELP_OF_TASKS.dim()
    } else {
        HELP.dim()
    };
    frame.render_widget(Paragraph::new(Line::from(line)), area);
}

/// A list under a title; its last column takes what room there is.
fn table<'a, const ALL: usize, const FIXED: usize>(
    title: String,
    headings: [&'static str; ALL],
    widths: [u16; FIXED],
    rows: Vec<Row<'a>>,
    is_chosen: bool,
) -> Table<'a> {
    const { assert!(ALL == FIXED + 1, "a width for each column but the last") };
    let widths = widths.map(Constraint::Length);
    let widths = widths.into_iter().chain([Constraint::Fill(1)]);
    let title = output::printable(&title);
    let block = Block::new().borders(Borders::TOP).title(if is_chosen {
        title.bold()
    } else {
        title.dim()
    });
    let chosen = if is_chosen {
        Style::new().add_modifier(Modifier::REVERSED)
    } else {
        Style::new()
    };
    Table::new(rows, widths)
        .header(Row::new(headings).dim())
        .block(block)
        .row_highlight_style(chosen)
}

fn row(cells: Vec<String>, style: Style) -> Row<'static> {
    Row::new(cells.into_iter().map(|cell| output::printable(&cell))).style(style)
}

const BAD: Style = Style::new().fg(Color::Red);
const WAITS: Style = Style::new().fg(Color::Yellow);
const PAST: Style = Style::new().add_modifier(Modifier::DIM);

fn job_row(job: &JobStatus, left: Option<Duration>) -> Row<'static> {
    let state = jobs::State::of(job).name();
    let style = match state {
        "blocked" => WAITS,
        "finished" => PAST,
        _ => Style::new(),
    };
    let cells = vec![
        format!("j{}", job.number),
        state.to_owned(),
        bar(job.outcome_count(), job.task_count()),
        format!("{}/{}", job.outcome_count(), job.task_count()),
        job.running_count.to_string(),
        job.failed_count.to_string(),
        left.filter(|_| job.unfinished_count() > 0)
            .map_or_else(String::new, clock::duration),
        match &job.blocked_reason {
            Some(reason) => format!("{} ({reason})", job.name),
            None => format!("{} of {}", job.name, job.owner),
        },
    ];
    row(cells, if job.failed_count > 0 { BAD } else { style })
}

/// `███████▌     ` of twelve columns.
fn bar(done: u64, all: u64) -> String {
    const WIDTH: u64 = 12;
    let filled = (done * WIDTH).checked_div(all).unwrap_or(0);
    "█".repeat(filled as usize) + &"░".repeat((WIDTH - filled) as usize)
}

fn worker_row(worker: &WorkerStatus) -> Row<'static> {
    let state = workers::State::of(worker).name();
    let style = match state {
        "away" => BAD,
        "up" => Style::new(),
        _ => WAITS,
    };
    let why = workers::why(worker);
    let cells = vec![
        worker.name.clone(),
        worker.site.clone(),
        state.to_owned(),
        format!("{}/{}", worker.running_count, worker.slot_count),
        worker.succeeded_count.to_string(),
        worker.failed_count.to_string(),
        size::rounded(worker.held_bytes),
        if why.is_empty() {
            format!(
                "fetched {}, {} of it from peers",
                size::rounded(worker.fetched_from_broker_bytes + worker.fetched_from_peers_bytes),
                size::rounded(worker.fetched_from_peers_bytes)
            )
        } else {
            why
        },
    ];
    row(cells, style)
}

fn task_row(task: &TaskStatus) -> Row<'static> {
    let state = tasks::state(task.state);
    let style = match state {
        "failed" => BAD,
        "succeeded" | "cancelled" => PAST,
        _ => Style::new(),
    };
    let cells = vec![
        task.index.to_string(),
        state.to_owned(),
        task.kind.to_string(),
        task.attempts_begun.to_string(),
        if task.run_ms > 0 {
            clock::duration(Duration::from_millis(task.run_ms))
        } else {
            String::new()
        },
        task.key.clone().unwrap_or_default(),
        tasks::about(task),
    ];
    row(cells, style)
}
