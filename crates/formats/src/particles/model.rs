//! What a particle set is, once read.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{ReadError, read};
use crate::mrc::{Encoding, MrcError, MrcFile};
use crate::star::Document;

/// A particle file and the stacks it points to. No pixel is held in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ParticleSet {
    /// The STAR file, as it was named.
    pub path: PathBuf,
    /// The stacks, in order of first mention.
    pub stacks: Vec<StackFile>,
    /// The optics groups, in the file's order.
    pub optics: Vec<OpticsGroup>,
    /// The particles, in the file's order.
    pub particles: Vec<Particle>,
    /// The micrographs' names, in order of first mention; empty if the file names none.
    pub micrographs: Vec<String>,
    /// The side of every image.
    pub box_size_px: usize,
    /// The pixel size of every image.
    pub pixel_size_angstrom: f64,
    /// What is odd about the files but did not keep them from being read.
    pub warnings: Vec<String>,
    pub(super) document: Document,
    /// Where the particles stand in `document`.
    pub(super) particle_block: usize,
    /// Where the optics table stands in `document`; none in RELION 3.0's layout.
    pub(super) optics_block: Option<usize>,
}

/// A stack of particle images and where its images lie.
#[derive(Debug, Clone, PartialEq)]
pub struct StackFile {
    /// Its name in the STAR file.
    pub name: String,
    /// The file that name was found to mean.
    pub path: PathBuf,
    /// The number of images.
    pub image_count: usize,
    /// The width and height of an image.
    pub size_px: [usize; 2],
    /// How values are stored.
    pub encoding: Encoding,
    /// Where the first image begins, in bytes.
    pub data_offset: u64,
}

/// What the particles of one group of micrographs have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpticsGroup {
    /// Its name; RELION's own are `opticsGroup1` and so on.
    pub name: String,
    /// Its number, from 1.
    pub number: u32,
    /// The acceleration voltage.
    pub voltage_kv: f64,
    /// The spherical aberration.
    pub spherical_aberration_mm: f64,
    /// The amplitude contrast, a fraction.
    pub amplitude_contrast: f64,
    /// The pixel size of the particle images.
    pub pixel_size_angstrom: f64,
    /// The side of the particle images.
    pub box_size_px: usize,
    /// rlnBeamTiltX and rlnBeamTiltY.
    pub beam_tilt_mrad: [f64; 2],
    /// rlnMagMat00 to 11, row by row; none where magnification is the same in all directions.
    pub magnification: Option<[[f64; 2]; 2]>,
    /// rlnOddZernike.
    pub odd_zernike: [f64; 6],
    /// rlnEvenZernike.
    pub even_zernike: [f64; 9],
    /// What was done to the images about their CTF.
    pub applied: Applied,
}

/// What was done to images about their CTF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Applied {
    /// Nothing: they are raw.
    #[default]
    Nothing,
    /// rlnCtfDataArePhaseFlipped: phases are flipped where the CTF is negative.
    Phases,
    /// rlnCtfDataAreCtfPremultiplied: they are multiplied by it.
    Whole,
}

/// One particle.
#[derive(Debug, Clone, PartialEq)]
pub struct Particle {
    /// Its stack, as a position in [`ParticleSet::stacks`].
    pub stack_index: usize,
    /// Its image in that stack, counted from 0.
    pub image_index: usize,
    /// Its optics group, as a position in [`ParticleSet::optics`].
    pub optics_index: usize,
    /// Its micrograph, as a position in [`ParticleSet::micrographs`].
    pub micrograph_index: Option<usize>,
    /// Its contrast transfer function, beyond what the optics group says.
    pub ctf: Ctf,
    /// Its orientation and shift, if the file has them.
    pub pose: Option<Pose>,
    /// The half it belongs to, if the file says so.
    pub half_set: Option<HalfSet>,
}

/// One particle's share of the contrast transfer function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ctf {
    /// Defocus along the axis of greatest defocus; positive is underfocus.
    pub defocus_u_angstrom: f64,
    /// Defocus across it.
    pub defocus_v_angstrom: f64,
    /// The angle from the x axis to that of `defocus_u_angstrom`.
    pub defocus_angle_deg: f64,
    /// The phase plate's shift; 0 without one.
    pub phase_shift_deg: f64,
    /// The envelope's B-factor, in Å²; 0 if not given.
    pub b_factor: f64,
    /// The overall factor; 1 if not given.
    pub scale: f64,
}

/// An orientation in RELION's Euler angles (ZYZ) and the shift that centres the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// rlnAngleRot.
    pub rot_deg: f64,
    /// rlnAngleTilt.
    pub tilt_deg: f64,
    /// rlnAnglePsi.
    pub psi_deg: f64,
    /// rlnOriginXAngst and rlnOriginYAngst.
    pub shift_angstrom: [f64; 2],
}

/// One of the two halves that a gold-standard refinement keeps apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfSet {
    /// rlnRandomSubset 1.
    One,
    /// rlnRandomSubset 2.
    Two,
}

impl HalfSet {
    /// RELION's number for it.
    pub fn number(self) -> u8 {
        match self {
            HalfSet::One => 1,
            HalfSet::Two => 2,
        }
    }
}

impl ParticleSet {
    /// Reads a particle file and the headers of all its stacks. Stack names are looked up from
    /// `project_dir` if given, then from the STAR file's folder, its ancestors, and the current
    /// folder.
    pub fn read(star_path: &Path, project_dir: Option<&Path>) -> Result<Self, ReadError> {
        read::read(star_path, project_dir)
    }

    /// Whether every particle has a pose.
    pub fn has_poses(&self) -> bool {
        !self.particles.is_empty()
            && self
                .particles
                .iter()
                .all(|particle| particle.pose.is_some())
    }

    /// How many particles are in the first and the second half.
    pub fn half_set_counts(&self) -> [usize; 2] {
        let count = |half| {
            self.particles
                .iter()
                .filter(|p| p.half_set == Some(half))
                .count()
        };
        [count(HalfSet::One), count(HalfSet::Two)]
    }

    /// The STAR document the set was read from.
    pub fn document(&self) -> &Document {
        &self.document
    }
}

impl StackFile {
    /// The length of one image.
    pub fn image_bytes(&self) -> u64 {
        (self.size_px[0] * self.size_px[1] * self.encoding.mode.value_bytes()) as u64
    }

    /// Where an image, counted from 0, lies in the file; it must be one of the stack's.
    pub fn image_byte_range(&self, image_index: usize) -> Range<u64> {
        debug_assert!(
            image_index < self.image_count,
            "image {image_index} of {}",
            self.image_count
        );
        let start = self.data_offset + image_index as u64 * self.image_bytes();
        start..start + self.image_bytes()
    }

    /// Opens the stack to read its images.
    pub fn open(&self) -> Result<MrcFile, MrcError> {
        MrcFile::open(&self.path)
    }
}
