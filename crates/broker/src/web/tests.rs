//! Pages as they are read: what is hostile is text, what stands in tables has heads, and nothing is left out.

use super::{
    history::Rates,
    job::{JobView, Which},
    metrics::queues,
    overview::Overview,
    page::Page,
    worker::WorkerView,
};
use crate::meter::Failed;
use dewar_proto::v1;
use dewar_queue::{Failure, FailureClass, JobNumber, Kind, TaskId};
use scraper::{Html, Selector};
use std::time::Duration;

const HOSTILE: &str = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'";

fn job(number: u64, waiting_count: u64) -> v1::Job {
    v1::Job {
        number,
        name: HOSTILE.into(),
        owner: HOSTILE.into(),
        waiting_count,
        succeeded_count: 3,
        failed_count: 1,
        blocked_reason: HOSTILE.into(),
        ..Default::default()
    }
}

fn worker() -> v1::Worker {
    v1::Worker {
        worker_id: vec![7; 16],
        name: HOSTILE.into(),
        host_name: HOSTILE.into(),
        site: HOSTILE.into(),
        held_back_reason: HOSTILE.into(),
        program_version: HOSTILE.into(),
        data_address: HOSTILE.into(),
        connected: true,
        slot_count: 2,
        corrupt_count: 1,
        kinds: vec![kind()],
        ..Default::default()
    }
}

fn kind() -> v1::Kind {
    v1::Kind {
        name: HOSTILE.into(),
        version: 1,
    }
}

fn failed() -> Failed {
    Failed {
        task: TaskId {
            job: JobNumber(1),
            index: 4,
        },
        kind: Some(Kind {
            name: HOSTILE.into(),
            version: 1,
        }),
        worker_name: Some(HOSTILE.into()),
        failure: Failure {
            class: FailureClass::KernelError,
            message: HOSTILE.to_owned(),
        },
        at_unix_ms: 1_764_536_400_000,
        is_final: true,
    }
}

fn overview() -> Overview {
    Overview {
        status: v1::StatusResponse {
            host_name: HOSTILE.into(),
            refusing_reason: HOSTILE.into(),
            program_version: HOSTILE.into(),
            ..Default::default()
        },
        jobs: vec![job(1, 2)],
        workers: vec![worker()],
        failures: vec![failed()],
        rates: vec![Rates::default(); 3],
        left: [(1, Duration::from_secs(90))].into(),
        ..Default::default()
    }
}

fn job_view() -> JobView {
    let task = v1::Task {
        kind: Some(kind()),
        state: v1::TaskState::Running.into(),
        worker_names: vec![HOSTILE.into()],
        key: HOSTILE.into(),
        failure: Some(v1::Failure {
            message: HOSTILE.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    JobView {
        job: job(1, 2),
        tasks: v1::ListTasksResponse {
            tasks: vec![task],
            next_index: 100,
        },
        which: Which::default(),
        left: None,
        failures: vec![failed()],
        has_report: true,
    }
}

fn worker_view() -> WorkerView {
    WorkerView {
        worker: worker(),
        tries: Vec::new(),
        failures: vec![failed()],
    }
}

/// Every page with every text a stranger may choose.
fn pages() -> Vec<String> {
    let bodies = [
        overview().to_markup(),
        job_view().to_markup(),
        worker_view().to_markup(),
    ];
    let whole = bodies.map(|body| {
        let page = Page {
            title: HOSTILE,
            host_name: HOSTILE,
            viewer: HOSTILE,
            above: &[("/".to_owned(), HOSTILE.to_owned())],
            news: HOSTILE,
            body,
        };
        page.to_response().0
    });
    whole.into()
}

fn select(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

#[test]
fn what_strangers_write_is_text_and_no_markup() {
    for html in pages() {
        let page = Html::parse_document(&html);
        let scripts: Vec<_> = page.select(&select("script")).collect();
        assert_eq!(scripts.len(), 1, "{html}");
        assert!(
            scripts[0]
                .attr("src")
                .is_some_and(|src| src.starts_with("/assets/app-"))
        );
        assert_eq!(page.select(&select("img")).count(), 0);
        assert_eq!(page.select(&select("[style], style")).count(), 0);
        for element in page.select(&select("*")) {
            let handlers = element.value().attrs();
            let mut handlers = handlers.filter(|(name, _)| name.starts_with("on"));
            assert!(handlers.next().is_none(), "{}", element.html());
        }
        let text: String = page.root_element().text().collect();
        assert!(text.contains("<script>alert(1)</script>"), "shown as it is");
    }
}

#[test]
fn pages_can_be_read_aloud() {
    for html in pages() {
        let page = Html::parse_document(&html);
        for landmark in [
            "header",
            "main#main",
            "nav[aria-label]",
            "h1",
            "[role=status]",
        ] {
            assert_eq!(
                page.select(&select(landmark)).count().min(1),
                1,
                "{landmark}"
            );
        }
        assert_eq!(page.select(&select("h1")).count(), 1);
        for table in page.select(&select(".scroll table")) {
            assert!(table.select(&select("caption")).next().is_some());
            let heads = table.select(&select("thead th[scope=col]")).count();
            for row in table.select(&select("tbody tr")) {
                assert_eq!(row.select(&select("th[scope=row]")).count(), 1);
                assert_eq!(
                    row.select(&select("th, td")).count(),
                    heads,
                    "{}",
                    row.html()
                );
            }
        }
        for named in page.select(&select("progress, svg[role=img], .scroll")) {
            assert!(
                named
                    .attr("aria-label")
                    .is_some_and(|name| !name.is_empty())
            );
        }
        let mut ids: Vec<_> = page
            .select(&select("[id]"))
            .filter_map(|one| one.attr("id"))
            .collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id stands for one thing");
    }
}

#[test]
fn what_goes_on_comes_first() {
    let mut overview = Overview {
        jobs: vec![job(1, 0), job(2, 5), job(3, 0), job(4, 1)],
        ..Default::default()
    };
    overview.order();
    let numbers: Vec<_> = overview.jobs.iter().map(|job| job.number).collect();
    assert_eq!(numbers, [4, 2, 3, 1]);
    let news = overview.news();
    assert_eq!(
        news,
        "2 jobs under way, 0 workers attending, 4 jobs blocked, 4 tasks failed"
    );
}

#[test]
fn jobs_without_end_have_few_series() {
    let overview = Overview {
        jobs: (1..=1000).map(|number| job(number, number)).collect(),
        ..Default::default()
    };
    let queues = queues(&overview);
    assert_eq!(queues.len(), 51);
    // The longest queues are those told apart.
    assert!(queues.contains_key(&1000) && !queues.contains_key(&950));
    assert!(queues.contains_key(&0));
}
