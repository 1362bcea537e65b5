//! cryoSPARC's particle sets (`.cs`), said in STAR: what reads STAR then checks them as it checks all others.
//!
//! A set is often parted: what a job changed stands in its own file, and the rest in a passthrough file beside it. Records
//! of one particle share a `uid`. Conventions, as cryosparc-tools documents the fields and pyem's csparc2star converts them:
//!
//! - `alignments3D/pose` is a rotation vector; the matrix it makes by Rodrigues' formula is the transpose of RELION's.
//! - `alignments3D/shift` has the sign of rlnOriginX/Y, in pixels of `alignments3D/psize_A`.
//! - Angles are in radians; `blob/idx`, `ctf/exp_group_id` and `alignments3D/split` count from 0.
//! - `blob/sign` is -1 for images with dark particles. A CTF scale of -1 says the same.

mod pose;
mod sources;

use std::path::{Path, PathBuf};

use self::pose::euler_deg;
pub(crate) use self::sources::is_cryosparc;
use self::sources::{Sources, Values};
use crate::npy::NpyError;
use crate::star::{Block, Document, Table};

/// A cryoSPARC file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CryosparcError {
    /// The file or one beside it is no file of records.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// cryoSPARC's own container.
    #[error(
        "{}: in cryoSPARC's CSDAT format, which is not read; expected a .cs file in NumPy's format, as a job's export has", path.display()
    )]
    Csdat {
        /// The file.
        path: PathBuf,
    },
    /// Records, but not of particles.
    #[error("{}: {found}; expected particles, with blob/path and blob/idx", path.display())]
    NotParticles {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
    },
    /// Fields that must be there.
    #[error("{}: no {}{}", path.display(), fields.join(", "), looked_in(passthrough))]
    MissingFields {
        /// The file.
        path: PathBuf,
        /// The fields.
        fields: Vec<&'static str>,
        /// Where else they were looked for.
        passthrough: Vec<PathBuf>,
    },
    /// A particle that no record of a passthrough file belongs to.
    #[error("{}: particle {particle} (uid {uid}) has no usable {field}{}", path.display(), looked_in(passthrough))]
    MissingValue {
        /// The file.
        path: PathBuf,
        /// The particle, from 1.
        particle: usize,
        /// Its identifier.
        uid: u64,
        /// The field.
        field: &'static str,
        /// Where it was looked for.
        passthrough: Vec<PathBuf>,
    },
    /// Aberrations whose signs are not published.
    #[error(
        "{}: {field} is not 0 (particle {particle}): aberrations from cryoSPARC are not read; expected particles from before the \
         global CTF refinement, or a STAR file of RELION's with its own", path.display()
    )]
    Aberration {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// The first particle that has one, from 1.
        particle: usize,
    },
}

fn looked_in(passthrough: &[PathBuf]) -> String {
    if passthrough.is_empty() {
        return ", and there is no passthrough file (*passthrough*.cs) beside it".to_owned();
    }
    let names: Vec<_> = passthrough
        .iter()
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy())
        .collect();
    format!(", also not in {}", names.join(", "))
}

/// Must be 0: how they add to phases is known to cryoSPARC alone.
const ABERRATIONS: [&str; 4] = ["ctf/tilt_A", "ctf/trefoil_A", "ctf/tetra_A", "ctf/anisomag"];

/// Reads a set and says it in RELION 3.1's layout.
pub(super) fn document(path: &Path) -> Result<Document, CryosparcError> {
    let sources = Sources::read(path)?;
    let columns = Columns::of(&sources)?;
    let mut optics: Vec<Optics> = Vec::new();
    let mut particles = Table::new(columns.labels());
    for row in 0..sources.len() {
        columns.check_aberrations(row)?;
        let group = columns.optics(row)?;
        let at = optics.iter().position(|known| *known == group);
        let at = at.unwrap_or_else(|| {
            optics.push(group);
            optics.len() - 1
        });
        particles.push_row(columns.row(row, at + 1)?);
    }
    Ok(Document {
        blocks: vec![
            Block::with_table("optics", optics_table(&optics)),
            Block::with_table("particles", particles),
        ],
    })
}

/// What makes an optics group: exposure groups that differ within themselves are parted.
#[derive(Clone, Copy, PartialEq)]
struct Optics {
    exposure_group: f64,
    voltage_kv: f64,
    spherical_aberration_mm: f64,
    amplitude_contrast: f64,
    pixel_size_angstrom: f64,
    box_size_px: f64,
}

fn optics_table(optics: &[Optics]) -> Table {
    let mut table = Table::new([
        "rlnOpticsGroupName",
        "rlnOpticsGroup",
        "rlnVoltage",
        "rlnSphericalAberration",
        "rlnAmplitudeContrast",
        "rlnImagePixelSize",
        "rlnImageSize",
        "rlnImageDimensionality",
    ]);
    for (number, group) in (1..).zip(optics) {
        table.push_row([
            format!("exposureGroup{}", group.exposure_group),
            format!("{number}"),
            decimal(group.voltage_kv),
            decimal(group.spherical_aberration_mm),
            decimal(group.amplitude_contrast),
            decimal(group.pixel_size_angstrom),
            group.box_size_px.to_string(),
            "2".to_owned(),
        ]);
    }
    table
}

/// The fields that are read.
struct Columns<'a> {
    image: Image<'a>,
    optics: [Values<'a>; 4],
    exposure_group: Option<Values<'a>>,
    defocus: [Values<'a>; 3],
    phase_shift: Option<Values<'a>>,
    b_factor: Option<Values<'a>>,
    micrograph: Option<Values<'a>>,
    pose: Option<Pose<'a>>,
    split: Option<Values<'a>>,
    aberrations: Vec<Values<'a>>,
    uid: &'a [u64],
}

struct Image<'a> {
    path: Values<'a>,
    index: Values<'a>,
    shape: Option<Values<'a>>,
    sign: Option<Values<'a>>,
}

struct Pose<'a> {
    rotation: Values<'a>,
    shift: Values<'a>,
    pixel_size: Values<'a>,
}

impl<'a> Columns<'a> {
    fn of(sources: &'a Sources) -> Result<Self, CryosparcError> {
        let mut missing = Vec::new();
        let mut required = |name| {
            let values = sources.values(name);
            if values.is_none() {
                missing.push(name);
            }
            values
        };
        let path = required("blob/path");
        let index = required("blob/idx");
        let optics = [
            required("ctf/accel_kv"),
            required("ctf/cs_mm"),
            required("ctf/amp_contrast"),
            required("blob/psize_A"),
        ];
        let defocus = [
            required("ctf/df1_A"),
            required("ctf/df2_A"),
            required("ctf/df_angle_rad"),
        ];
        let ([Some(kv), Some(cs), Some(contrast), Some(pixel)], [Some(u), Some(v), Some(angle)]) =
            (optics, defocus)
        else {
            return Err(sources.missing(missing));
        };
        let (Some(path), Some(index)) = (path, index) else {
            return Err(sources.missing(missing));
        };
        let pose = match (
            sources.values("alignments3D/pose"),
            sources.values("alignments3D/shift"),
        ) {
            (Some(rotation), Some(shift)) => Some(Pose {
                rotation,
                shift,
                pixel_size: sources
                    .values("alignments3D/psize_A")
                    .unwrap_or_else(|| pixel.clone()),
            }),
            _ => None,
        };
        Ok(Self {
            image: Image {
                path,
                index,
                shape: sources.values("blob/shape"),
                sign: sources.values("blob/sign"),
            },
            optics: [kv, cs, contrast, pixel],
            exposure_group: sources.values("ctf/exp_group_id"),
            defocus: [u, v, angle],
            phase_shift: sources.values("ctf/phase_shift_rad"),
            b_factor: sources.values("ctf/bfactor"),
            micrograph: sources.values("location/micrograph_path"),
            pose,
            split: sources.split(),
            aberrations: ABERRATIONS
                .into_iter()
                .filter_map(|name| sources.values(name))
                .collect(),
            uid: sources.uids(),
        })
    }

    fn labels(&self) -> Vec<&'static str> {
        let mut labels = vec![
            "rlnImageName",
            "rlnOpticsGroup",
            "rlnDefocusU",
            "rlnDefocusV",
            "rlnDefocusAngle",
            "rlnPhaseShift",
            "rlnCtfBfactor",
            "rlnCtfScalefactor",
            // What leads back to cryoSPARC; pyem's name for it.
            "ucsfUid",
        ];
        if self.micrograph.is_some() {
            labels.push("rlnMicrographName");
        }
        if self.pose.is_some() {
            labels.extend(["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]);
            labels.extend(["rlnOriginXAngst", "rlnOriginYAngst"]);
        }
        if self.split.is_some() {
            labels.push("rlnRandomSubset");
        }
        labels
    }

    /// The values of [`labels`](Self::labels).
    fn row(&self, row: usize, optics_group: usize) -> Result<Vec<String>, CryosparcError> {
        let index = self.image.index.number(row)?;
        let name = plain_path(&self.image.path.text(row)?);
        let [u, v, angle] = &self.defocus;
        let mut values = vec![
            format!("{:06}@{name}", index + 1.0),
            optics_group.to_string(),
            decimal(u.number(row)?),
            decimal(v.number(row)?),
            decimal(angle.number(row)?.to_degrees()),
            decimal(number_or(self.phase_shift.as_ref(), row, 0.0)?.to_degrees()),
            decimal(number_or(self.b_factor.as_ref(), row, 0.0)?),
            decimal(number_or(self.image.sign.as_ref(), row, 1.0)?),
            self.uid[row].to_string(),
        ];
        if let Some(micrograph) = &self.micrograph {
            values.push(plain_path(&micrograph.text(row)?));
        }
        if let Some(pose) = &self.pose {
            let rotation = pose.rotation.numbers::<3>(row)?;
            let pixel = pose.pixel_size.number(row)?;
            values.extend(euler_deg(rotation).map(decimal));
            values.extend(pose.shift.numbers::<2>(row)?.map(|px| decimal(px * pixel)));
        }
        if let Some(split) = &self.split {
            values.push((split.number(row)? + 1.0).to_string());
        }
        Ok(values)
    }

    fn optics(&self, row: usize) -> Result<Optics, CryosparcError> {
        let [kv, cs, contrast, pixel] = &self.optics;
        Ok(Optics {
            exposure_group: number_or(self.exposure_group.as_ref(), row, 0.0)?,
            voltage_kv: kv.number(row)?,
            spherical_aberration_mm: cs.number(row)?,
            amplitude_contrast: contrast.number(row)?,
            pixel_size_angstrom: pixel.number(row)?,
            // 0: nobody said.
            box_size_px: number_or(self.image.shape.as_ref(), row, 0.0)?,
        })
    }

    fn check_aberrations(&self, row: usize) -> Result<(), CryosparcError> {
        match self
            .aberrations
            .iter()
            .find(|values| values.is_nonzero(row))
        {
            Some(values) => Err(values.aberration(row)),
            None => Ok(()),
        }
    }
}

fn number_or(
    values: Option<&Values<'_>>,
    row: usize,
    otherwise: f64,
) -> Result<f64, CryosparcError> {
    values.map_or(Ok(otherwise), |values| values.number(row))
}

/// A path from the project's folder; cryoSPARC marks some with a leading bracket.
fn plain_path(path: &str) -> String {
    path.trim_start_matches('>').to_owned()
}

fn decimal(number: f64) -> String {
    format!("{number:.6}")
}
