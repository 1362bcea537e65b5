//! The wire's end: services that translate between messages and commands, and the server they run on.
//!
//! One file a service. Every field is checked here; nothing past this folder sees a generated type.

pub(crate) mod admin;
pub(crate) mod auth;
mod blobs;
pub(crate) mod connections;
pub(crate) mod convert;
mod fleet;
pub(crate) mod jobs;
mod share;
mod traffic;

pub(crate) use traffic::Traffic;

use crate::{
    config::Patience, disk_space::DiskSpace, engine::EngineHandle, near::Taking, reports::Reports,
    swarm::SwarmHandle, web,
};
use auth::Auth;
use dewar_blobs::BlobStore;
use dewar_proto::{
    limits::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES},
    v1::{
        DESCRIPTORS, admin_server::AdminServer, blobs_server::BlobsServer,
        fleet_server::FleetServer, jobs_server::JobsServer,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{Routes, interceptor::InterceptedService},
    transport::{Server, server::TcpIncoming},
};
use uuid::Uuid;

/// Calls one connection may have open: a worker has a few, a customer some tens.
const STREAM_COUNT_MAX: u32 = 1024;

/// Bytes of one call's headers; a token is a hundred.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Largest chunk list we send: that of a blob of 8 TiB.
const CHUNK_LIST_BYTES_MAX: usize = 256 << 20;

/// Tells how many bytes of blobs are kept.
pub(crate) type BlobBytes = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What the services need.
pub(crate) struct Services {
    pub(crate) engine: EngineHandle,
    pub(crate) blobs: BlobStore,
    pub(crate) auth: Auth,
    pub(crate) patience: Patience,
    pub(crate) broker_id: Uuid,
    pub(crate) data_dir: String,
    pub(crate) started_unix_ms: u64,
    pub(crate) blob_bytes: BlobBytes,
    pub(crate) disk: DiskSpace,
    pub(crate) swarm: SwarmHandle,
    /// Blobs to be fetched from workers and kept.
    pub(crate) take_in: mpsc::UnboundedReceiver<Taking>,
    /// What opens workers to one another.
    pub(crate) peer_token: Arc<str>,
    pub(crate) traffic: Traffic,
    pub(crate) reports: Reports,
}

/// Serves until told to stop, and then until every call has ended.
///
/// # Errors
/// If the listener fails.
pub(crate) async fn serve(
    services: Services,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let Services {
        engine,
        blobs,
        auth,
        patience,
        broker_id,
        data_dir,
        started_unix_ms,
        blob_bytes,
        disk,
        swarm,
        take_in,
        peer_token,
        traffic,
        reports,
    } = services;
    let about = admin::About {
        host_name: dewar_settings::host_name(),
        started_unix_ms,
        data_dir,
    };

    let jobs_service = Arc::new(jobs::JobsService::new(
        engine.clone(),
        disk.clone(),
        reports.clone(),
        blobs.clone(),
        stop.clone(),
    ));
    let jobs = JobsServer::from_arc(jobs_service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let share = share::Share {
        engine: engine.clone(),
        swarm: swarm.clone(),
        peer_token: Arc::clone(&peer_token),
        broker_id,
    };
    let fleet = FleetServer::new(fleet::FleetService::new(
        engine.clone(),
        patience,
        broker_id,
        share,
    ))
    .max_decoding_message_size(MESSAGE_BYTES_MAX)
    .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let blobs_service = blobs::BlobsService::new(
        blobs,
        engine.clone(),
        disk.clone(),
        traffic.clone(),
        blobs::Neighbours::new(swarm.clone(), peer_token),
        stop.clone(),
    );
    tokio::spawn(blobs_service.clone().take_in(take_in));
    let blobs = BlobsServer::new(blobs_service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(CHUNK_LIST_BYTES_MAX);
    let admin_service = Arc::new(admin::AdminService::new(
        engine.clone(),
        about,
        blob_bytes,
        disk,
        swarm.clone(),
        traffic.clone(),
    ));
    let admin =
        AdminServer::from_arc(admin_service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    // The empty name stands for the broker as a whole.
    health_reporter
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    const SOUND: &str = "the descriptors were made by the compiler";
    let reflection = descriptors().build_v1().expect(SOUND);
    // Clients of before 2023, such as the grpcurl that PyPI carries, ask by this older name only.
    let reflection_by_old_name = descriptors().build_v1alpha().expect(SOUND);

    let sources = web::Sources {
        engine,
        swarm,
        admin: admin_service,
        jobs: jobs_service,
        traffic,
        tokens: auth.tokens().clone(),
        reports,
    };
    let grpc = Routes::new(health)
        .add_service(reflection)
        .add_service(reflection_by_old_name)
        .add_service(InterceptedService::new(jobs, auth.clone()))
        .add_service(InterceptedService::new(fleet, auth.clone()))
        .add_service(InterceptedService::new(blobs, auth.clone()))
        .add_service(InterceptedService::new(admin, auth));

    // Taken from the listener, since the builder's own setting does not reach ready-made listeners.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let incoming = connections::counted(incoming, connections::Bounds::of_process(), stop.clone());
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAM_COUNT_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        // Browsers say HTTP/1.1 where nothing is encrypted.
        .accept_http1(true)
        .add_routes(web::routes(grpc, sources, stop.clone()))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await;
    blobs_service.ended().await;
    served
}
