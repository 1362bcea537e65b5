//! The FFT-based compute core: no async, no network, no files.
//!
//! Slices and parameters in, slices out; callers bring threads and scratch. Conventions (Euler angles, CTF sign,
//! shifts, Fourier signs) are RELION's.

pub mod aberration;
pub mod coverage;
pub mod ctf;
pub mod density;
pub mod fft;
pub mod filter;
pub mod fsc;
mod gridding;
pub mod local_resolution;
pub mod mask;
pub mod noise;
pub mod optics;
pub mod orientation;
pub mod phantom;
pub mod pose_error;
pub mod postprocess;
pub mod projector;
pub mod reconstruct;
pub mod sampling;
pub mod search;
pub mod simulate;
pub mod symmetry;
pub mod volume;
