//! From STAR document to typed particles, gathering every problem on the way.

mod cells;
mod conclude;
pub(super) mod optics;
mod recognise;

use std::collections::HashMap;
use std::path::Path;

use self::optics::{OPTICS_COLUMNS, PixelSizeColumns};
use super::cryosparc;
use super::stacks::Stacks;
use super::{
    Ctf, HalfSet, OpticsGroup, PROBLEMS_MAX, Particle, ParticleSet, Pose, Problem, ProblemKind,
    ReadError,
};
use crate::star::{Document, Table};

/// What reading found: the particles that could be understood, and all that is wrong.
pub(crate) struct Findings {
    pub(crate) set: ParticleSet,
    pub(crate) problems: Vec<Problem>,
}

pub(super) fn read(star_path: &Path, project_dir: Option<&Path>) -> Result<ParticleSet, ReadError> {
    let Findings { set, problems } = examine(star_path, project_dir)?;
    if problems.is_empty() {
        Ok(set)
    } else {
        Err(ReadError::Problems(problems))
    }
}

/// Reads as much as can be read; fails only where there is no particle file.
pub(crate) fn examine(path: &Path, project_dir: Option<&Path>) -> Result<Findings, ReadError> {
    let document = if cryosparc::is_cryosparc(path) {
        cryosparc::document(path)?
    } else {
        Document::read(path)?
    };
    let mut reader = Reader::new(path, project_dir);
    reader.read(&document);
    Ok(reader.finish(document))
}

struct Reader<'a> {
    path: &'a Path,
    stacks: Stacks,
    optics: Vec<OpticsGroup>,
    particles: Vec<Particle>,
    micrographs: Vec<String>,
    micrograph_indices: HashMap<String, usize>,
    /// Which particle has an image, by position in `particles` and by number, to find those that
    /// come twice.
    owners: HashMap<(usize, usize), (usize, usize)>,
    repeated_count: usize,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    particle_block: usize,
    optics_block: Option<usize>,
    /// Whether groups may be missing because their table is wrong; particles are not to be blamed for that as well.
    optics_failed: bool,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, project_dir: Option<&Path>) -> Self {
        Self {
            path,
            stacks: Stacks::new(path, project_dir),
            optics: Vec::new(),
            particles: Vec::new(),
            micrographs: Vec::new(),
            micrograph_indices: HashMap::new(),
            owners: HashMap::new(),
            repeated_count: 0,
            problems: Vec::new(),
            warnings: Vec::new(),
            particle_block: 0,
            optics_block: None,
            optics_failed: false,
        }
    }

    fn read(&mut self, document: &Document) {
        if let Some(label) = recognise::tomography_label(document) {
            return self.report(None, ProblemKind::Tomography { label });
        }
        let Some((block, table)) = particle_table(document) else {
            return self.report(None, recognise::other_file(document));
        };
        self.particle_block = block;
        let block_name = document.blocks[block].name.clone();
        if table.row_count() == 0 {
            return self.report(None, ProblemKind::NoRows { block: block_name });
        }
        self.optics_block = document
            .blocks
            .iter()
            .position(|block| block.name == "optics" && block.table().is_some());
        let optics = self.optics_block.and_then(|at| document.blocks[at].table());
        let columns = Columns::of(&table);
        let mut required = vec!["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"];
        if optics.is_some() {
            required.push("rlnOpticsGroup");
            let problem_count = self.problems.len();
            self.read_optics(&optics.unwrap_or_default());
            self.optics_failed = self.problems.len() > problem_count;
        } else {
            required.extend(OPTICS_COLUMNS);
            if columns.pixel_size.is_none() {
                self.report(None, ProblemKind::NoPixelSize);
            }
        }
        if self.require(&table, &block_name, &required) {
            if self.optics_block.is_some() {
                self.check_misplaced(&table);
            }
            for row in 0..table.row_count() {
                self.read_particle(&table, &columns, row);
            }
        }
    }

    fn read_particle(&mut self, table: &Table, columns: &Columns, row: usize) {
        let particle = row + 1;
        let optics_index = self.optics_index(table, columns, row);
        let ctf = self.ctf(table, row);
        let image = self.image(table, row);
        let pixel = optics_index.map_or(1.0, |index| self.optics[index].pixel_size_angstrom);
        let pose = if columns.has_pose {
            self.pose(table, columns, row, pixel)
        } else {
            None
        };
        let half_set = if columns.has_half_set {
            self.half_set(table, row)
        } else {
            None
        };
        let micrograph_index =
            text(table, row, "rlnMicrographName").map(|name| self.micrograph(name));
        let (Some(optics_index), Some(ctf), Some((stack_index, image_index))) =
            (optics_index, ctf, image)
        else {
            return;
        };
        self.particles.push(Particle {
            stack_index,
            image_index,
            optics_index,
            micrograph_index,
            ctf,
            pose,
            half_set,
        });
        self.note_owner(table, row, particle, (stack_index, image_index));
    }

    fn ctf(&mut self, table: &Table, row: usize) -> Option<Ctf> {
        let defocus_u_angstrom = self.number(table, row, "rlnDefocusU");
        let defocus_v_angstrom = self.number(table, row, "rlnDefocusV");
        let defocus_angle_deg = self.number(table, row, "rlnDefocusAngle");
        let phase_shift_deg = self.number_or(table, row, "rlnPhaseShift", 0.0);
        let b_factor = self.number_or(table, row, "rlnCtfBfactor", 0.0);
        let scale = self.number_or(table, row, "rlnCtfScalefactor", 1.0);
        Some(Ctf {
            defocus_u_angstrom: defocus_u_angstrom?,
            defocus_v_angstrom: defocus_v_angstrom?,
            defocus_angle_deg: defocus_angle_deg?,
            phase_shift_deg: phase_shift_deg?,
            b_factor: b_factor?,
            scale: scale?,
        })
    }

    fn pose(&mut self, table: &Table, columns: &Columns, row: usize, pixel: f64) -> Option<Pose> {
        let rot_deg = self.number(table, row, "rlnAngleRot");
        let tilt_deg = self.number(table, row, "rlnAngleTilt");
        let psi_deg = self.number(table, row, "rlnAnglePsi");
        let (labels, unit) = match columns.shifts_are_px {
            true => (["rlnOriginX", "rlnOriginY"], pixel),
            false => (["rlnOriginXAngst", "rlnOriginYAngst"], 1.0),
        };
        let [x, y] = labels.map(|label| self.number_or(table, row, label, 0.0));
        Some(Pose {
            rot_deg: rot_deg?,
            tilt_deg: tilt_deg?,
            psi_deg: psi_deg?,
            shift_angstrom: [x? * unit, y? * unit],
        })
    }

    fn half_set(&mut self, table: &Table, row: usize) -> Option<HalfSet> {
        const COLUMN: &str = "rlnRandomSubset";
        match text(table, row, COLUMN).map(str::parse::<f64>) {
            Some(Ok(1.0)) => return Some(HalfSet::One),
            Some(Ok(2.0)) => return Some(HalfSet::Two),
            _ => self.bad_value(table, row, COLUMN, "1 or 2, or 0 in every row"),
        }
        None
    }

    fn image(&mut self, table: &Table, row: usize) -> Option<(usize, usize)> {
        let name = text(table, row, "rlnImageName")?;
        let particle = row + 1;
        let parts = name.split_once('@').and_then(|(number, stack)| {
            let number = number.parse::<usize>().ok()?;
            (!stack.is_empty()).then_some((number, stack))
        });
        let Some((number, stack)) = parts else {
            let value = name.to_owned();
            self.report(
                table.line(row),
                ProblemKind::BadImageName { particle, value },
            );
            return None;
        };
        let stack_index = self.stacks.index(stack, table.line(row))?;
        let image_count = self.stacks.found[stack_index].image_count;
        if number == 0 || number > image_count {
            let stack = stack.to_owned();
            let problem = ProblemKind::NoSuchImage {
                particle,
                number,
                stack,
                image_count,
            };
            self.report(table.line(row), problem);
            return None;
        }
        Some((stack_index, number - 1))
    }

    fn micrograph(&mut self, name: &str) -> usize {
        if let Some(index) = self.micrograph_indices.get(name) {
            return *index;
        }
        self.micrographs.push(name.to_owned());
        self.micrograph_indices
            .insert(name.to_owned(), self.micrographs.len() - 1);
        self.micrographs.len() - 1
    }

    fn note_owner(&mut self, table: &Table, row: usize, particle: usize, image: (usize, usize)) {
        let index = self.particles.len() - 1;
        let Some(&(first_index, first)) = self.owners.get(&image) else {
            self.owners.insert(image, (index, particle));
            return;
        };
        self.repeated_count += 1;
        let halves = [first_index, index].map(|index| self.particles[index].half_set);
        if let [Some(a), Some(b)] = halves
            && a != b
        {
            let image = text(table, row, "rlnImageName")
                .unwrap_or_default()
                .to_owned();
            let problem = ProblemKind::SharedByHalves {
                first,
                second: particle,
                image,
            };
            self.report(table.line(row), problem);
        }
    }

    fn report(&mut self, line: Option<u32>, kind: ProblemKind) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem {
                path: self.path.to_owned(),
                line,
                kind,
            });
        }
    }
}

/// What the particle table has of what need not be there.
struct Columns {
    pixel_size: Option<PixelSizeColumns>,
    has_pose: bool,
    shifts_are_px: bool,
    has_half_set: bool,
}

impl Columns {
    fn of(table: &Table) -> Self {
        let has = |column: &str| table.column(column).is_some();
        let is_zero =
            |row| text(table, row, "rlnRandomSubset").is_some_and(|value| !is_nonzero(value));
        Self {
            pixel_size: PixelSizeColumns::of(table),
            has_pose: ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
                .into_iter()
                .all(has),
            shifts_are_px: has("rlnOriginX") && !has("rlnOriginXAngst"),
            // RELION writes 0 in every row before it has split a set.
            has_half_set: has("rlnRandomSubset") && !(0..table.row_count()).all(is_zero),
        }
    }
}

fn particle_table(document: &Document) -> Option<(usize, std::borrow::Cow<'_, Table>)> {
    let tables = document
        .blocks
        .iter()
        .enumerate()
        .filter_map(|(at, block)| Some((at, block.table()?)));
    tables
        .into_iter()
        .find(|(_, table)| table.column("rlnImageName").is_some())
}

fn text<'t>(table: &'t Table, row: usize, column: &str) -> Option<&'t str> {
    table.column(column).map(|column| table.value(row, column))
}

fn is_nonzero(value: &str) -> bool {
    let numbers = value.trim_matches(['[', ']']).split(',');
    numbers
        .filter_map(|number| number.trim().parse::<f64>().ok())
        .any(|number| number != 0.0)
}
