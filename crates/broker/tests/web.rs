//! The web page and the metrics over real sockets, beside gRPC on the same port.

mod common;

use common::{
    FakeWorker, JOB, PATIENCE, admin, connect_to, create, jobs, selector, spec, start, submit,
};
use dewar_broker::Running;
use dewar_proto::{
    v1::{self, jobs_client::JobsClient, worker_message},
    view_token,
};
use scraper::{Html, Selector};
use std::collections::{BTreeSet, HashMap};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// What came back.
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

/// One request on a connection of its own, as written.
async fn exchange(broker: &Running, request: &str) -> Answer {
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("it answers in time").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.unwrap().parse().unwrap(),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

async fn ask(broker: &Running, method: &str, path: &str, header: &str) -> Answer {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: dewar\r\nconnection: close\r\n{header}\r\n");
    exchange(broker, &request).await
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// A page asked for by whoever may look.
async fn look(broker: &Running, path: &str) -> Answer {
    ask(broker, "GET", path, &bearer(&view_token(broker.token()))).await
}

async fn post(broker: &Running, path: &str, form: &str, header: &str) -> Answer {
    let length = form.len();
    let kind = "content-type: application/x-www-form-urlencoded";
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: dewar\r\nconnection: close\r\n{kind}\r\ncontent-length: {length}\r\n\
         {header}\r\n{form}"
    );
    exchange(broker, &request).await
}

/// A job of a name that is to be shown as it is, of which one task failed and one waits.
async fn some_work(broker: &Running) -> (FakeWorker, Vec<v1::Assignment>) {
    let mut jobs = jobs(broker);
    let mut job = create();
    job.name = "<script>alert(1)</script>".into();
    jobs.create(job).await.unwrap();
    let mut worker = FakeWorker::attend(broker, 1, Vec::new()).await;
    let mut doomed = spec(b"a".to_vec());
    doomed.attempts_max = 1;
    let tasks = vec![doomed, spec(b"b".to_vec()), spec(b"c".to_vec())];
    jobs.submit(tokio_stream::iter([submit(0, tasks)]))
        .await
        .unwrap();
    let mut assignments = worker.assignments().await;
    let doomed = assignments.remove(0);
    if assignments.is_empty() {
        assignments = worker.assignments().await;
    }
    worker
        .say(worker_message::Message::Report(v1::Report {
            task: doomed.task,
            attempt: doomed.attempt,
            result: Some(v1::report::Result::Failed(v1::Failure {
                class: v1::FailureClass::BadInput.into(),
                message: "<b>no</b> such file".into(),
            })),
            run_ms: 3,
            fetch_ms: 0,
        }))
        .await;
    worker.wait_for_receipt().await;
    (worker, assignments)
}

#[tokio::test]
async fn nobody_looks_without_a_token_and_a_view_token_only_looks() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    for path in [
        "/",
        "/jobs/j1",
        "/workers/00",
        "/metrics",
        "/jobs/j1/report/page",
    ] {
        for header in ["", "cookie: dewar_view=view.x.1\r\n", &bearer("x.1")] {
            let answer = ask(&broker, "GET", path, header).await;
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(answer.headers.contains_key("www-authenticate"));
            assert_eq!(path != "/metrics", answer.body.contains("<form"), "{path}");
        }
    }
    let view = view_token(broker.token());
    for shown in [
        bearer(&view),
        bearer(broker.token()),
        format!("cookie: a=b; dewar_view={view}\r\n"),
    ] {
        assert_eq!(
            ask(&broker, "GET", "/", &shown).await.status,
            200,
            "{shown}"
        );
    }
    // On the wire it opens nothing.
    let mut client = JobsClient::new(connect_to(&broker.address().to_string(), &view));
    let refused = client
        .list(v1::ListJobsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn signing_in_gives_a_cookie_that_only_looks_and_signing_out_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let token = broker.token();
    let form = format!("token={token}&to=%2Fjobs%2Fj1");
    let entered = post(
        &broker,
        "/sign-in",
        &form,
        "sec-fetch-site: same-origin\r\n",
    )
    .await;
    assert_eq!(entered.status, 303);
    assert_eq!(entered.headers["location"], "/jobs/j1");
    let cookie = &entered.headers["set-cookie"];
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(
        cookie.contains(&view_token(token)) && !cookie.contains(token),
        "{cookie}"
    );

    let wrong = post(&broker, "/sign-in", "token=x.1&to=%2F%2Felsewhere", "").await;
    assert_eq!(wrong.status, 401);
    assert!(!wrong.headers.contains_key("set-cookie"));
    assert!(wrong.body.contains("not a token of this broker") && !wrong.body.contains("elsewhere"));
    let elsewhere = post(&broker, "/sign-in", &form, "sec-fetch-site: cross-site\r\n").await;
    assert_eq!(elsewhere.status, 403);
    let long = format!("token={}", "x".repeat(5000));
    assert_eq!(post(&broker, "/sign-in", &long, "").await.status, 413);

    let left = post(&broker, "/sign-out", "", "").await;
    assert_eq!(
        (left.status, left.headers["location"].as_str()),
        (303, "/sign-in")
    );
    assert!(left.headers["set-cookie"].contains("Max-Age=0"));
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_is_changed_from_a_browser_and_no_page_trusts_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let _worker = some_work(&broker).await;
    let shown = bearer(broker.token());
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/", "/jobs/j1", "/metrics", "/assets/app.js"] {
            let answer = ask(&broker, method, path, &shown).await;
            assert_eq!(answer.status, 405, "{method} {path}");
        }
    }
    let head = ask(&broker, "HEAD", "/", &shown).await;
    assert_eq!((head.status, head.body.len()), (200, 0));

    for (path, status) in [
        ("/", 200),
        ("/jobs/j1", 200),
        ("/jobs/j1?state=failed", 200),
        ("/jobs/j1?from=99999999999999999999", 200),
        ("/jobs/j1/report", 200),
        ("/jobs/j9", 404),
        ("/jobs/9", 404),
        ("/jobs/j1/report/page", 404),
        ("/workers/zz", 404),
        ("/nowhere", 404),
        ("/sign-in", 200),
    ] {
        let answer = look(&broker, path).await;
        assert_eq!(answer.status, status, "{path}");
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert_eq!(
            policy.contains("unsafe-inline"),
            path.ends_with("/page"),
            "{path}: {policy}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(!answer.body.contains("<script>"), "{path}");
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn pages_say_what_the_command_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let _worker = some_work(&broker).await;
    let told = jobs(&broker)
        .get(v1::GetJobRequest { job: selector() })
        .await;
    let told = told.unwrap().into_inner();
    assert_eq!((told.failed_count, told.running_count), (1, 1));

    let overview = look(&broker, "/").await.body;
    let page = Html::parse_document(&overview);
    let text = |selector: &str| {
        let selector = Selector::parse(selector).unwrap();
        let found = page.select(&selector).flat_map(|one| one.text());
        found.collect::<Vec<_>>().join(" ")
    };
    assert!(text("#job-1").contains("<script>alert(1)</script>"));
    assert!(text("#job-1").contains("1 of 3") && text("#job-1").contains("running"));
    let worker = format!("#worker-{}", "01".repeat(16));
    assert!(text(&worker).contains("w1") && text(&worker).contains("1 of 1"));
    assert!(text("tr td pre").contains("<b>no</b> such file"));

    let failed = look(&broker, "/jobs/j1?state=failed").await.body;
    assert!(failed.contains("id=\"task-0\"") && !failed.contains("id=\"task-1\""));
    assert!(failed.contains("bad input"));
    let path = format!("/workers/{}", "01".repeat(16));
    let worker = look(&broker, &path).await.body;
    assert!(
        worker.contains("j1.1") && worker.contains("Computes"),
        "{worker}"
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_report_is_shown_where_it_can_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let mut client = jobs(&broker);
    let publish = |html: &[u8]| v1::PublishRequest {
        job_id: JOB.into(),
        html: html.to_vec(),
    };
    let unknown = client.publish(publish(b"<p>")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    client.create(create()).await.unwrap();
    for round in ["<h1>round 1</h1>", "<h1>round 2</h1>"] {
        client.publish(publish(round.as_bytes())).await.unwrap();
    }
    let large = client.publish(publish(&vec![b' '; (6 << 20) + 1])).await;
    assert_eq!(large.unwrap_err().code(), tonic::Code::InvalidArgument);

    let shown = look(&broker, "/jobs/j1/report").await;
    assert!(shown.body.contains("sandbox=\"\"") && shown.body.contains("version=2"));
    let report = look(&broker, "/jobs/j1/report/page?version=2").await;
    assert_eq!(
        (report.status, report.body.as_str()),
        (200, "<h1>round 2</h1>")
    );
    let policy = &report.headers["content-security-policy"];
    assert!(
        policy.starts_with("sandbox;") && !policy.contains("allow-"),
        "{policy}"
    );
    broker.shutdown().await.unwrap();

    // It outlives the broker.
    let broker = start(folder.path()).await;
    let report = look(&broker, "/jobs/j1/report/page").await;
    assert_eq!(report.body, "<h1>round 2</h1>");
    broker.shutdown().await.unwrap();
}

/// Names and types of an exposition, as its comments say.
fn metrics(text: &str) -> prometheus_parse::Scrape {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    prometheus_parse::Scrape::parse(lines).unwrap()
}

fn value(scrape: &prometheus_parse::Scrape, name: &str, label: (&str, &str)) -> f64 {
    let samples = scrape.samples.iter();
    let mut samples = samples.filter(|sample| {
        sample.metric == name && (label.0.is_empty() || sample.labels.get(label.0) == Some(label.1))
    });
    let sample = samples.next();
    match &sample
        .unwrap_or_else(|| panic!("no {name} of {label:?}"))
        .value
    {
        prometheus_parse::Value::Counter(value)
        | prometheus_parse::Value::Gauge(value)
        | prometheus_parse::Value::Untyped(value) => *value,
        prometheus_parse::Value::Histogram(counts) => counts.last().unwrap().count,
        prometheus_parse::Value::Summary(_) => panic!("there are no summaries"),
    }
}

/// The names that an exposition has, or a text mentions: those that begin as ours do.
fn names(text: &str) -> BTreeSet<String> {
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = text.split(|char| !word(char));
    let ours = words.filter(|word| word.starts_with("dewar_"));
    ours.map(|name| {
        let ends = ["_bucket", "_sum", "_count"];
        let end = ends.iter().find_map(|end| name.strip_suffix(end));
        end.unwrap_or(name).to_owned()
    })
    .collect()
}

#[tokio::test]
async fn metrics_can_be_parsed_and_tell_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let (worker, _) = some_work(&broker).await;
    let answer = look(&broker, "/metrics").await;
    let kind = &answer.headers["content-type"];
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let scrape = metrics(&answer.body);
    for (name, label, expected) in [
        ("dewar_outcomes_total", ("outcome", "failed"), 1.0),
        ("dewar_outcomes_total", ("outcome", "succeeded"), 0.0),
        ("dewar_failed_attempts_total", ("class", "bad input"), 1.0),
        ("dewar_waiting_tasks", ("job", "j1"), 1.0),
        ("dewar_running_tasks", ("job", "j1"), 1.0),
        ("dewar_workers", ("state", "up"), 1.0),
        ("dewar_jobs", ("state", "running"), 1.0),
        ("dewar_slots", ("", ""), 1.0),
        ("dewar_fetched_bytes_total", ("source", "peers"), 0.0),
        ("dewar_lost_leases_total", ("", ""), 0.0),
        (
            "dewar_build_info",
            ("version", env!("CARGO_PKG_VERSION")),
            1.0,
        ),
    ] {
        assert_eq!(value(&scrape, name, label), expected, "{name} {label:?}");
    }
    assert!(value(&scrape, "dewar_task_wait_seconds", ("", "")) >= 2.0);
    assert!(value(&scrape, "dewar_store_flush_seconds", ("", "")) >= 2.0);
    assert!(value(&scrape, "dewar_dispatch_seconds", ("", "")) >= 1.0);
    let age = value(&scrape, "dewar_oldest_waiting_seconds", ("job", "j1"));
    assert!((0.0..600.0).contains(&age), "{age}");

    // The worker is lost, and with it its lease; the page tells on which one.
    drop(worker);
    timeout(PATIENCE, async {
        loop {
            let lost = metrics(&look(&broker, "/metrics").await.body);
            let is_lost = value(&lost, "dewar_lost_leases_total", ("", "")) > 0.0;
            if is_lost && look(&broker, "/").await.body.contains("was lost") {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the lease is given up, and the page tells");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_metric_is_documented_and_the_dashboard_asks_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let (mut worker, assignments) = some_work(&broker).await;
    // There is no series of what waits once nothing does, and none of what ran before something has.
    let mut text = look(&broker, "/metrics").await.body;
    worker.succeed(&assignments[0], Vec::new()).await;
    worker.wait_for_receipt().await;
    text += &look(&broker, "/metrics").await.body;
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let offered: BTreeSet<String> = typed
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert!(offered.len() > 20, "{offered:?}");

    let documented = names(include_str!("../../../docs/metrics.md"));
    assert_eq!(
        documented, offered,
        "docs/metrics.md against what is offered"
    );
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../deploy/grafana/dewar.json")).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked.extend(names(target["expr"].as_str().unwrap()));
        }
    }
    let missing: Vec<_> = asked.difference(&offered).collect();
    assert!(
        missing.is_empty() && asked.len() > 15,
        "{missing:?} of {asked:?}"
    );
    broker.shutdown().await.unwrap();
}

/// What Prometheus itself thinks of the format, where it is installed.
#[tokio::test]
async fn promtool_finds_nothing_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let _worker = some_work(&broker).await;
    let text = look(&broker, "/metrics").await.body;
    let promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("skipped: there is no promtool (Debian: apt-get install prometheus)");
        return;
    };
    let mut stdin = promtool.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, text.as_bytes()).unwrap();
    drop(stdin);
    let said = promtool.wait_with_output().unwrap();
    let said = [said.stdout, said.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "", "{text}");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn whoever_holds_many_slow_requests_keeps_no_worker_out() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let (tell_closed, mut closed) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nx-slow: ")
            .await
            .unwrap();
        let tell_closed = tell_closed.clone();
        tokio::spawn(async move {
            // Closed or reset: either way it is out.
            let _ = stream.read(&mut [0; 64]).await;
            let _ = tell_closed.send(());
        });
    }
    // Of 300 at most 256 have a place; the others are closed as soon as they begin.
    for _ in 256..300 {
        let one = timeout(PATIENCE / 2, closed.recv()).await;
        one.expect("those beyond the bound are closed").unwrap();
    }
    let _worker = FakeWorker::attend(&broker, 1, Vec::new()).await;
    let status = admin(&broker).status(v1::StatusRequest {}).await;
    assert_eq!(status.unwrap().into_inner().worker_count, 1);
    broker.shutdown().await.unwrap();
}
