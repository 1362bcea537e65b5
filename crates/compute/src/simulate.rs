//! Particle images simulated from a map.
