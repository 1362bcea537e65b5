//! How far poses are from other poses, up to symmetry and a common frame.
