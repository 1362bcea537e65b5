//! MRC, STAR, particle sets (RELION's and cryoSPARC's) and atomic models: files in, typed values out.
//!
//! What a file says is taken apart here and nowhere else; what it means for a refinement is not
//! this crate's business. Three rules hold throughout: no input makes it panic, every complaint
//! names the file and the line or particle, and an output appears under its name only when it is
//! whole and on disk ([`atomic`]).

pub mod atomic;
pub mod inspect;
pub mod mrc;
pub mod particles;
pub mod pdb;
pub mod star;

mod chain;
mod image;
mod npy;
mod statistics;

pub use image::{ImageProblem, check_image};
pub use npy::NpyError;
pub use statistics::Statistics;
