//! Fourier shell correlation.
