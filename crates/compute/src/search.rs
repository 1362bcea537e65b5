//! Projection matching.
