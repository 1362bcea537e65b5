//! Rotations and RELION's Euler angles.
