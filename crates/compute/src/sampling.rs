//! Grids of orientations and shifts.
