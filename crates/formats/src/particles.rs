//! Particle sets: RELION's STAR files, or cryoSPARC's, joined with the stacks they point to, as typed values.
//!
//! Layouts of RELION 3.0 (CTF in every row) and 3.1 to 5 (optics table) are read; the second is
//! written. The STAR document is kept beside the typed values, so that columns unknown to Dewar
//! come through a refinement unharmed.

mod cryosparc;
mod model;
mod paths;
mod problem;
mod read;
mod stacks;
mod write;

pub use cryosparc::CryosparcError;
pub(crate) use cryosparc::is_cryosparc;
pub use model::{Applied, Ctf, HalfSet, OpticsGroup, Particle, ParticleSet, Pose, StackFile};
pub use problem::{PROBLEMS_MAX, Problem, ProblemKind, ReadError};
pub(crate) use read::{Findings, examine};
pub use write::{NewParticles, ParticlesWriteError, Refined, write_particles};
