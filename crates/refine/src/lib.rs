//! The refinement of single-particle structures, a customer like any other.
