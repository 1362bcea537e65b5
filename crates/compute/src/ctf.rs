//! The contrast transfer function.
