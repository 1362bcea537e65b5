//! Central slices of a map's Fourier transform.
