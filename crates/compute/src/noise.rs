//! Noise spectra of particle images.
