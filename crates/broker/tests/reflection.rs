//! What a tool that knows nothing of Dewar can find out: the services, without a token.

mod common;

use common::*;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[tokio::test]
async fn services_list_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path()).await;
    let address = format!("http://{}", broker.address());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap();
    let mut client = ServerReflectionClient::new(channel.connect().await.unwrap());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let answer = answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in ["Jobs", "Fleet", "Blobs", "Admin"] {
        assert!(names.contains(&format!("dewar.v1.{name}")), "{names:?}");
    }
    broker.shutdown().await.unwrap();
}
