use super::*;
use dewar_blobs::Digest;
use futures::{StreamExt as _, stream, stream::BoxStream};
use std::sync::{Arc, Mutex};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use v1::{
    DrainRequest, DrainResponse, ListWorkersRequest, ListWorkersResponse, PrecacheRequest,
    PrecacheResponse, StatusRequest, StatusResponse,
    admin_server::{Admin, AdminServer},
};

type Step = Result<PrecacheResponse, Status>;

/// A broker that answers each request to precache with what was laid down for it.
struct Scripted {
    minor: u32,
    answers: Mutex<Vec<Vec<Step>>>,
    asked: Mutex<Vec<PrecacheRequest>>,
}

#[tonic::async_trait]
impl Admin for Scripted {
    type PrecacheStream = BoxStream<'static, Step>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let protocol = v1::ProtocolVersion {
            minor: self.minor,
            ..dewar_proto::PROTOCOL
        };
        Ok(Response::new(StatusResponse {
            protocol: Some(protocol),
            ..Default::default()
        }))
    }

    async fn precache(
        &self,
        request: Request<PrecacheRequest>,
    ) -> Result<Response<Self::PrecacheStream>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let steps = self.answers.lock().unwrap().remove(0);
        Ok(Response::new(stream::iter(steps).boxed()))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn serve(minor: u32, answers: Vec<Vec<Step>>) -> (Arc<Scripted>, Client) {
    let broker = Arc::new(Scripted {
        minor,
        answers: Mutex::new(answers),
        asked: Mutex::default(),
    });
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap().to_string();
    let server = Server::builder().add_service(AdminServer::from_arc(Arc::clone(&broker)));
    tokio::spawn(server.serve_with_incoming(incoming));
    let client = Client::connect(&address, "ada.secret".parse().unwrap());
    (broker, client.await.unwrap())
}

fn step(held_bytes: u64, failures: &[&str]) -> PrecacheResponse {
    PrecacheResponse {
        worker_count: 2,
        held_bytes,
        wanted_bytes: 100,
        failures: failures.iter().map(|text| (*text).to_owned()).collect(),
    }
}

fn blob() -> BlobRef {
    BlobRef {
        digest: Digest([7; 32]),
        size_bytes: 50,
    }
}

#[tokio::test]
async fn a_broken_connection_is_made_again_and_no_failure_told_twice() {
    let broken = vec![
        Ok(step(10, &["a: full"])),
        Err(Status::unavailable("restarting")),
    ];
    // It shut down in good order.
    let ended = vec![Ok(step(40, &["b: full", "a: full"]))];
    let complete = vec![Ok(step(100, &["a: full"]))];
    let (broker, client) = serve(2, vec![broken, ended, complete]).await;
    let mut precaching = client.precache(&[blob()], Some("north")).unwrap();
    let mut heard = Vec::new();
    while let Some(progress) = precaching.next().await.unwrap() {
        heard.push((progress.held_bytes, progress.failures));
    }
    let expected = [
        (10, vec!["a: full".to_owned()]),
        (40, vec!["b: full".to_owned()]),
        (100, vec![]),
    ];
    assert_eq!(heard, expected);
    assert_eq!(precaching.next().await.unwrap(), None, "over is over");
    let request = PrecacheRequest {
        blobs: vec![blob().into()],
        site: "north".to_owned(),
    };
    assert_eq!(*broker.asked.lock().unwrap(), vec![request; 3]);
}

#[tokio::test]
async fn what_waiting_cannot_mend_is_an_error() {
    let refused = vec![Err(Status::invalid_argument("blobs: has 0"))];
    let (_broker, client) = serve(2, vec![refused]).await;
    let mut precaching = client.precache(&[], None).unwrap();
    let error = precaching.next().await.unwrap_err();
    assert!(error.to_string().contains("has 0"), "{error}");
}

#[tokio::test]
async fn an_older_broker_is_not_asked() {
    let (broker, client) = serve(1, vec![]).await;
    let error = client.precache(&[blob()], None).unwrap_err();
    assert!(matches!(error, CallError::BrokerTooOld { .. }), "{error}");
    assert_eq!(*broker.asked.lock().unwrap(), []);
}
