//! The wire: generated types, conversions to ours, limits and the protocol version.
