//! Density maps from atomic models.
