//! Soft masks.
