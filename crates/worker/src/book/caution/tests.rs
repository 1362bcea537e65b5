use crate::{
    Config, StuckKernel, Worker,
    attempt::AttemptKey,
    results::{Identity, Keeper, Kept, broker_key},
};
use dewar_proto::{PROTOCOL, v1};
use dewar_task::Registry;
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};
use v1::{broker_message::Message as FromBroker, report, worker_message::Message as ToBroker};

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The task whose success this broker does not take.
const REFUSED: u64 = 2;

/// A broker that ends the session over one report.
struct Picky {
    /// Whatever it acknowledged.
    acknowledged: mpsc::UnboundedSender<v1::Report>,
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for Picky {
    type AttendStream = ReceiverStream<Result<v1::BrokerMessage, Status>>;
    type ShareStream = ReceiverStream<Result<v1::ShareResponse, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let mut incoming = request.into_inner();
        let acknowledged = self.acknowledged.clone();
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            let welcome = v1::Welcome {
                protocol: Some(PROTOCOL),
                broker_start: 1,
                ..Default::default()
            };
            let _ = sender.send(Ok(said(FromBroker::Welcome(welcome)))).await;
            while let Ok(Some(v1::WorkerMessage { message })) = incoming.message().await {
                let Some(ToBroker::Report(report)) = message else {
                    continue;
                };
                if index(&report) == REFUSED && is_success(&report) {
                    let refusal = Status::invalid_argument("report.result: is wrong");
                    let _ = sender.send(Err(refusal)).await;
                    return;
                }
                let received = v1::ReportReceived {
                    task: report.task.clone(),
                    attempt: report.attempt,
                };
                let _ = sender
                    .send(Ok(said(FromBroker::ReportReceived(received))))
                    .await;
                let _ = acknowledged.send(report);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn share(
        &self,
        _: Request<Streaming<v1::ShareRequest>>,
    ) -> Result<Response<Self::ShareStream>, Status> {
        Err(Status::unimplemented("no swarm here"))
    }
}

fn said(message: FromBroker) -> v1::BrokerMessage {
    v1::BrokerMessage {
        message: Some(message),
    }
}

fn index(report: &v1::Report) -> u64 {
    report.task.as_ref().unwrap().index
}

fn is_success(report: &v1::Report) -> bool {
    matches!(report.result, Some(report::Result::Succeeded(_)))
}

fn kept(index: u64) -> Kept {
    let task = v1::TaskRef {
        job_id: vec![7; 16],
        index,
    };
    let attempt = v1::AttemptId {
        broker_start: 1,
        n: index,
    };
    let key = AttemptKey::from_wire(Some(&task), Some(&attempt)).unwrap();
    Kept {
        key,
        report: key.report(
            report::Result::Succeeded(v1::Output::default()),
            crate::attempt::Took {
                fetch_ms: 0,
                run_ms: 5,
            },
        ),
        pieces: Vec::new(),
    }
}

fn config(broker: String, cache_dir: &Path) -> Config {
    Config {
        broker,
        token: "me.0123".parse().unwrap(),
        slot_count: 1,
        name: "tester".to_owned(),
        site: String::new(),
        cache_dir: cache_dir.to_owned(),
        cache_bytes_max: 1 << 20,
        results: crate::ResultsAt::Broker,
        data: None,
        nice: 0,
        load_limit: None,
        memory_bytes: 1 << 30,
        stuck: StuckKernel::Replace,
        exit_when_idle: None,
        exit_when_unreachable: None,
    }
}

fn names(results: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(results).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "lock").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_result_is_set_aside_and_all_others_arrive() {
    let cache = tempfile::tempdir().unwrap();
    let results = cache.path().join("results");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = config(address, cache.path());
    let identity = Identity::take(&results, &broker_key(&config), None).unwrap();
    let (keeper, _) = Keeper::start(identity).unwrap();
    for index in 1..=5 {
        keeper.keep_pieces(kept(index)).await;
    }
    keeper.close().await;

    let (acknowledged, mut reports) = mpsc::unbounded_channel();
    let picky = v1::fleet_server::FleetServer::new(Picky { acknowledged });
    let served = tonic::transport::Server::builder()
        .add_service(picky)
        .serve_with_incoming(TcpIncoming::from(listener));
    let broker = tokio::spawn(served);

    let mut worker = Worker::start(config, Registry::default()).unwrap();
    let mut came = BTreeMap::new();
    while came.len() < 5 {
        let report = tokio::select! {
            report = timeout(PATIENCE, reports.recv()) => report.expect("all come").unwrap(),
            ended = worker.wait() => panic!("the worker ended: {ended:?}"),
        };
        came.insert(index(&report), is_success(&report));
    }
    let expected = (1..=5).map(|index| (index, index != REFUSED));
    assert_eq!(came, expected.collect());

    // The worker hears of the last acknowledgement a moment after the broker said it.
    let forgotten = async {
        while names(&results).len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, forgotten).await.unwrap();
    worker.stop();
    timeout(PATIENCE, worker.wait()).await.unwrap().unwrap();
    let names = names(&results);
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("refused-2-1.2") && names[0].ends_with(".aside"));
    broker.abort();
}
