//! Real 2-D and 3-D Fourier transforms with their plans and scratch.
