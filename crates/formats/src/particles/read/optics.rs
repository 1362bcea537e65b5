//! Optics groups: read from their table, or gathered from the particles of RELION 3.0.

use super::{Columns, Reader, is_nonzero, text};
use crate::particles::{Applied, OpticsGroup, ProblemKind};
use crate::star::Table;

pub(super) const OPTICS_COLUMNS: [&str; 3] = [
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
];

impl Reader<'_> {
    pub(super) fn read_optics(&mut self, table: &Table) {
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

    pub(super) fn optics_index(
        &mut self,
        table: &Table,
        columns: &Columns,
        row: usize,
    ) -> Option<usize> {
        if self.optics_block.is_none() {
            let group = self.optics_of_row(table, row, columns.pixel_size.as_ref()?)?;
            return Some(self.group_like(group));
        }
        let number = self.whole(table, row, "rlnOpticsGroup")?;
        let index = self.optics.iter().position(|group| group.number == number);
        if index.is_none() && !self.optics_failed {
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
    pub(super) fn group_like(&mut self, mut group: OpticsGroup) -> usize {
        let same = |known: &OpticsGroup| {
            let unnamed = OpticsGroup {
                name: String::new(),
                number: 0,
                ..known.clone()
            };
            unnamed == group
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
    pub(super) fn optics_of_row(
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
        let [tilt_x, tilt_y] = BEAM_TILT.map(|column| self.number_or(table, row, column, 0.0));
        let magnification = self.magnification(table, row);
        let [odd, even] = ZERNIKE;
        let odd_zernike = self.vector(table, row, odd);
        let even_zernike = self.vector(table, row, even);
        let applied = self.applied(table, row);
        Some(OpticsGroup {
            name: String::new(),
            number: 0,
            beam_tilt_mrad: [tilt_x?, tilt_y?],
            magnification: magnification?,
            odd_zernike: odd_zernike?,
            even_zernike: even_zernike?,
            applied: applied?,
            voltage_kv: voltage_kv?,
            spherical_aberration_mm: spherical_aberration_mm?,
            amplitude_contrast: amplitude_contrast?,
            pixel_size_angstrom: pixel_size_angstrom?,
            box_size_px: 0,
        })
    }

    /// The matrix, if it is not the identity; the outer option is for numbers that are none.
    fn magnification(&mut self, table: &Table, row: usize) -> Option<Option<[[f64; 2]; 2]>> {
        let columns = MAGNIFICATION.map(|column| {
            let identity = if column.ends_with("00") || column.ends_with("11") {
                1.0
            } else {
                0.0
            };
            self.number_or(table, row, column, identity)
        });
        let [m00, m01, m10, m11] = columns;
        let matrix = [[m00?, m01?], [m10?, m11?]];
        Some((matrix != [[1.0, 0.0], [0.0, 1.0]]).then_some(matrix))
    }

    fn applied(&mut self, table: &Table, row: usize) -> Option<Applied> {
        let [whole, phases] =
            CORRECTED.map(|column| text(table, row, column).is_some_and(is_nonzero));
        if whole && phases {
            self.report(table.line(row), ProblemKind::CorrectedTwice);
            return None;
        }
        Some(match (whole, phases) {
            (true, _) => Applied::Whole,
            (_, true) => Applied::Phases,
            _ => Applied::Nothing,
        })
    }

    /// What belongs to optics stands in their table, where there is one.
    pub(super) fn check_misplaced(&mut self, table: &Table) {
        let tilt = BEAM_TILT.into_iter().chain(MAGNIFICATION);
        for column in CORRECTED.into_iter().chain(tilt).chain(ZERNIKE) {
            let set = |row: &usize| text(table, *row, column).is_some_and(is_nonzero);
            if let Some(row) = (0..table.row_count()).find(set) {
                self.report(table.line(row), ProblemKind::MisplacedOptics { column });
            }
        }
    }
}

pub(in crate::particles) const CORRECTED: [&str; 2] =
    ["rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"];

pub(in crate::particles) const BEAM_TILT: [&str; 2] = ["rlnBeamTiltX", "rlnBeamTiltY"];

pub(in crate::particles) const MAGNIFICATION: [&str; 4] =
    ["rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11"];

pub(in crate::particles) const ZERNIKE: [&str; 2] = ["rlnOddZernike", "rlnEvenZernike"];

/// Which columns hold a table's pixel size.
pub(super) enum PixelSizeColumns {
    Direct(&'static str),
    Detector,
}

impl PixelSizeColumns {
    pub(super) fn of(table: &Table) -> Option<Self> {
        let has = |column: &str| table.column(column).is_some();
        for column in ["rlnImagePixelSize", "rlnPixelSize"] {
            if has(column) {
                return Some(Self::Direct(column));
            }
        }
        (has("rlnDetectorPixelSize") && has("rlnMagnification")).then_some(Self::Detector)
    }
}
