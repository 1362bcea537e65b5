//! From typed values back to STAR, in RELION 3.1's layout.

use std::path::{Path, PathBuf};

use super::read::optics::{BEAM_TILT, CORRECTED, MAGNIFICATION, ZERNIKE};
use super::{Applied, HalfSet, OpticsGroup, Particle, ParticleSet, Pose, paths};
use crate::atomic::WriteError;
use crate::star::{Block, Document, Entry, Table};

/// What a refinement found out about one particle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refined {
    /// Where it points and lies.
    pub pose: Pose,
    /// The half it was refined in.
    pub half_set: HalfSet,
    /// What part of its posterior the pose has; RELION's `rlnMaxValueProbDistribution`.
    pub weight: f64,
    /// Standard deviation of the orientation about its worst axis; 0 where the image does not say.
    pub angle_sd_deg: f64,
    /// Standard deviation of the shift along its worst direction; likewise.
    pub shift_sd_angstrom: f64,
    /// Covariance of the pose, row by row of the upper triangle: small turns about the image's x, y and view in degrees, then the
    /// shift along x and y in Å. Zeros where the image does not say.
    pub covariance: [f64; 15],
}

/// A particle file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ParticlesWriteError {
    /// The disk or the folder refused.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Not one result for each particle.
    #[error("{}: {results} results for {particles} particles", path.display())]
    Count {
        /// The file that was to be written.
        path: PathBuf,
        /// How many results were given.
        results: usize,
        /// How many particles there are.
        particles: usize,
    },
    /// A particle points to a stack, optics group or micrograph that is not there.
    #[error("{}: particle {particle} points to a stack, optics group or micrograph that was not given", path.display())]
    Index {
        /// The file that was to be written.
        path: PathBuf,
        /// The particle, counted from 1.
        particle: usize,
    },
}

impl ParticleSet {
    /// Writes the set with new poses and half-sets, one for each particle in order. All other
    /// columns are kept; RELION 3.0's layout is turned into 3.1's; image names are rewritten
    /// where they would not mean the same file from the new place.
    pub fn write_refined(
        &self,
        path: &Path,
        refined: &[Refined],
    ) -> Result<(), ParticlesWriteError> {
        self.with_poses_and_half_sets(path, refined)?.write(path)?;
        Ok(())
    }

    /// The document that [`write_refined`](Self::write_refined) writes to `path`.
    pub fn with_poses_and_half_sets(
        &self,
        path: &Path,
        refined: &[Refined],
    ) -> Result<Document, ParticlesWriteError> {
        let old = self
            .document
            .blocks
            .get(self.particle_block)
            .and_then(Block::table);
        let rows = old.as_ref().map_or(0, |table| table.row_count());
        let Some(old) = old.filter(|_| rows == refined.len() && rows == self.particles.len())
        else {
            let (results, particles) = (refined.len(), self.particles.len());
            return Err(ParticlesWriteError::Count {
                path: path.to_owned(),
                results,
                particles,
            });
        };
        let names = self.stack_names_from(&paths::folder_of(path));
        let mut document = self.document.clone();
        document.blocks[self.particle_block] =
            Block::with_table("particles", self.refined_table(&old, refined, &names));
        match self.optics_block {
            Some(at) => complete_optics(&mut document.blocks[at], &self.optics),
            None => document
                .blocks
                .insert(0, Block::with_table("optics", optics_table(&self.optics))),
        }
        Ok(document)
    }

    fn stack_names_from(&self, folder: &Path) -> Vec<String> {
        let old_folder = paths::folder_of(&self.path);
        let name = |stack: &super::StackFile| {
            paths::as_stack(paths::name_from(
                folder,
                &stack.name,
                &stack.path,
                &old_folder,
            ))
        };
        self.stacks.iter().map(name).collect()
    }

    fn refined_table(&self, old: &Table, refined: &[Refined], names: &[String]) -> Table {
        let is_obsolete = |label: &str| {
            PIXEL_SHIFTS.contains(&label)
                || self.optics_block.is_none() && OPTICS_OF_30.contains(&label)
        };
        let mut labels: Vec<&str> = old
            .labels()
            .iter()
            .map(String::as_str)
            .filter(|label| !is_obsolete(label))
            .collect();
        let kept = labels.len();
        for label in WRITTEN_BY_REFINEMENT {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        let sources: Vec<Option<usize>> = labels[..kept]
            .iter()
            .map(|label| old.column(label))
            .collect();
        let mut table = Table::new(labels.iter().copied());
        for (row, (particle, refined)) in self.particles.iter().zip(refined).enumerate() {
            table.push_row(labels.iter().enumerate().map(|(at, label)| {
                self.new_value(label, particle, refined, names)
                    .or_else(|| Some(old.value(row, (*sources.get(at)?)?).to_owned()))
                    .unwrap_or_default()
            }));
        }
        table
    }

    fn new_value(
        &self,
        label: &str,
        particle: &Particle,
        refined: &Refined,
        names: &[String],
    ) -> Option<String> {
        match label {
            "rlnImageName" => Some(image_name(particle, &names[particle.stack_index])),
            "rlnOpticsGroup" => Some(self.optics[particle.optics_index].number.to_string()),
            "rlnRandomSubset" => Some(refined.half_set.number().to_string()),
            "rlnMaxValueProbDistribution" => Some(decimal(refined.weight)),
            "dewarAngleSdDeg" => Some(decimal(refined.angle_sd_deg)),
            "dewarShiftSdAngst" => Some(decimal(refined.shift_sd_angstrom)),
            "dewarPoseCovariance" => {
                let numbers = refined.covariance.map(|value| format!("{value:.4e}"));
                Some(format!("[{}]", numbers.join(",")))
            }
            _ => pose_value(label, &refined.pose),
        }
    }
}

/// RELION 3.0's shifts, which 3.1 replaced by shifts in Å.
const PIXEL_SHIFTS: [&str; 2] = ["rlnOriginX", "rlnOriginY"];

/// What moves from the particles of RELION 3.0 to the optics table of 3.1.
const OPTICS_OF_30: [&str; 13] = [
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
    "rlnMagnification",
    "rlnDetectorPixelSize",
    "rlnPixelSize",
    "rlnImagePixelSize",
    "rlnBeamTiltX",
    "rlnBeamTiltY",
    "rlnCtfDataAreCtfPremultiplied",
    "rlnCtfDataArePhaseFlipped",
    "rlnOddZernike",
    "rlnEvenZernike",
];

/// RELION keeps columns it does not know.
const WRITTEN_BY_REFINEMENT: [&str; 12] = [
    "rlnImageName",
    "rlnOpticsGroup",
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
    "rlnOriginXAngst",
    "rlnOriginYAngst",
    "rlnRandomSubset",
    "rlnMaxValueProbDistribution",
    "dewarAngleSdDeg",
    "dewarShiftSdAngst",
    "dewarPoseCovariance",
];

fn image_name(particle: &Particle, stack: &str) -> String {
    format!("{:06}@{stack}", particle.image_index + 1)
}

fn pose_value(label: &str, pose: &Pose) -> Option<String> {
    let number = match label {
        "rlnAngleRot" => pose.rot_deg,
        "rlnAngleTilt" => pose.tilt_deg,
        "rlnAnglePsi" => pose.psi_deg,
        "rlnOriginXAngst" => pose.shift_angstrom[0],
        "rlnOriginYAngst" => pose.shift_angstrom[1],
        _ => return None,
    };
    Some(decimal(number))
}

fn decimal(number: f64) -> String {
    format!("{number:.6}")
}

const OPTICS_LABELS: [&str; 9] = [
    "rlnOpticsGroupName",
    "rlnOpticsGroup",
    "rlnMicrographOriginalPixelSize",
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
    "rlnImagePixelSize",
    "rlnImageSize",
    "rlnImageDimensionality",
];

fn optics_table(groups: &[OpticsGroup]) -> Table {
    let mut labels = OPTICS_LABELS.to_vec();
    if groups.iter().any(|group| group.beam_tilt_mrad != [0.0; 2]) {
        labels.extend(BEAM_TILT);
    }
    if groups.iter().any(|group| group.magnification.is_some()) {
        labels.extend(MAGNIFICATION);
    }
    if groups.iter().any(has_aberrations) {
        labels.extend(ZERNIKE);
    }
    if groups.iter().any(|group| group.applied != Applied::Nothing) {
        labels.extend(CORRECTED);
    }
    let mut table = Table::new(labels.iter().copied());
    for group in groups {
        table.push_row(labels.iter().map(|label| optics_value(label, group)));
    }
    table
}

fn has_aberrations(group: &OpticsGroup) -> bool {
    let mut numbers = group.odd_zernike.iter().chain(&group.even_zernike);
    numbers.any(|number| *number != 0.0)
}

fn vector(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(|number| decimal(*number)).collect();
    format!("[{}]", numbers.join(","))
}

fn flag(is_set: bool) -> String {
    u8::from(is_set).to_string()
}

fn optics_value(label: &str, group: &OpticsGroup) -> String {
    let magnification = group.magnification.unwrap_or([[1.0, 0.0], [0.0, 1.0]]);
    match label {
        "rlnOpticsGroupName" => group.name.clone(),
        "rlnOpticsGroup" => group.number.to_string(),
        "rlnVoltage" => decimal(group.voltage_kv),
        "rlnSphericalAberration" => decimal(group.spherical_aberration_mm),
        "rlnAmplitudeContrast" => decimal(group.amplitude_contrast),
        "rlnImageSize" => group.box_size_px.to_string(),
        "rlnImageDimensionality" => "2".to_owned(),
        "rlnBeamTiltX" => decimal(group.beam_tilt_mrad[0]),
        "rlnBeamTiltY" => decimal(group.beam_tilt_mrad[1]),
        "rlnMagMat00" => decimal(magnification[0][0]),
        "rlnMagMat01" => decimal(magnification[0][1]),
        "rlnMagMat10" => decimal(magnification[1][0]),
        "rlnMagMat11" => decimal(magnification[1][1]),
        "rlnOddZernike" => vector(&group.odd_zernike),
        "rlnEvenZernike" => vector(&group.even_zernike),
        "rlnCtfDataAreCtfPremultiplied" => flag(group.applied == Applied::Whole),
        "rlnCtfDataArePhaseFlipped" => flag(group.applied == Applied::Phases),
        // The micrographs' own pixel size is not known where it is not given; RELION asks for one.
        _ => decimal(group.pixel_size_angstrom),
    }
}

/// RELION refuses an optics table without these, though some programs leave them out.
const OPTICS_LABELS_REQUIRED: [&str; 4] = [
    "rlnOpticsGroupName",
    "rlnImagePixelSize",
    "rlnImageSize",
    "rlnImageDimensionality",
];

fn complete_optics(block: &mut Block, groups: &[OpticsGroup]) {
    let Some(old) = block.table().map(|table| table.into_owned()) else {
        return;
    };
    let missing: Vec<&str> = OPTICS_LABELS_REQUIRED
        .into_iter()
        .filter(|label| old.column(label).is_none())
        .collect();
    if missing.is_empty() || old.row_count() != groups.len() {
        return;
    }
    let mut table = Table::new(
        old.labels()
            .iter()
            .map(String::as_str)
            .chain(missing.iter().copied()),
    );
    for (row, group) in groups.iter().enumerate() {
        let added = missing.iter().map(|label| optics_value(label, group));
        table.push_row(old.row(row).map(str::to_owned).chain(added));
    }
    block.entries = vec![Entry::Loop(table)];
}

/// Particles that come from no file, as a simulation makes them.
#[derive(Debug, Clone, PartialEq)]
pub struct NewParticles<'a> {
    /// The optics groups.
    pub optics: &'a [OpticsGroup],
    /// The stacks' names as the file shall have them, relative to the file's folder.
    pub stack_names: &'a [String],
    /// The micrographs' names.
    pub micrographs: &'a [String],
    /// The particles; poses and half-sets are written if all particles have them.
    pub particles: &'a [Particle],
}

/// Writes a particle file in RELION 3.1's layout.
pub fn write_particles(path: &Path, new: &NewParticles<'_>) -> Result<(), ParticlesWriteError> {
    new.check(path)?;
    let document = Document {
        blocks: vec![
            Block::with_table("optics", optics_table(new.optics)),
            Block::with_table("particles", new.table()),
        ],
    };
    document.write(path)?;
    Ok(())
}

impl NewParticles<'_> {
    fn check(&self, path: &Path) -> Result<(), ParticlesWriteError> {
        let is_bad = |particle: &Particle| {
            particle.stack_index >= self.stack_names.len()
                || particle.optics_index >= self.optics.len()
                || particle
                    .micrograph_index
                    .is_some_and(|at| at >= self.micrographs.len())
        };
        match self.particles.iter().position(is_bad) {
            Some(at) => Err(ParticlesWriteError::Index {
                path: path.to_owned(),
                particle: at + 1,
            }),
            None => Ok(()),
        }
    }

    fn table(&self) -> Table {
        let mut labels = vec!["rlnImageName", "rlnOpticsGroup"];
        if self
            .particles
            .iter()
            .all(|particle| particle.micrograph_index.is_some())
        {
            labels.push("rlnMicrographName");
        }
        labels.extend(["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"]);
        labels.extend(["rlnPhaseShift", "rlnCtfBfactor", "rlnCtfScalefactor"]);
        if self
            .particles
            .iter()
            .all(|particle| particle.half_set.is_some())
        {
            labels.push("rlnRandomSubset");
        }
        if self
            .particles
            .iter()
            .all(|particle| particle.pose.is_some())
        {
            labels.extend(["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]);
            labels.extend(["rlnOriginXAngst", "rlnOriginYAngst"]);
        }
        let mut table = Table::new(labels.iter().copied());
        for particle in self.particles {
            table.push_row(labels.iter().map(|label| self.value(label, particle)));
        }
        table
    }

    fn value(&self, label: &str, particle: &Particle) -> String {
        let ctf = &particle.ctf;
        match label {
            "rlnImageName" => image_name(particle, &self.stack_names[particle.stack_index]),
            "rlnOpticsGroup" => self.optics[particle.optics_index].number.to_string(),
            "rlnMicrographName" => particle
                .micrograph_index
                .map_or(String::new(), |at| self.micrographs[at].clone()),
            "rlnRandomSubset" => particle.half_set.map_or(0, HalfSet::number).to_string(),
            "rlnDefocusU" => decimal(ctf.defocus_u_angstrom),
            "rlnDefocusV" => decimal(ctf.defocus_v_angstrom),
            "rlnDefocusAngle" => decimal(ctf.defocus_angle_deg),
            "rlnPhaseShift" => decimal(ctf.phase_shift_deg),
            "rlnCtfBfactor" => decimal(ctf.b_factor),
            "rlnCtfScalefactor" => decimal(ctf.scale),
            _ => particle
                .pose
                .and_then(|pose| pose_value(label, &pose))
                .unwrap_or_default(),
        }
    }
}
