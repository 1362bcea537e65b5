//! Low-pass filters and resampling of maps.
