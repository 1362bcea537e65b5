//! MRC, STAR and particle sets: files in, typed values out.
