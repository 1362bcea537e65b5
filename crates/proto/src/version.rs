//! The protocol's version, and who may talk to whom.

use crate::v1::ProtocolVersion;

/// The protocol this build speaks.
pub const PROTOCOL: ProtocolVersion = ProtocolVersion { major: 1, minor: 5 };

/// Two peers of different major versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{peer_role} speaks protocol {}.{} but this {own_role} speaks {}.{}; install the same release on both",
    peer.major, peer.minor, PROTOCOL.major, PROTOCOL.minor
)]
pub struct Incompatible {
    /// What the peer said.
    pub peer: ProtocolVersion,
    /// What the peer is: broker, worker or customer.
    pub peer_role: &'static str,
    /// What we are.
    pub own_role: &'static str,
}

/// Refuses a peer of another major version; a peer that said none counts as 0.0.
pub fn check_protocol(
    peer: Option<ProtocolVersion>,
    peer_role: &'static str,
    own_role: &'static str,
) -> Result<(), Incompatible> {
    let peer = peer.unwrap_or_default();
    if peer.major == PROTOCOL.major {
        Ok(())
    } else {
        Err(Incompatible {
            peer,
            peer_role,
            own_role,
        })
    }
}
