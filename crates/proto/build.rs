//! Compiles `proto/` with a pure-Rust compiler, and keeps the descriptors for reflection.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 8] = [
    "dewar/v1/task.proto",
    "dewar/v1/jobs.proto",
    "dewar/v1/fleet.proto",
    "dewar/v1/blobs.proto",
    "dewar/v1/admin.proto",
    "dewar/em/v1/kernels.proto",
    "dewar/em/v1/classify.proto",
    "dewar/store/v1/records.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());

    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    // Large payloads are reference-counted, so that they are decoded without a copy.
    let mut config = tonic_prost_build::Config::new();
    config.bytes([
        ".dewar.v1.Payload.inline",
        ".dewar.v1.Input.inline",
        ".dewar.v1.ReadResponse.data",
        ".dewar.v1.WriteRequest.data",
        ".dewar.v1.WriteChunksRequest.data",
        ".dewar.v1.ChunkDigestsResponse.digests",
        ".dewar.v1.OfferRequest.chunk_digests",
        ".dewar.v1.Keeps.chunk_digests",
    ]);
    tonic_prost_build::configure()
        .codec_path("crate::CountingCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
