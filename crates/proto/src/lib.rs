//! The wire: generated types, limits and the protocol version.
//!
//! Types are generated from `proto/` at build time. Past the conversions of the crates that
//! own an idea (`rpc/` in the broker, `session` in the worker), nobody touches them.

mod codec;
pub mod limits;
mod poses;
pub mod transport;
mod version;
mod view_token;

pub use codec::{CountingCodec, CountingDecoder};
pub use transport::{AuthorizedChannel, Token};
pub use version::{Incompatible, PROTOCOL, check_protocol};
pub use view_token::view_token;

/// Generated from `proto/dewar/v1`: what brokers, workers and customers say.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("dewar.v1");

    /// Descriptors of all files, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// Generated from `proto/dewar/em/v1`: parameters and outputs of the built-in kinds.
pub mod em {
    #[allow(missing_docs, clippy::all, rustdoc::all)]
    pub mod v1 {
        tonic::include_proto!("dewar.em.v1");
    }
}

/// Generated from `proto/dewar/store/v1`: what the broker keeps on disk.
pub mod store {
    #[allow(missing_docs, clippy::all, rustdoc::all)]
    pub mod v1 {
        tonic::include_proto!("dewar.store.v1");
    }
}
