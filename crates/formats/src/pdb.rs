//! Atoms of a PDB file: where they are, what they are, how blurred.
//!
//! Only ATOM and HETATM lines of the first model count, and of alternative locations the first.
//! A structure library would bring residues, bonds and strictness that a simulated density has no
//! use for; the columns below are the format's own (wwPDB, version 3.3).

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// One atom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Atom {
    /// The element's number in the periodic table.
    pub atomic_number: u8,
    /// x, y, z.
    pub position_angstrom: [f32; 3],
    /// The fraction of molecules that have it there; 1 if the file does not say.
    pub occupancy: f32,
    /// The temperature factor, in Å²; 0 if the file does not say.
    pub b_factor: f32,
}

/// A PDB file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PdbError {
    /// The operating system or the decompression refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What they said.
        #[source]
        source: std::io::Error,
    },
    /// A line with an atom cannot be understood.
    #[error("{}:{line}: an atom's {field} is {value:?}; expected {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Which part of the line.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// There is no atom in it.
    #[error("{}: no ATOM or HETATM line; expected a PDB file with atoms", path.display())]
    NoAtoms {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a PDB file's atoms, hydrogens too; gzip is unpacked (told by content).
pub fn read_atoms(path: &Path) -> Result<Vec<Atom>, PdbError> {
    let read = |source| PdbError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = std::fs::read(path).map_err(read)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(&bytes[..])
            .take(UNPACKED_BYTES_MAX)
            .read_to_end(&mut unpacked)
            .map_err(read)?;
        bytes = unpacked;
    }
    parse_atoms(&bytes, path)
}

/// The PDB format ends at 99,999 atoms a model; hundreds of megabytes are no PDB file.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// Takes a PDB file's text apart; `path` serves messages only.
pub fn parse_atoms(text: &[u8], path: &Path) -> Result<Vec<Atom>, PdbError> {
    let mut atoms = Vec::new();
    // Which alternative location counts, by residue and atom name (columns 13-16 and 18-27).
    let mut chosen: HashMap<(Vec<u8>, Vec<u8>), u8> = HashMap::new();
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        if line.starts_with(b"ENDMDL") {
            break;
        }
        if !line.starts_with(b"ATOM  ") && !line.starts_with(b"HETATM") {
            continue;
        }
        let alternative = line.get(16).copied().unwrap_or(b' ');
        if alternative != b' ' {
            let key = (
                columns(line, 12, 16).to_vec(),
                columns(line, 17, 27).to_vec(),
            );
            if *chosen.entry(key).or_insert(alternative) != alternative {
                continue;
            }
        }
        atoms.push(
            Line {
                columns: line,
                number,
                path,
            }
            .atom()?,
        );
    }
    if atoms.is_empty() {
        return Err(PdbError::NoAtoms {
            path: path.to_owned(),
        });
    }
    Ok(atoms)
}

/// Columns `from..to`, counted from 0, as far as the line goes.
fn columns(line: &[u8], from: usize, to: usize) -> &[u8] {
    let to = to.min(line.len());
    line.get(from..to).unwrap_or_default().trim_ascii()
}

struct Line<'a> {
    columns: &'a [u8],
    number: usize,
    path: &'a Path,
}

impl Line<'_> {
    fn atom(&self) -> Result<Atom, PdbError> {
        Ok(Atom {
            atomic_number: self.element()?,
            position_angstrom: [
                self.float(30, 38, "x", None)?,
                self.float(38, 46, "y", None)?,
                self.float(46, 54, "z", None)?,
            ],
            occupancy: self.float(54, 60, "occupancy", Some(1.0))?,
            b_factor: self.float(60, 66, "B-factor", Some(0.0))?,
        })
    }

    fn float(
        &self,
        from: usize,
        to: usize,
        field: &'static str,
        if_blank: Option<f32>,
    ) -> Result<f32, PdbError> {
        let found = columns(self.columns, from, to);
        if found.is_empty()
            && let Some(value) = if_blank
        {
            return Ok(value);
        }
        let number = std::str::from_utf8(found)
            .ok()
            .and_then(|text| text.parse::<f32>().ok());
        number
            .filter(|number| number.is_finite())
            .ok_or_else(|| self.error(field, found, "a number"))
    }

    /// The element's own columns; in files without them the atom's name, whose first two columns
    /// hold the element right-aligned ("CA  " is calcium, " CA " a carbon).
    fn element(&self) -> Result<u8, PdbError> {
        let (own, name) = (columns(self.columns, 76, 78), columns(self.columns, 12, 16));
        if let Some(number) = atomic_number(own) {
            return Ok(number);
        }
        let start = columns(self.columns, 12, 14);
        let start = start.trim_ascii_start();
        let without_digits = match start {
            [digit, rest @ ..] if digit.is_ascii_digit() => rest,
            other => other,
        };
        // Four-letter names of hydrogens, such as HG11, begin a column early.
        let is_long_hydrogen = name.len() == 4 && matches!(name[0], b'H' | b'D');
        let found = if is_long_hydrogen {
            &without_digits[..1]
        } else {
            without_digits
        };
        atomic_number(found).ok_or_else(|| self.error("element", name, "a chemical element"))
    }

    fn error(&self, field: &'static str, found: &[u8], expected: &'static str) -> PdbError {
        PdbError::Field {
            path: self.path.to_owned(),
            line: self.number,
            field,
            value: String::from_utf8_lossy(found).into_owned(),
            expected,
        }
    }
}

/// The number of an element's symbol in any case; deuterium is hydrogen.
fn atomic_number(symbol: &[u8]) -> Option<u8> {
    if symbol.eq_ignore_ascii_case(b"D") {
        return Some(1);
    }
    let matches = |known: &&str| known.as_bytes().eq_ignore_ascii_case(symbol);
    let index = SYMBOLS
        .split_ascii_whitespace()
        .position(|known| matches(&known))?;
    u8::try_from(index + 1).ok()
}

/// In the order of the periodic table, as far as elements last long enough to be in a model.
const SYMBOLS: &str = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni \
    Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd \
    Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U \
    Np Pu Am Cm";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Atom>, PdbError> {
        parse_atoms(text.as_bytes(), Path::new("a.pdb"))
    }

    const CARBON: &str =
        "ATOM      2  CA  GLU Y   2      92.540 120.824 -33.606  0.50136.55           C  ";

    #[test]
    fn an_atom_is_read_by_columns() {
        let expected = Atom {
            atomic_number: 6,
            position_angstrom: [92.54, 120.824, -33.606],
            occupancy: 0.5,
            b_factor: 136.55,
        };
        assert_eq!(parse(CARBON).unwrap(), [expected]);
        // Old files end after the coordinates.
        let short = Atom {
            occupancy: 1.0,
            b_factor: 0.0,
            ..expected
        };
        assert_eq!(parse(&CARBON[..54]).unwrap(), [short]);
    }

    #[test]
    fn elements_come_from_the_name_where_their_columns_are_blank() {
        let cases = [
            (" CA ", 6),
            ("CA  ", 20),
            ("1HB ", 1),
            ("HG11", 1),
            (" P  ", 15),
            ("ZN  ", 30),
        ];
        for (name, expected) in cases {
            let line = format!("HETATM    2 {name}{}", &CARBON[16..66]);
            assert_eq!(parse(&line).unwrap()[0].atomic_number, expected, "{name}");
        }
    }

    #[test]
    fn the_first_model_and_the_first_alternative_count() {
        let alternative = |letter: char| format!("{}{letter}{}", &CARBON[..16], &CARBON[17..]);
        let text = format!(
            "{}\n{}\nENDMDL\nMODEL 2\n{CARBON}\nENDMDL\n",
            alternative('B'),
            alternative('A')
        );
        assert_eq!(parse(&text).unwrap().len(), 1);
    }

    #[test]
    fn bad_files_are_refused_by_line() {
        let bad_x = CARBON.replace("92.540", "9a.540");
        let bad_element = format!("ATOM      2  ?? {}", &CARBON[16..66]);
        let cases = [
            (
                String::new(),
                "a.pdb: no ATOM or HETATM line; expected a PDB file with atoms",
            ),
            (
                bad_x,
                "a.pdb:1: an atom's x is \"9a.540\"; expected a number",
            ),
            (
                "\nATOM  ".to_owned(),
                "a.pdb:2: an atom's element is \"\"; expected a chemical element",
            ),
            (
                bad_element,
                "a.pdb:1: an atom's element is \"??\"; expected a chemical element",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(&text).unwrap_err().to_string(), expected);
        }
    }
}
