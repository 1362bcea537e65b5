//! Fourier reconstruction from posed particles.
