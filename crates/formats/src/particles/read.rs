//! From STAR document to typed particles, gathering every problem on the way.

use std::collections::HashMap;
use std::path::Path;

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

/// Reads as much as can be read; fails only where there is no STAR file.
pub(crate) fn examine(path: &Path, project_dir: Option<&Path>) -> Result<Findings, ReadError> {
    let document = Document::read(path)?;
    let mut reader = Reader::new(path, project_dir);
    reader.read(&document);
    Ok(reader.finish(document))
}

const POSITIVE: &str = "a positive number";
const NUMBER: &str = "a number";
const GROUP: &str = "a whole number from 1";

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
        }
    }

    fn read(&mut self, document: &Document) {
        if let Some(label) = tomography_label(document) {
            return self.report(None, ProblemKind::Tomography { label });
        }
        let Some((block, table)) = particle_table(document) else {
            return self.report(None, ProblemKind::NoParticleTable);
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
            self.read_optics(&optics.unwrap_or_default());
        } else {
            required.extend(OPTICS_COLUMNS);
            if columns.pixel_size.is_none() {
                self.report(None, ProblemKind::NoPixelSize);
            }
        }
        if self.require(&table, &block_name, &required) {
            self.check_flags(&table);
            for row in 0..table.row_count() {
                self.read_particle(&table, &columns, row);
            }
        }
    }

    fn read_optics(&mut self, table: &Table) {
        self.check_flags(table);
        self.warn_of_aberrations(table);
        let mut required = vec!["rlnOpticsGroup"];
        required.extend(OPTICS_COLUMNS);
        let has_columns = self.require(table, "optics", &required);
        let pixel_size = PixelSizeColumns::of(table);
        if pixel_size.is_none() {
            self.report(None, ProblemKind::NoPixelSize);
        }
        let Some(pixel_size) = pixel_size.filter(|_| has_columns) else {
            return;
        };
        for row in 0..table.row_count() {
            let Some(number) = self.whole(table, row, "rlnOpticsGroup") else {
                continue;
            };
            let Some(mut group) = self.optics_of_row(table, row, &pixel_size) else {
                continue;
            };
            group.number = number;
            group.name = text(table, row, "rlnOpticsGroupName")
                .map_or_else(|| format!("opticsGroup{number}"), str::to_owned);
            if table.column("rlnImageSize").is_some() {
                group.box_size_px = self.whole(table, row, "rlnImageSize").unwrap_or(0) as usize;
            }
            if self.optics.iter().any(|known| known.number == number) {
                self.report(
                    table.line(row),
                    ProblemKind::RepeatedOpticsGroup { group: number },
                );
            } else {
                self.optics.push(group);
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

    fn optics_index(&mut self, table: &Table, columns: &Columns, row: usize) -> Option<usize> {
        if self.optics_block.is_none() {
            let group = self.optics_of_row(table, row, columns.pixel_size.as_ref()?)?;
            return Some(self.group_like(group));
        }
        let number = self.whole(table, row, "rlnOpticsGroup")?;
        let index = self.optics.iter().position(|group| group.number == number);
        if index.is_none() {
            let known: Vec<_> = self
                .optics
                .iter()
                .map(|group| group.number.to_string())
                .collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            self.report(
                table.line(row),
                ProblemKind::UnknownOpticsGroup {
                    particle: row + 1,
                    group: number,
                    known,
                },
            );
        }
        index
    }

    /// RELION 3.0 knows no groups: equal optics make one.
    fn group_like(&mut self, mut group: OpticsGroup) -> usize {
        let same = |known: &OpticsGroup| {
            let of = |g: &OpticsGroup| {
                [
                    g.voltage_kv,
                    g.spherical_aberration_mm,
                    g.amplitude_contrast,
                    g.pixel_size_angstrom,
                ]
            };
            of(known) == of(&group)
        };
        if let Some(index) = self.optics.iter().position(same) {
            return index;
        }
        group.number = self.optics.len() as u32 + 1;
        group.name = format!("opticsGroup{}", group.number);
        self.optics.push(group);
        self.optics.len() - 1
    }

    /// The optics in a row of either table; name and number are for the caller to fill in.
    fn optics_of_row(
        &mut self,
        table: &Table,
        row: usize,
        pixel_size: &PixelSizeColumns,
    ) -> Option<OpticsGroup> {
        let [voltage, aberration, contrast] = OPTICS_COLUMNS;
        let voltage_kv = self.positive(table, row, voltage);
        let spherical_aberration_mm = self.number(table, row, aberration);
        let amplitude_contrast = self.number(table, row, contrast);
        let pixel_size_angstrom = match *pixel_size {
            PixelSizeColumns::Direct(column) => self.positive(table, row, column),
            PixelSizeColumns::Detector => {
                let detector_um = self.positive(table, row, "rlnDetectorPixelSize");
                let magnification = self.positive(table, row, "rlnMagnification");
                detector_um
                    .zip(magnification)
                    .map(|(um, times)| 1e4 * um / times)
            }
        };
        Some(OpticsGroup {
            name: String::new(),
            number: 0,
            voltage_kv: voltage_kv?,
            spherical_aberration_mm: spherical_aberration_mm?,
            amplitude_contrast: amplitude_contrast?,
            pixel_size_angstrom: pixel_size_angstrom?,
            box_size_px: 0,
        })
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

    fn check_flags(&mut self, table: &Table) {
        for column in ["rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"] {
            let set = |row: &usize| text(table, *row, column).is_some_and(is_nonzero);
            if let Some(row) = (0..table.row_count()).find(set) {
                self.report(table.line(row), ProblemKind::CorrectedImages { column });
            }
        }
    }

    fn warn_of_aberrations(&mut self, table: &Table) {
        for column in [
            "rlnBeamTiltX",
            "rlnBeamTiltY",
            "rlnOddZernike",
            "rlnEvenZernike",
        ] {
            if (0..table.row_count()).any(|row| text(table, row, column).is_some_and(is_nonzero)) {
                self.warnings
                    .push(format!("{}: _{column} is ignored", self.path.display()));
            }
        }
    }

    /// Whether the columns are there; reports those that are not, together.
    fn require(&mut self, table: &Table, block: &str, columns: &[&'static str]) -> bool {
        let missing: Vec<_> = columns
            .iter()
            .copied()
            .filter(|column| table.column(column).is_none())
            .collect();
        if missing.is_empty() {
            return true;
        }
        let kind = ProblemKind::MissingColumns {
            block: block.to_owned(),
            columns: missing,
        };
        self.report(None, kind);
        false
    }

    fn number(&mut self, table: &Table, row: usize, column: &'static str) -> Option<f64> {
        self.checked(table, row, column, NUMBER, |_| true)
    }

    fn number_or(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
        otherwise: f64,
    ) -> Option<f64> {
        if table.column(column).is_none() {
            Some(otherwise)
        } else {
            self.number(table, row, column)
        }
    }

    fn positive(&mut self, table: &Table, row: usize, column: &'static str) -> Option<f64> {
        self.checked(table, row, column, POSITIVE, |number| number > 0.0)
    }

    /// Some programs write whole numbers as 1.000000.
    fn whole(&mut self, table: &Table, row: usize, column: &'static str) -> Option<u32> {
        let is_whole = |n: f64| n >= 1.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0;
        self.checked(table, row, column, GROUP, is_whole)
            .map(|number| number as u32)
    }

    fn checked(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
        expected: &'static str,
        accept: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        let number = text(table, row, column).and_then(|value| value.parse::<f64>().ok());
        let accepted = number.filter(|number| number.is_finite() && accept(*number));
        if accepted.is_none() {
            self.bad_value(table, row, column, expected);
        }
        accepted
    }

    fn bad_value(
        &mut self,
        table: &Table,
        row: usize,
        column: &'static str,
        expected: &'static str,
    ) {
        let value = text(table, row, column)
            .unwrap_or_default()
            .chars()
            .take(40)
            .collect();
        self.report(
            table.line(row),
            ProblemKind::BadValue {
                column,
                value,
                expected,
            },
        );
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

    fn finish(mut self, document: Document) -> Findings {
        self.gather_stack_problems();
        self.check_boxes();
        self.check_pixel_sizes();
        self.add_warnings();
        let box_size_px = self
            .stacks
            .found
            .first()
            .map_or(0, |stack| stack.size_px[0]);
        let pixel_size_angstrom = self
            .optics
            .first()
            .map_or(0.0, |group| group.pixel_size_angstrom);
        let set = ParticleSet {
            path: self.path.to_owned(),
            stacks: self.stacks.found,
            optics: self.optics,
            particles: self.particles,
            micrographs: self.micrographs,
            box_size_px,
            pixel_size_angstrom,
            warnings: self.warnings,
            document,
            particle_block: self.particle_block,
            optics_block: self.optics_block,
        };
        Findings {
            set,
            problems: self.problems,
        }
    }

    fn gather_stack_problems(&mut self) {
        if let Some(missing) = self.stacks.missing() {
            self.report(None, missing);
        }
        for (line, problem) in std::mem::take(&mut self.stacks.problems) {
            self.report(line, problem);
        }
    }

    fn check_boxes(&mut self) {
        let Some(first) = self.stacks.found.first() else {
            return;
        };
        let (found_px, stack) = (first.size_px[0], first.name.clone());
        for index in 0..self.optics.len() {
            let group = &mut self.optics[index];
            if group.box_size_px == 0 {
                group.box_size_px = found_px;
            }
            let (expected_px, number) = (group.box_size_px, group.number);
            let is_used = self
                .particles
                .iter()
                .any(|particle| particle.optics_index == index);
            if is_used && expected_px != found_px {
                let reference = format!("_rlnImageSize of optics group {number}");
                let stack = stack.clone();
                self.report(
                    None,
                    ProblemKind::BoxSizesDiffer {
                        stack,
                        found_px,
                        expected_px,
                        reference,
                    },
                );
            }
        }
    }

    fn check_pixel_sizes(&mut self) {
        let Some((first, others)) = self.optics.split_first() else {
            return;
        };
        let expected_angstrom = first.pixel_size_angstrom;
        let differing = others
            .iter()
            .find(|group| differ(group.pixel_size_angstrom, expected_angstrom));
        if let Some(group) = differing {
            let kind = ProblemKind::PixelSizesDiffer {
                group: group.number,
                found_angstrom: group.pixel_size_angstrom,
                expected_angstrom,
                first: first.number,
            };
            self.report(None, kind);
        }
    }

    fn add_warnings(&mut self) {
        let path = self.path.display().to_string();
        if self.repeated_count > 0 {
            self.warnings.push(format!(
                "{path}: {} images appear more than once",
                self.repeated_count
            ));
        }
        let implausible = |p: &&Particle| p.ctf.defocus_u_angstrom.abs() < 100.0;
        let count = self.particles.iter().filter(implausible).count();
        if count > 0 {
            self.warnings.push(format!(
                "{path}: {count} particles have a defocus below 100 A (is it in another unit?)"
            ));
        }
        if let Some(group) = self.optics.first() {
            let ours = group.pixel_size_angstrom;
            for (stack, theirs) in self
                .stacks
                .found
                .iter()
                .zip(&self.stacks.header_pixel_sizes)
            {
                // 1 A is what RELION and others write when they do not know.
                if let Some(theirs) = theirs.map(f64::from).filter(|size| *size != 1.0)
                    && (theirs / ours - 1.0).abs() > 0.01
                {
                    self.warnings.push(format!(
                        "{}: the header has a pixel size of {theirs:.4} A, {path} has {ours:.4} A, which counts",
                        stack.path.display()
                    ));
                }
            }
        }
        self.warnings.append(&mut self.stacks.warnings);
    }
}

const OPTICS_COLUMNS: [&str; 3] = [
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
];

/// Which columns hold a table's pixel size.
enum PixelSizeColumns {
    Direct(&'static str),
    Detector,
}

impl PixelSizeColumns {
    fn of(table: &Table) -> Option<Self> {
        let has = |column: &str| table.column(column).is_some();
        for column in ["rlnImagePixelSize", "rlnPixelSize"] {
            if has(column) {
                return Some(Self::Direct(column));
            }
        }
        (has("rlnDetectorPixelSize") && has("rlnMagnification")).then_some(Self::Detector)
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

fn tomography_label(document: &Document) -> Option<String> {
    document
        .blocks
        .iter()
        .filter_map(|block| block.table())
        .find_map(|table| {
            table
                .labels()
                .iter()
                .find(|label| label.starts_with("rlnTomo"))
                .cloned()
        })
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

/// Whether two pixel sizes are more apart than rounding in a file explains.
fn differ(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() > 1e-3
}
