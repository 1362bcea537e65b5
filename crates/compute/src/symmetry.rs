//! Point groups.
