//! Maps and images as plain arrays.
