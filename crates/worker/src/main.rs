//! The daemon. 
fn main() {}
